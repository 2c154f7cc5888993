"""Skips, as a plugin of pytest: a test that cannot run is reported by name and reason.

A test is never deselected for what the machine lacks. With `CI=true` a skipped test fails the run,
unless a line of `NRI_INJECT_MAY_SKIP` is its name; `.ci/run` sets both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[2] / ".cache" / "bin"
"""Where `make .cache/bin/NAME` puts programs."""


def find_program(name: str) -> str | None:
    """Return the path of a program, on PATH or built by us."""
    return shutil.which(name, path=f"{BUILT}:{os.environ.get('PATH', os.defpath)}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers by which a test says what it needs."""
    config.addinivalue_line("markers", "program(name): needs a program on PATH or in .cache/bin")
    config.addinivalue_line("markers", "min_cpus(number): needs so many CPUs, or more")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip each test whose markers require something that this machine lacks."""
    for item in items:
        for reason in _lacking(item):
            item.add_marker(pytest.mark.skip(reason=reason))


def _lacking(item: pytest.Item) -> Iterator[str]:
    programs = [mark.args[0] for mark in item.iter_markers("program")]
    for program in programs:
        if find_program(program) is None:
            yield f"needs the program {program}, which is neither on PATH nor in .cache/bin"
    needed = max((mark.args[0] for mark in item.iter_markers("min_cpus")), default=0)
    present = os.cpu_count() or 1
    if present < needed:
        yield f"needs {needed} CPUs, and this machine has {present}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests whose skip fails the run."""
    if refused := _refused(terminalreporter):
        terminalreporter.section("skipped, which fails in CI", red=True)
        for nodeid in refused:
            terminalreporter.write_line(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run in CI for each skip that is not permitted."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    if passed and reporter and _refused(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _refused(reporter: pytest.TerminalReporter) -> list[str]:
    if os.environ.get("CI") != "true":
        return []
    permitted = os.environ.get("NRI_INJECT_MAY_SKIP", "").splitlines()
    skipped = [report.nodeid for report in reporter.stats.get("skipped", [])]
    return sorted({*skipped} - {*permitted})

"""What holds for all tests: in CI nothing may be skipped, since nobody reads why it was."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator

import pytest
from children import children


@pytest.fixture(autouse=True)
def unchanged_log() -> Iterator[None]:
    """Undo what a test that runs a whole command did to the process's log."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    """Look for processes that a test left behind."""
    before = children()
    yield
    assert children() == before


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs something that we do not ship and this machine does not have."""
    left_out = [item for item in items if _lacks_something(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _lacks_something(item: pytest.Item) -> bool:
    if item.get_closest_marker("go") and shutil.which("go") is None:
        return True
    if any(shutil.which(mark.args[0]) is None for mark in item.iter_markers("program")):
        return True
    return any(os.cpu_count() != mark.args[0] for mark in item.iter_markers("cpus"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if reporter and skipped and os.environ.get("CI") == "true":
        reporter.write_line(f"{len(skipped)} tests were skipped; in CI that is a failure", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

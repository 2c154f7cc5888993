"""The quick tests, as a plugin of pytest: `--quick` runs all tests that are not marked slow.

A slow test starts a process, waits for the clock, or takes more than a quarter of a second. A test
that needs a program or a real runtime is slow without the mark. With `--quick` any other test that
starts a process fails.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest

STARTS = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--quick", action="store_true", help="leave out the tests that are marked slow"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse processes."""
    config.addinivalue_line("markers", "slow: starts a process, waits, or takes more than 0.25 s")
    if config.option.quick:
        sys.addaudithook(_refuse_processes)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out."""
    if not config.option.quick:
        return
    slow = [item for item in items if _is_slow(item)]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if not _is_slow(item)]


def _is_slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) for mark in ("slow", "program", "e2e"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the garbage collector away from the thousands of tests that stay until the end."""
    if session.config.option.quick:
        gc.collect()
        gc.freeze()


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if event in STARTS and "PYTEST_CURRENT_TEST" in os.environ:
        pytest.fail(f"starts a process ({event} {arguments[0]!r}): mark the test slow")

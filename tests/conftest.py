"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import properties  # noqa: F401 (registers the profile of hypothesis)
from support.children import children
from support.trying import attempt  # noqa: F401 (a fixture)
from support.worlds import new_runtime  # noqa: F401 (a fixture)

pytest_plugins = ["support.skips", "support.quick", "pytester"]


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


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory that only we can write, and nobody can lead elsewhere."""
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    return place

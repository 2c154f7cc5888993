from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stubs import Heard


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, log = Heard(), logging.getLogger("nri_inject.stub")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a runtime's socket."""
    return tmp_path / "nri.sock"

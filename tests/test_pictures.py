"""The drawings of the documentation are current."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[1] / "docs/pictures"


@pytest.mark.parametrize(
    "name", ["rooms", "request", pytest.param("recording", marks=pytest.mark.slow)]
)
def test_a_drawing_is_what_its_script_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PICTURES)
    drawn = runpy.run_path(str(PICTURES / f"{name}.py"))["picture"]()
    assert (PICTURES / f"{name}.svg").read_text() == drawn

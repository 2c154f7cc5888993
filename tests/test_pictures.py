"""The drawings of the documentation are current."""

from __future__ import annotations

import runpy
from pathlib import Path

PICTURES = Path(__file__).parents[1] / "docs/pictures"


def test_the_drawing_of_the_rooms_is_current() -> None:
    drawn = runpy.run_path(str(PICTURES / "rooms.py"))["picture"]()
    assert (PICTURES / "rooms.svg").read_text() == drawn

"""Draw the rooms of nri_inject: `python docs/pictures/rooms.py` writes rooms.svg beside this file.

The rows are the layers of the import contract in pyproject.toml, and each room's words are the
first sentence of its docstring. So the picture shows the directions that `make lint` checks.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from drawing import arrow, box, document, lines_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WIDTH, GAP, MARGIN = 960, 16, 10


def layers() -> list[list[str]]:
    """Return the names of the rooms, row by row from the top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = settings["tool"]["importlinter"]["contracts"][0]
    return [
        [room.strip().removeprefix("nri_inject.") for room in row.replace("|", ":").split(":")]
        for row in contract["layers"]
    ]


def words(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    package = ROOT / "nri_inject" / room
    module = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    text = ast.get_docstring(ast.parse(module.read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")


def picture() -> str:
    """Return the drawing."""
    parts: list[str] = []
    top = MARGIN
    for row in layers():
        width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        tall = 36 + 16 * max(len(lines_of(words(room), width)) for room in row)
        if parts:
            parts += arrow(f"M{WIDTH // 2} {top - GAP}V{top - 2}")
        for place, room in enumerate(row):
            parts += box(MARGIN + place * (width + GAP), top, width, tall, room, words(room))
        top += tall + GAP
    height = top - GAP + MARGIN
    label = "The rooms of nri_inject: each row imports from the rows below it"
    return document(WIDTH, height, label, parts)


if __name__ == "__main__":
    (HERE / "rooms.svg").write_text(picture())

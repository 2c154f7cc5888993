"""Draw the rooms of nri_inject: `python docs/pictures/rooms.py` writes rooms.svg beside this file.

The rows are the layers of the import contract in pyproject.toml, and each room's words are the
first sentence of its docstring. So the picture shows the directions that `make lint` checks.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WIDTH, ROW, GAP, MARGIN = 960, 76, 14, 20
STYLE = (
    "text{font-family:sans-serif;fill:#1f2937}.name{font-size:15px;font-weight:bold}"
    ".words{font-size:11.5px}rect{fill:#eef2ff;stroke:#6366f1;rx:6}"
    "path{stroke:#6b7280;fill:none;marker-end:url(#tip)}"
)


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
    rows = layers()
    height = MARGIN * 2 + len(rows) * (ROW + GAP) - GAP
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            ' aria-label="The rooms of nri_inject: each row imports from the rows below it">'
        ),
        f"<style>{STYLE}</style>",
        '<rect x="0" y="0" width="100%" height="100%" style="fill:#fff;stroke:none"/>',
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8" style="marker-end:none"/>'
            "</marker></defs>"
        ),
    ]
    for number, row in enumerate(rows):
        top = MARGIN + number * (ROW + GAP)
        parts += box_row(row, top)
        if number:
            parts.append(f'<path d="M{WIDTH // 2} {top - GAP}V{top - 2}"/>')
    return "\n".join([*parts, "</svg>", ""])


def box_row(row: list[str], top: int) -> list[str]:
    """Return the boxes of one layer."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
    parts: list[str] = []
    for number, room in enumerate(row):
        left = MARGIN + number * (width + GAP)
        parts.append(f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{ROW}"/>')
        parts.append(f'<text class="name" x="{left + 10:.0f}" y="{top + 20}">{room}</text>')
        for line, text in enumerate(wrapped(words(room), int((width - 20) / 6.2))[:3]):
            place = f'x="{left + 10:.0f}" y="{top + 37 + 14 * line}"'
            parts.append(f'<text class="words" {place}>{escape(text)}</text>')
    return parts


def wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most so many characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


if __name__ == "__main__":
    (HERE / "rooms.svg").write_text(picture())

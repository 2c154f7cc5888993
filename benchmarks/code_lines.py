"""Count the lines of code of nri_inject: no blank lines, comments, docstrings, generated code.

    python benchmarks/code_lines.py [package]

A line counts if something of a statement that is no docstring stands in it.
"""

from __future__ import annotations

import ast
import sys
import tokenize
from collections import Counter
from pathlib import Path

GENERATED = "_pb"
_LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """Count a module's lines of code."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in _LAYOUT]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        # A text that is a statement by itself does nothing: it documents what is around it.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return len(lines)


def count(package: Path) -> Counter[str]:
    """Count the lines of each room of a package, and of the modules beside the rooms."""
    rooms: Counter[str] = Counter()
    for path in package.rglob("*.py"):
        place = path.relative_to(package).parts
        if place[0] != GENERATED:
            rooms[place[0] if len(place) > 1 else "(modules)"] += code_lines(path)
    return rooms


def main() -> None:
    """Print the count of each room, and their sum."""
    here = Path(__file__).parents[1] / "nri_inject"
    rooms = count(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
    for room, lines in sorted(rooms.items()):
        print(f"{lines:6,} {room}")
    print(f"{sum(rooms.values()):6,} together")


if __name__ == "__main__":
    main()

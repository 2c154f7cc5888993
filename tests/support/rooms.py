"""Print how many of its lines the tests ran of each package, from coverage's JSON report."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path, PurePath


def room(file: str) -> str:
    """Return the package of a module, and for a module beside the packages itself."""
    path = PurePath(file)
    return str(path.parent if len(path.parts) > 2 else path)


def main(report: str) -> None:
    """Print a line for each package."""
    ran: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for file, found in json.loads(Path(report).read_text())["files"].items():
        ran[room(file)] += found["summary"]["covered_lines"]
        lines[room(file)] += found["summary"]["num_statements"]
    for name in sorted(lines):
        share = ran[name] / lines[name] if lines[name] else 1
        print(f"{name:45} {ran[name]:6} of {lines[name]:6} lines {share:5.0%}")


if __name__ == "__main__":
    main(sys.argv[1])

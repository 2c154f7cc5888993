"""The project's programs by name: its table of console scripts, and which of them is meant.

A self-contained build has one executable, and links to it under the other programs' names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, distribution
from pathlib import PurePath
from typing import Final

SUITE: Final = "nri-inject"
_MOST_LINKS: Final = 40  # as Linux: MAXSYMLINKS


def programs() -> Mapping[str, EntryPoint]:
    """Return the console scripts of this distribution by name."""
    return {
        entry.name: entry
        for entry in distribution("nri-inject").entry_points
        if entry.group == "console_scripts"
    }


def named(path: str, known: Mapping[str, EntryPoint]) -> str:
    """Return which program a path calls: by its name, or by the name of what it is a link to.

    A runtime's plugin directory has `NN-name`; both `10-device-injector` and
    `10-nri-device-injector` call `nri-device-injector`. What calls none of them calls the suite.
    """
    for name in _names(path):
        base = name[3:] if name[:2].isdigit() and name[2:3] == "-" else name
        for program in (base, f"nri-{base}"):
            if program in known:
                return program
    return SUITE


def _names(path: str) -> Iterator[str]:
    """Yield the last part of a path, and of what it links to, link by link."""
    for _ in range(_MOST_LINKS):
        yield PurePath(path).name
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120 - the exact text
        except OSError:  # no link, or nothing there
            return

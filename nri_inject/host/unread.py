"""Files of a directory that no program reads there, because of how they are called.

CDI reads `*.json` and `*.yaml` (specification 1.1.0, "CDI JSON and YAML files"), podman's hook
library reads `*.json`; both of the directory alone and not of the ones below it. A file of another
name is passed over, and nobody learns of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from nri_inject.text.words import plain, quoted


def unread_name(name: str, endings: Sequence[str]) -> str:
    """Say why a file of this name is not read; empty text if it is."""
    if name.endswith(tuple(endings)):
        return ""
    ending = PurePath(name).suffix
    own = f"its name ends in {quoted(ending)}" if ending else "its name has no ending"
    return f"{own}, and only files that end in {' or '.join(endings)} are read"


def unread(directory: str, endings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the files of a directory that are not read, and why; nothing if it cannot be listed.

    A directory in it counts if a file in it would be read one level above.
    """
    try:
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except (OSError, ValueError):
        return
    for entry in found:
        path = f"{directory.rstrip('/')}/{entry.name}"
        if not entry.is_dir():
            if why := unread_name(entry.name, endings):
                yield path, f"is not read: {why}"
        elif inside := _first_inside(path, endings):
            yield path, f"is a directory, so {plain(inside)} in it is not read"


def _first_inside(directory: str, endings: Sequence[str]) -> str:
    try:
        names = sorted(os.listdir(directory), key=os.fsencode)
    except OSError:
        return ""
    return next((name for name in names if name.endswith(tuple(endings))), "")

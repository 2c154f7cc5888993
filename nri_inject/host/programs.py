"""Programs of the host that a hook names: whether they would run."""

from __future__ import annotations

import stat

from nri_inject.host import walk
from nri_inject.text.words import plain


def program_warning(path: str, *, root: str = "/") -> str | None:
    """Say why a program that is there would not run."""
    try:
        *_, end = walk.steps(path, root)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(end.status.st_mode):
        return f"program {plain(path)} is not a regular file"
    if not end.status.st_mode & 0o111:
        return f"program {plain(path)} is not executable"
    return None

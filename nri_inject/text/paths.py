"""Paths as texts; no file is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nri_inject.text.names import REMOVES

RELATIVE: Final = "is not an absolute path"
"""Why a path cannot be used, after the path in a sentence."""


def clean(path: str) -> str:
    """Return a path in the one form that names its place, without doubled slashes and `.`.

    Each `..` takes away the part before it. The result is absolute and ends in no slash.
    """
    if path.startswith("/") and not path.endswith("/") and "//" not in path and "/." not in path:
        return path  # as nearly all are
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def above(path: str) -> Iterator[str]:
    """Yield a clean path and every directory above it."""
    yield path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def is_below(path: str, directory: str) -> bool:
    """Tell whether a path is a directory or something in it; both are clean and absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def container_path_fault(path: str) -> str:
    """Return why a device or mount cannot be at this path of a container, or ""."""
    if path.startswith("-"):
        return REMOVES
    if not path.startswith("/"):
        return RELATIVE
    if ".." in path.split("/"):
        return "contains '..'"
    return "is the root directory" if clean(path) == "/" else ""

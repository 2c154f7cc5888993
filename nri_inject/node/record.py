"""The record of what was installed on a node, and the removal of a thing that it lists."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from nri_inject.errors import ConfigError
from nri_inject.node import files

RECORD: Final = "/var/lib/nri-inject/installed.json"
UNITS: Final = "/etc/systemd/system"


@dataclass(frozen=True, slots=True)
class InstalledPath:
    """A thing that was installed; `mark` tells whether it is still as we made it.

    It is a file's SHA-256, a link's target, and empty for folders and directories. Of `logs`, a
    directory, only a purge removes what is in it.
    """

    kind: Literal["directory", "tree", "file", "link", "logs"]
    path: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class PathChange:
    """What becomes of one path, for people: `what`, and the path as the host sees it."""

    what: str
    path: str


def recorded(root: str) -> list[InstalledPath]:
    """Return what has been installed; ConfigError if the record cannot be read."""
    try:
        document = json.loads(files.read(root, RECORD))
        return [InstalledPath(**entry) for entry in document["installed"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{RECORD} is damaged: {error}") from error


def record(root: str, entries: Iterable[InstalledPath]) -> None:
    """Write the record anew."""
    where = files.resolve_parent(root, RECORD)
    files.make_directory(where.parent)
    document = {"version": 1, "installed": [asdict(entry) for entry in entries]}
    files.write(where, json.dumps(document, indent=1).encode() + b"\n", 0o644)


def is_unchanged(root: str, entry: InstalledPath) -> bool:
    """Tell whether a thing is as it was made."""
    where = files.resolve_parent(root, entry.path)
    if entry.kind == "logs":
        return where.is_dir() and not any(where.iterdir())
    return entry.kind == "tree" or mark_of(where) == entry.mark


def remove(root: str, entry: InstalledPath) -> None:
    """Remove a thing; of a unit also the link by which systemd starts it."""
    where = files.resolve_parent(root, entry.path)
    if entry.kind in ("tree", "logs"):
        shutil.rmtree(where)
        return
    where.unlink()
    if entry.path.startswith(UNITS):
        wanted = files.resolve_parent(root, f"{UNITS}/multi-user.target.wants/{where.name}")
        if wanted.is_symlink():
            wanted.unlink()


def mark_of(where: Path) -> str:
    """Return the mark of a thing as it is now; empty text for one that cannot be read."""
    return str(where.readlink()) if where.is_symlink() else digest_of(where)


def digest_of(where: Path) -> str:
    """Return a file's digest; empty text if it cannot be read."""
    with suppress(OSError):
        return hashlib.sha256(where.read_bytes()).hexdigest()
    return ""


def digest(text: str) -> str:
    """Return the digest of a file with this content."""
    return hashlib.sha256(text.encode()).hexdigest()


def exists(root: str, entry: InstalledPath) -> bool:
    """Tell whether a thing is there, be it a link to nothing."""
    return os.path.lexists(files.resolve_parent(root, entry.path))

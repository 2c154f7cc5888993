"""The files of a host whose file tree is below some root: read with bounds, written as one step."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from nri_inject.errors import ConfigError
from nri_inject.host.walk import MAX_LINKS

MAX_BYTES: Final = 1 << 20
"""A configuration that is longer is none."""


def resolve(root: str, path: str) -> Path:
    """Return where a host's path is for this process, its links followed inside of the root.

    A missing path is placed where it would be created. ConfigError for a loop of links.
    """
    root = root.rstrip("/")
    at, links = "", 0
    pending = path.split("/")[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        try:
            target = os.readlink(f"{root}{at}/{name}")  # the exact text
        except OSError:  # no link, or nothing there
            at = f"{at}/{name}"
            continue
        links += 1
        if links > MAX_LINKS:
            raise ConfigError(f"{path} leads through too many links")
        if target.startswith("/"):
            at = ""
        pending += target.split("/")[::-1]
    return Path(f"{root}{at}" or "/")


def resolve_parent(root: str, path: str) -> Path:
    """Return where a host's path is for us, its last part not followed if it is a link."""
    pure = PurePosixPath(path)
    return resolve(root, str(pure.parent)) / pure.name


def read(root: str, path: str) -> bytes:
    """Return a host's file; ConfigError if that fails, FileNotFoundError if there is none."""
    try:
        descriptor = os.open(resolve(root, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{path} is not a regular file")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES} bytes")
    return data


def make_directory(where: Path, mode: int = 0o755) -> None:
    """Make a directory and those that are missing above it, with this mode whatever the umask."""
    missing = [directory for directory in (where, *where.parents) if not directory.is_dir()]
    for directory in reversed(missing):
        directory.mkdir(mode=mode)  # never wider than that, not even for a moment
        directory.chmod(mode)


def write(where: Path, data: bytes, mode: int) -> None:
    """Write a file in one step: a reader sees the previous content or this, whole."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{where.name}.", dir=where.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(where)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(where.parent)


def link(where: Path, target: str) -> None:
    """Put a symbolic link in place as one step.

    A runtime that starts meanwhile takes every name in its plugin directory for a plugin, and an
    unfit one ends containerd. So a link that is to replace another is made one directory above.
    """
    if not where.is_symlink():
        where.symlink_to(target)
    else:
        temporary = where.parent.parent / f".{where.name}.{os.getpid()}"
        temporary.symlink_to(target)
        temporary.replace(where)
    sync(where.parent)


def sync(directory: Path) -> None:
    """Have a directory's entries survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(root: str, path: str) -> Iterator[str]:
    """Yield the names in a host's directory, in order; none if there is no such directory."""
    with contextlib.suppress(OSError):
        yield from sorted(os.listdir(resolve(root, path)))

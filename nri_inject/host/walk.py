"""The way that a path takes through a host's file tree, step by step, links followed.

Every check of a path stands on this walk: which thing it leads to, under which real path, and who
could change that. The kernel does not follow the links for us, because the host's tree may be
mounted below a directory of ours, and because each thing on the way is judged.

Links on procfs are refused. The kernel does not go where their text says: /proc/PID/root leads
into the file tree of another process, and /proc/self is another directory for each process
(proc(5)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from nri_inject.text.words import plain

MAX_LINKS: Final = 40
"""How many symbolic links one path may lead through (Linux: MAXSYMLINKS)."""

MAX_PARTS: Final = 256
"""How many parts a path may have, the parts of the links on its way included."""

# The types of file systems in statfs(2).
_PROCFS: Final = 0x9FA0
_AUTOFS: Final = 0x0187
_DEVPTS: Final = 0x1CD1


class PathStep(NamedTuple):
    """A directory, link or file that a path leads through.

    `path` is free of links and relative to the root; `status` is the thing's own, not that of a
    link's target; `target` is the text of a link that is not on procfs; `filesystem` is the type
    in statfs(2).
    """

    path: str
    status: os.stat_result
    target: str = ""
    filesystem: int = 0

    @property
    def on_procfs(self) -> bool:
        """Whether the thing lies on procfs, where a path means something else to each process."""
        return self.filesystem == _PROCFS

    @property
    def on_devpts(self) -> bool:
        """Whether the thing lies on devpts, where each user makes nodes by opening /dev/ptmx."""
        return self.filesystem == _DEVPTS


class Refused(OSError):
    """Report a path that the walk does not follow; `why` is a predicate of the path.

    `filename` is the place where the walk ended.
    """

    def __init__(self, place: str, why: str) -> None:
        super().__init__(errno.ELOOP, why, place)
        self.why = why


class ProcLink(Refused):
    """Report a path that leads through a link on procfs."""

    def __init__(self, place: str) -> None:
        super().__init__(place, f"leads through {plain(place)}, a link on procfs")


def steps(path: str, root: str = "/", *, wait: bool = True) -> Iterator[PathStep]:
    """Yield the things that a path leads through, from the root directory to its end.

    A relative path begins at the working directory. The last step is the thing at the end: after
    a link and after `..` the directory that the walk is in follows once more. Links and `..` never
    lead out of the root. With `wait` of False the walk does not enter an automount point on which
    nothing is mounted, because the kernel would mount it first, and that can take any time.

    Raises OSError where the path does not go on: FileNotFoundError, NotADirectoryError, Refused
    and others; `filename` is the place. Raises ValueError for a path with NUL.
    """
    if not path.startswith("/"):
        path = f"{Path.cwd()}/{path}"
    root = root.rstrip("/")
    types: dict[int, int] = {}
    at = _look(root, "/", types)
    yield at
    pending = path.split("/")[::-1]
    links, parts = 0, len(pending)
    while pending:
        if parts > MAX_PARTS:
            raise Refused(at.path, f"has more than {MAX_PARTS} parts, links followed")
        name = pending.pop()
        if name in ("", "."):
            continue
        _check_directory(at, wait=wait)
        if name == "..":
            at = _look(root, at.path.rpartition("/")[0] or "/", types)
            yield at
            continue
        here = _look(root, f"{at.path.rstrip('/')}/{name}", types)
        yield here
        if not stat.S_ISLNK(here.status.st_mode):
            at = here
            continue
        links += 1
        _check_link(here, links)
        if here.target.startswith("/"):
            at = _look(root, "/", types)
        yield at
        more = here.target.split("/")[::-1]
        parts += len(more)
        pending += more
    if path.endswith("/"):
        _check_directory(at, wait=True)


def _check_link(step: PathStep, links: int) -> None:
    """Raise OSError for a link that the walk does not follow."""
    if step.on_procfs:
        raise ProcLink(step.path)
    if links > MAX_LINKS:
        raise Refused(step.path, "leads through too many links")


def _check_directory(step: PathStep, *, wait: bool) -> None:
    """Raise OSError where a path cannot go on."""
    if not stat.S_ISDIR(step.status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is not a directory", step.path)
    if step.filesystem == _AUTOFS and not wait:
        raise Refused(step.path, "leads through an automount point on which nothing is mounted")


def _look(root: str, path: str, types: dict[int, int]) -> PathStep:
    """Return the thing at a path that is free of links; OSError names the path.

    `types` caches the types of file systems by device number, for one walk: a number is used
    again after an unmount.
    """
    place = root + path
    try:
        status = os.lstat(place)
        if status.st_dev not in types:
            types[status.st_dev] = _filesystem(place)
        filesystem = types[status.st_dev]
        is_read = stat.S_ISLNK(status.st_mode) and filesystem != _PROCFS
        target = os.readlink(place) if is_read else ""  # the exact text
    except OSError as error:  # of a link: it was replaced meanwhile, or we lack the permission
        error.filename = path
        raise
    return PathStep(path, status, target, filesystem)


def _filesystem(place: str) -> int:
    """Return the type of the file system that a thing lies on."""
    descriptor = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        answer = _Statfs()
        if _libc().fstatfs(descriptor, answer) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return answer[0] & 0xFFFFFFFF
    finally:
        os.close(descriptor)


# struct statfs begins with f_type, a long, and takes 120 bytes on 64-bit machines.
_Statfs: Final = ctypes.c_long * 64


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def confirm(real: str, status: os.stat_result, root: str = "/") -> None:
    """Raise OSError unless a path leads to this very thing without a link on the way.

    The walk looks at one place after the other. Here each directory is opened from the one
    before, and the kernel refuses links of any sort, so nothing can come between. (openat2(2)
    with RESOLVE_NO_SYMLINKS says the same in one call; RHEL 8 has no such call.)
    """
    descriptor = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        names = [name for name in real.split("/") if name]
        for number, name in enumerate(names, 1):
            flags = _DIRECTORY if number < len(names) else _ANYTHING
            below = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    is_same_type = stat.S_IFMT(found.st_mode) == stat.S_IFMT(
        status.st_mode
    )  # inodes are used again
    if not (os.path.samestat(found, status) and is_same_type):
        raise OSError(errno.ESTALE, "was replaced while it was read", real)


_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = _ANYTHING | os.O_DIRECTORY

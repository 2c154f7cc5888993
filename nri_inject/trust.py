"""Who could have written a file: what root runs or believes must be root's own, all the way.

A path is walked as the kernel does it, link by link, but inside a root directory of our choice,
so that the host's files can be looked at from within a container.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

MOST_LINKS: Final = 40
"""How many symbolic links one path may lead through (Linux: MAXSYMLINKS)."""


class Step(NamedTuple):
    """A directory, link or file that a path leads through.

    `path` is free of links and relative to the root; `status` is the thing's own, not a link's
    target's, and `target` what a link says.
    """

    path: str
    status: os.stat_result
    target: str = ""


def steps(path: str, root: str = "/") -> Iterator[Step]:
    """Yield what a path leads through, from the root directory to its end, each as it is now.

    A relative path begins at the working directory. Raises OSError where it does not go on:
    FileNotFoundError, NotADirectoryError, and one with ELOOP among them. ValueError for a path
    with NUL. Of a link, the target's directories follow.
    """
    root = root.rstrip("/")
    if not path.startswith("/"):
        path = f"{os.getcwd()}/{path}"  # noqa: PTH109 - the exact text
    at, step = "", look(root, "/")
    yield step
    pending = path.split("/")[::-1]
    links = 0
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if not stat.S_ISDIR(step.status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is not a directory", step.path)
        if name == "..":
            at = at.rpartition("/")[0]
            step = look(root, at or "/")
            continue
        here = look(root, f"{at}/{name}")
        yield here
        if not stat.S_ISLNK(here.status.st_mode):
            at, step = here.path, here
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, "leads through too many links", here.path)
        if here.target.startswith("/"):
            at, step = "", look(root, "/")
        pending += here.target.split("/")[::-1]
    if path.endswith("/") and not stat.S_ISDIR(step.status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is not a directory", step.path)


def look(root: str, path: str) -> Step:
    """Return what is at a path whose links have been followed; OSError names the path."""
    try:
        status = os.lstat(root + path)
        is_link = stat.S_ISLNK(status.st_mode)
        return Step(path, status, os.readlink(root + path) if is_link else "")  # noqa: PTH115 - the exact text
    except OSError as error:  # of a link: replaced since we looked, or not for us
        error.filename = path
        raise


def unchanged(walked: Sequence[Step], root: str = "/", gone: str = "") -> bool:
    """Tell whether all that a path led through is as it was, so that it leads there again.

    Compared is what this module judges by: type and permissions, owners, which device a node is,
    and where links lead. `gone` is a place where there was nothing, and has to be nothing still.
    """
    root = root.rstrip("/")
    for path, before, target in walked:
        try:
            now = os.lstat(root + path)
            if (
                now.st_mode != before.st_mode
                or now.st_uid != before.st_uid
                or now.st_gid != before.st_gid
                or now.st_rdev != before.st_rdev
                or (target and os.readlink(root + path) != target)  # noqa: PTH115 - the exact text
            ):
                return False
        except OSError:
            return False
    return not gone or _is_gone(root + gone)


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def untrusted(path: str, *, root: str = "/") -> str | None:
    """Say who else could have written a file, a directory or what is above it; None if nobody.

    Everything that the path leads through must belong to root, or to the user who runs us, and
    be writable by its owner only. A sticky directory such as /tmp will do for a directory below
    it, since nobody else can move that; a file right there could be another's hard link to it.
    A path that does not exist is nobody's, and is told so.
    """
    try:
        return trouble(list(steps(path, root)))
    except (OSError, ValueError) as error:
        return unreachable(path, error)


def trouble(walked: Sequence[Step]) -> str | None:
    """Say what is wrong with the things that a path leads through, if anything is."""
    directories = _directories(walked)
    for step in walked:
        fault = _fault(step) or _in_sticky(step, directories.get(_parent(step)))
        if fault:
            return fault
    return None


def planted(walked: Sequence[Step]) -> str | None:
    """Say who else could have put the last thing where it is; what it is itself is not asked.

    Who may write a directory above it can put another thing there at any moment, also between a
    look at it and its use.
    """
    last = walked[-1]
    parent = _directories(walked).get(_parent(last))
    return trouble(walked[:-1]) or _in_sticky(last, parent) or _movable(last, parent)


def fillable(walked: Sequence[Step]) -> str | None:
    """Say who else could put something where a path leads to nothing; None if nobody.

    The last thing that the path leads through is the directory in which the next one is missing.
    """
    last = walked[-1]
    fault = trouble(walked)
    if fault or not last.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return fault
    return f"others can put files in {_shown(last)}"


def _directories(walked: Sequence[Step]) -> dict[str, Step]:
    """Return the directories by path. With `..` in it a path comes back to one of before."""
    return {step.path: step for step in walked if stat.S_ISDIR(step.status.st_mode)}


def _parent(step: Step) -> str:
    return "" if step.path == "/" else step.path.rpartition("/")[0] or "/"


class Untrusted(Exception):
    """Say who else could have written a file."""


def read(path: str, size: int, *, unsafe: bool = False) -> bytes:
    """Return the first `size` bytes of a configuration or policy file.

    A directory of root's that is mounted read-only for us passes whatever its mode: the kubelet
    makes those of ConfigMaps for everybody, and shows them to nobody else. Raises Untrusted if
    others could have written the file, unless `unsafe`; OSError if it cannot be read or is no
    regular file. It is opened without waiting, so that a fifo in its place blocks nobody.
    """
    walked = [] if unsafe else [step for step in steps(path) if not _is_sealed(step)]
    refused = trouble(walked)
    if refused:
        raise Untrusted(refused)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read(size)


def _is_sealed(step: Step) -> bool:
    """Tell whether nobody can write into a directory the way that we see it."""
    if not stat.S_ISDIR(step.status.st_mode) or step.status.st_uid != 0:
        return False
    if not step.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return False
    return bool(os.statvfs(step.path).f_flag & os.ST_RDONLY)


def unreachable(path: str, error: OSError | ValueError) -> str:
    """Say why a path leads to nothing."""
    if isinstance(error, ValueError):
        why = "it cannot be encoded" if isinstance(error, UnicodeError) else "it has a NUL"
        return f"{path!r} is no path: {why}"
    shown = repr(path)[1:-1]
    if error.errno != errno.ENOENT:
        return f"{shown} cannot be looked at: {error.strerror}"
    missing = error.filename
    if not missing or missing == os.path.abspath(path):  # noqa: PTH100 - the exact text
        return f"{shown} does not exist"
    return f"{shown} does not exist: there is no {missing!r}"


def _fault(step: Step) -> str | None:
    owner, mode = step.status.st_uid, step.status.st_mode
    if owner not in (0, os.geteuid()):
        return f"{_shown(step)} belongs to user {owner}, not to root"
    if stat.S_ISLNK(mode):  # its mode means nothing
        return None
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return None
    if mode & stat.S_IWOTH:
        return f"{_shown(step)} can be written by everybody (mode {stat.S_IMODE(mode):04o})"
    if mode & stat.S_IWGRP:
        group = step.status.st_gid
        return f"{_shown(step)} can be written by group {group} (mode {stat.S_IMODE(mode):04o})"
    return None


def _in_sticky(step: Step, above: Step | None) -> str | None:
    """Say that others can put things beside a file, which a sticky directory only half forbids."""
    if above is None or stat.S_ISDIR(step.status.st_mode):
        return None
    mode = above.status.st_mode
    if not mode & (stat.S_IWOTH | stat.S_IWGRP):
        return None
    return f"{_shown(step)} is in {_shown(above)}, where others can put files"


def _movable(step: Step, above: Step | None) -> str | None:
    """Say that a directory's owner can put another thing in its place, as in /tmp."""
    if above is None or not above.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return None
    owner = step.status.st_uid
    if owner in (0, os.geteuid()):
        return None
    return f"{_shown(step)} belongs to user {owner}, who can move it"


def _shown(step: Step) -> str:
    return repr(step.path)[1:-1]

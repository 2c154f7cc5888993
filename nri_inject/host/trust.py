"""The user besides root who could have written a file, or could replace it.

Files that root runs or obeys must belong to root, and so must everything on their path. The checks
take the steps of `walk`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from nri_inject.host import sight
from nri_inject.host.walk import PathStep, Refused, steps
from nri_inject.text.words import plain, quoted


def untrusted(path: str, *, root: str = "/") -> str | None:
    """Name the user besides root who could have written a path; None if none.

    Everything on the path must belong to root, or to the user of this process, and be writable by
    its owner only. A sticky directory such as /tmp may contain a directory, since only its owner
    can move it; a file right there could be another user's hard link. A missing path has no owner,
    and the sentence says that it is missing.
    """
    try:
        return trouble(list(steps(path, root)))
    except (OSError, ValueError) as error:
        return unreachable(path, error)


def trouble(walked: Sequence[PathStep]) -> str | None:
    """Say what is wrong with the things that a path leads through, if anything is."""
    directories = _directories(walked)
    for step in walked:
        fault = _fault(step) or _in_sticky(step, directories.get(_parent(step)))
        if fault:
            return fault
    return None


def replaceable_by(walked: Sequence[PathStep]) -> str | None:
    """Name the user besides root who could have put the last thing there; skip its own owner.

    A user who may write a directory above it can replace it at any moment, also between a check and
    its use.
    """
    last = walked[-1]
    parent = _directories(walked).get(_parent(last))
    return trouble(walked[:-1]) or _in_sticky(last, parent) or _movable(last, parent)


def creatable_by(walked: Sequence[PathStep]) -> str | None:
    """Name the user besides root who could create something at a missing path; None if none could.

    The last step is the directory in which the next part of the path is missing.
    """
    last = walked[-1]
    if last.on_devpts:
        return f"any user can create a terminal in {plain(last.path)}"
    fault = trouble(walked)
    if fault or not last.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return fault
    return f"others can put files in {plain(last.path)}"


def _directories(walked: Sequence[PathStep]) -> dict[str, PathStep]:
    """Return the directories by path. With `..` in it a path comes back to one of before."""
    return {step.path: step for step in walked if stat.S_ISDIR(step.status.st_mode)}


def _parent(step: PathStep) -> str:
    return "" if step.path == "/" else step.path.rpartition("/")[0] or "/"


class Untrusted(Exception):
    """Name the user besides root who could have written a file."""


def read(path: str, size: int, *, unsafe: bool = False) -> bytes:
    """Return the first `size` bytes of a configuration or policy file.

    A directory of root's that is mounted read-only passes whatever its mode: the kubelet makes the
    directories of ConfigMaps world-writable, and shows them to no other container. Raises Untrusted
    if other users could have written the file, unless `unsafe`; OSError if it cannot be read or is
    not a regular file. It is opened without waiting, so that a fifo in its place does not block.
    """
    walked = [] if unsafe else [*steps(path)]
    refused = trouble([step for step in walked if not _is_sealed(step)])
    if refused:
        raise Untrusted(refused)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if walked and not os.path.samestat(found, walked[-1].status):
            raise OSError(errno.ESTALE, "replaced while it was checked", path)
        return file.read(size)


def _is_sealed(step: PathStep) -> bool:
    """Tell whether nobody can write into a directory the way that we see it."""
    if not stat.S_ISDIR(step.status.st_mode) or step.status.st_uid != 0:
        return False
    if not step.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return False
    return bool(os.statvfs(step.path).f_flag & os.ST_RDONLY)


def unreachable(path: str, error: OSError | ValueError, root: str = "/") -> str:
    """Say why a path leads to nothing below `root`, or that the plugin does not see it."""
    if isinstance(error, ValueError):
        why = "it cannot be encoded" if isinstance(error, UnicodeError) else "it contains a NUL"
        return f"{quoted(path)} is not a path: {why}"
    shown = plain(path)
    if isinstance(error, Refused):
        return f"{shown} {error.why}"
    if reason := unseen(path, error, root):
        return f"{shown} {reason}"
    if error.errno != errno.ENOENT:
        return f"{shown} cannot be inspected: {error.strerror}"
    missing = error.filename
    if not missing or missing == os.path.abspath(path):  # the exact text
        return f"{shown} does not exist"
    return f"{shown} does not exist: there is no {quoted(missing)}"


def unseen(path: str, error: OSError, root: str = "/") -> str:
    """Say why a path that cannot be looked at may be there on the host; empty if it is not."""
    if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM):
        return ""
    place = str(error.filename or "")
    return sight.hidden(place if place.startswith("/") else path, root)


def _fault(step: PathStep) -> str | None:
    owner, mode = step.status.st_uid, step.status.st_mode
    if owner not in (0, os.geteuid()):
        return f"{plain(step.path)} belongs to user {owner}, not to root"
    if stat.S_ISLNK(mode):  # its mode means nothing
        return None
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return None
    if mode & stat.S_IWOTH:
        return f"{plain(step.path)} can be written by everybody (mode {stat.S_IMODE(mode):04o})"
    if mode & stat.S_IWGRP:
        group = step.status.st_gid
        return f"{plain(step.path)} can be written by group {group} (mode {stat.S_IMODE(mode):04o})"
    return None


def _in_sticky(step: PathStep, above: PathStep | None) -> str | None:
    """Say that others can put things beside a file, which a sticky directory only half forbids."""
    if above is None or stat.S_ISDIR(step.status.st_mode):
        return None
    mode = above.status.st_mode
    if not mode & (stat.S_IWOTH | stat.S_IWGRP):
        return None
    return f"{plain(step.path)} is in {plain(above.path)}, where others can put files"


def _movable(step: PathStep, above: PathStep | None) -> str | None:
    """Say that a directory's owner can put another thing in its place, as in /tmp."""
    if above is None or not above.status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return None
    owner = step.status.st_uid
    if owner in (0, os.geteuid()):
        return None
    return f"{plain(step.path)} belongs to user {owner}, who can rename it"

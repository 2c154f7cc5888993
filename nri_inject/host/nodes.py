"""The mappings that look at the real host: device nodes, files, and the names of numbers."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from nri_inject.host import sight, trust, walk
from nri_inject.host.model import (
    DeviceNode,
    DeviceType,
    HostPath,
    NotADevice,
    Number,
    ProcLinkError,
)
from nri_inject.host.walk import PathStep
from nri_inject.text.budget import Lookup

K = TypeVar("K")
V = TypeVar("V")

_TYPES: Final[dict[int, DeviceType]] = {
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
}
_OTHERS: Final = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFREG: "is a regular file",
    stat.S_IFSOCK: "is a socket",
}
_REFUSALS: Final = {
    errno.EACCES: "cannot be inspected: permission denied",
    errno.EPERM: "cannot be inspected: permission denied",
    errno.ENAMETOOLONG: "has a name that is too long",
}


class HostDevices(Lookup[str, DeviceNode]):
    """Map absolute paths to the nodes of a host whose file tree is below `root`.

    Each lookup walks the path again. No device is opened: opening one can block, rewind a tape or
    start a watchdog. A path that does not exist is a KeyError. A path that leads to something else,
    or through procfs, is a NotADevice; so is a missing one at which users other than root could
    create a file.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root)

    def __getitem__(self, path: str) -> DeviceNode:
        if not path.startswith("/") or "\0" in path:
            raise KeyError(path)
        walked: list[PathStep] = []
        try:
            for step in walk.steps(path.rstrip("/") or "/", self._root, wait=False):
                walked.append(step)  # noqa: PERF402 - the steps before an error count, too
        except (FileNotFoundError, NotADirectoryError) as error:
            why = sight.hidden(error.filename, self._root) or _why_missing(walked)
            raise (NotADevice(path, why) if why else KeyError(path)) from None
        except walk.Refused as error:
            raise NotADevice(path, error.why) from None
        except OSError as error:
            unseen = trust.unseen(path, error, self._root)
            why = _REFUSALS.get(error.errno or 0, f"cannot be inspected: {error.strerror}")
            raise NotADevice(path, unseen or why) from None
        return _node(path, walked)


def _node(path: str, walked: Sequence[PathStep]) -> DeviceNode:
    real, found, _, _ = walked[-1]
    kind = _TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise NotADevice(path, _OTHERS.get(stat.S_IFMT(found.st_mode), "is not a device"))
    if any(step.on_procfs for step in walked):
        raise NotADevice(path, "leads through procfs")
    numbers = (0, 0) if kind == "p" else (os.major(found.st_rdev), os.minor(found.st_rdev))
    return DeviceNode(
        path,
        kind,
        *numbers,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        real=real,
        doubt=trust.replaceable_by(walked),
        links=_links(walked),
    )


def _links(walked: Sequence[PathStep]) -> tuple[str, ...]:
    return tuple(step.path for step in walked if step.target)


def _why_missing(walked: Sequence[PathStep]) -> str:
    """Say why a path leads to nothing, if that is more than that nothing is there."""
    for step in reversed(walked):
        if step.target:
            return f"is a dangling link to {step.target}"
    if not walked or not stat.S_ISDIR(walked[-1].status.st_mode):
        return ""
    doubt = trust.creatable_by(walked)
    return f"does not exist, and {doubt}" if doubt else ""


class HostFiles(Lookup[str, HostPath]):
    """Map absolute paths to the files and directories below `root`, links followed.

    No file is opened for reading. A path that cannot be reached is a KeyError with the reason for
    a text, a ProcLinkError where the reason is a link on procfs.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root)

    def __getitem__(self, path: str) -> HostPath:
        try:
            walked = [*walk.steps(path, self._root, wait=False)]
            end = walked[-1]
            walk.confirm(end.path, end.status, self._root)
        except walk.ProcLink as error:
            raise ProcLinkError(trust.unreachable(path, error)) from error
        except (OSError, ValueError) as error:
            raise KeyError(trust.unreachable(path, error, self._root)) from error
        return HostPath(
            end.path,
            trust.replaceable_by(walked),
            trust.trouble(walked),
            any(step.on_procfs for step in walked),
            (end.status.st_dev, end.status.st_ino),
            _links(walked),
        )


class HostNumbers(Lookup[Number, tuple[str, ...]]):
    """Map a device's number to the host's own names of it, whatever nodes there may be.

    First the kernel's name for it (DEVNAME in sysfs), then the links that udev made to it (lines
    `S:` of its database). A number that the kernel has no device for is a KeyError.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root).rstrip("/")

    def __getitem__(self, number: Number) -> tuple[str, ...]:
        kind, major, minor = number
        directory = {"b": "block", "c": "char"}.get(kind)
        if directory is None:
            raise KeyError(number)
        device = f"{self._root}/sys/dev/{directory}/{major}:{minor}"
        record = f"{self._root}/run/udev/data/{kind}{major}:{minor}"
        names = _names(f"{device}/uevent", record)
        if not names:
            raise KeyError(number)
        return names


def _names(device: str, record: str) -> tuple[str, ...]:
    names = [line[8:] for line in _lines(device) if line.startswith("DEVNAME=")]
    if names:
        names += [line[2:] for line in _lines(record) if line.startswith("S:")]
    return tuple(f"/dev/{name}" for name in names)


def _lines(path: str) -> list[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        return os.read(descriptor, _MAX_RECORD).decode(errors="replace").split("\n")
    except OSError:  # the device has gone meanwhile
        return []
    finally:
        os.close(descriptor)


class Remembered(Lookup[K, V]):
    """A mapping that looks up each key once.

    So a decision and the injected device in one request rest on the same lookup.
    """

    def __init__(self, source: Mapping[K, V]) -> None:
        self._source = source
        self._known: dict[K, V] = {}
        self._absent: dict[K, KeyError] = {}

    def __getitem__(self, key: K) -> V:
        if key in self._known:
            return self._known[key]
        if key in self._absent:
            absent = self._absent[key]
            raise type(absent)(*absent.args)
        try:
            value = self._known[key] = self._source[key]
        except KeyError as error:
            # Not this one: its traceback holds the whole request, and us with it.
            self._absent[key] = type(error)(*error.args)
            raise
        return value


_MAX_RECORD: Final = 65536  # bytes; udev's longest records have a few thousand

"""What injectors may know of the host: its device nodes and which runtime runs on it.

`Host` is a value; a test gives it a dict. `HostDevices` is the mapping that looks at the real
file system, when asked and no earlier.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nri_inject.runtimes import NEWEST, Runtime

if TYPE_CHECKING:  # only those plugins load the readers of these files that read them
    from nri_inject.cdi.registry import Snapshot
    from nri_inject.oci_hooks import Definition

DeviceType: TypeAlias = Literal["c", "b", "p"]


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A node of the host: a character or block device, or a fifo (whose numbers are 0).

    `path` is the one that was asked for, though it may be a link; `mode` has the permission bits.
    """

    path: str
    type: DeviceType
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Host:
    """The world that an injector sees.

    `cdi` and `hooks` are what the node's spec and hook directories held when the container
    asked; a plugin that reads none of them has None and nothing.
    """

    devices: Mapping[str, DeviceNode]
    runtime: Runtime = NEWEST
    cdi: Snapshot | None = None
    hooks: Sequence[Definition] = ()


class NotADevice(KeyError):
    """Say why something that is there is no device; a KeyError, as the mapping lacks it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


_MOST_LINKS: Final = 40  # as Linux: MAXSYMLINKS
# Whoever plants links in a directory of the host could make one path cost a hundred thousand looks.
_MOST_PARTS: Final = 256

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
    errno.EACCES: "cannot be looked at: permission denied",
    errno.EPERM: "cannot be looked at: permission denied",
    errno.ENAMETOOLONG: "has a name that is too long",
}


class HostDevices(Mapping[str, DeviceNode]):
    """Map absolute paths to the nodes of a host whose file tree is below `root`.

    Nothing is remembered, and nothing is opened: opening a device can block, rewind a tape or
    start a watchdog. Links are followed inside the root, also absolute ones and those that climb
    with `..`; that is why the kernel is not asked to follow them. A path that does not exist is a
    KeyError, one that is something else a NotADevice.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root).rstrip("/")

    def __getitem__(self, path: str) -> DeviceNode:
        if not path.startswith("/") or "\0" in path:
            raise KeyError(path)
        found = self._follow(path)
        kind = _TYPES.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            raise NotADevice(path, _OTHERS.get(stat.S_IFMT(found.st_mode), "is not a device"))
        numbers = (0, 0) if kind == "p" else (os.major(found.st_rdev), os.minor(found.st_rdev))
        mode = stat.S_IMODE(found.st_mode)
        return DeviceNode(path, kind, *numbers, mode, found.st_uid, found.st_gid)

    def __iter__(self) -> Iterator[str]:
        """Yield the paths below /dev, links to directories not entered."""
        for directory, _, names in os.walk(f"{self._root}/dev"):
            for name in names:
                path = f"{directory}/{name}"[len(self._root) :]
                if path in self:
                    yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _follow(self, path: str) -> os.stat_result:
        pending = path.split("/")[::-1]
        at = ""
        link = ""
        links = 0
        parts = len(pending)
        _check_parts(path, parts)
        found = self._look(path, "/", "")
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                found = self._look(path, at or "/", link)
                continue
            if not stat.S_ISDIR(found.st_mode):
                raise _missing(path, link)
            here = f"{at}/{name}"
            found = self._look(path, here, link)
            if not stat.S_ISLNK(found.st_mode):
                at = here
                continue
            links += 1
            if links > _MOST_LINKS:
                raise NotADevice(path, "is a symlink loop")
            link = self._target(path, here)
            if link.startswith("/"):
                at = ""
            found = self._look(path, at or "/", link)
            more = link.split("/")[::-1]
            parts += len(more)
            _check_parts(path, parts)
            pending += more
        return found

    def _look(self, path: str, place: str, link: str) -> os.stat_result:
        try:
            return os.lstat(self._root + place)
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(path, link) from None
        except OSError as error:
            raise _refused(path, error) from error

    def _target(self, path: str, place: str) -> str:
        try:
            return os.readlink(self._root + place)  # noqa: PTH115 - the exact text
        except OSError as error:  # replaced since we looked, or not for us
            raise _refused(path, error) from error


def _check_parts(path: str, parts: int) -> None:
    if parts > _MOST_PARTS:
        raise NotADevice(path, f"has more than {_MOST_PARTS} parts, links followed")


def _missing(path: str, link: str) -> KeyError:
    return NotADevice(path, f"is a dangling link to {link}") if link else KeyError(path)


def _refused(path: str, error: OSError) -> NotADevice:
    why = _REFUSALS.get(error.errno or 0, f"cannot be looked at: {error.strerror}")
    return NotADevice(path, why)

"""What injectors may know of the host: its device nodes and which runtime runs on it.

`Host` is a value; a test gives it dicts. `HostDevices`, `HostNumbers` and `HostFiles` are the
mappings that look at the real file system, when asked and no earlier.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar

from nri_inject import sight, trust, walk
from nri_inject.budget import UNLIMITED, Budget
from nri_inject.recall import Latest
from nri_inject.runtimes import NEWEST, Runtime
from nri_inject.walk import Step

if TYPE_CHECKING:  # only those plugins load the readers of these files that read them
    from nri_inject.cdi.registry import Snapshot
    from nri_inject.devices.inventory import Inventory
    from nri_inject.oci_hooks import Definition
    from nri_inject.policy.permit import Permit

K = TypeVar("K")
V = TypeVar("V")

DeviceType: TypeAlias = Literal["c", "b", "p"]


class DeviceNode(NamedTuple):
    """A node of the host: a character or block device, or a fifo (whose numbers are 0).

    `path` is the one that was asked for, though it may be a link; `mode` has the permission bits.
    `real` is the path without links, `links` are the links on the way to it, and `doubt` says who
    besides root could have put the node there, or one of them.
    """

    path: str
    type: DeviceType
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    real: str = ""
    doubt: str | None = None
    links: tuple[str, ...] = ()

    @property
    def number(self) -> Number:
        """What tells one device of the host from all others."""
        return self.type, self.major, self.minor


Number: TypeAlias = tuple[str, int, int]
"""A device's type, c or b, its major and its minor number."""


class Place(NamedTuple):
    """A file or directory of the host: its path without links, `doubt` and `links` as for a node.

    `writable_by` says the same of who could have written it. `on_procfs` says that the path leads
    through procfs. `identity` is the device number of its file system and its inode number: the
    kernel's own name for the file.
    """

    real: str
    doubt: str | None = None
    writable_by: str | None = None
    on_procfs: bool = False
    identity: tuple[int, int] = (0, 0)
    links: tuple[str, ...] = ()


def unheard(_sentence: str) -> None:
    """Be told what nobody wants to hear."""


@dataclass(frozen=True, slots=True)
class Host:
    """The world that an injector sees.

    `cdi` and `hooks` are what the node's spec and hook directories held when the container
    asked; a plugin that reads none of them has None and nothing. `numbers` has the host's own
    names of a device, `files` what is at a path. `inventory` looks at all devices of the host, for
    who asks for one by what it is. `permit` is what the policy grants the
    container that asks; None grants all of it. `budget` bounds what the request costs. `warn` is
    told, without the container's name, what somebody should look at.
    """

    devices: Mapping[str, DeviceNode]
    runtime: Runtime = NEWEST
    cdi: Snapshot | None = None
    hooks: Sequence[Definition] = ()
    numbers: Mapping[Number, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, Place] = field(default_factory=dict)
    permit: Permit | None = None
    budget: Budget = UNLIMITED
    inventory: Callable[[], Inventory] | None = None
    warn: Callable[[str], object] = unheard


def real_host(runtime: Runtime = NEWEST, root: str = "/") -> Host:
    """Return the host whose file tree is below `root`, looked at when asked."""
    return Host(HostDevices(root), runtime, numbers=HostNumbers(root), files=HostFiles(root))


class NotADevice(KeyError):
    """Say why something that is there is no device; a KeyError, as the mapping lacks it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


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

    Each lookup walks the path anew. No device is opened: opening one can block, rewind a tape or
    start a watchdog. A path that does not exist is a KeyError. A path that leads to something
    else, or through procfs, is a NotADevice; so is one that does not exist yet, where other users
    than root could put something.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root)

    def __getitem__(self, path: str) -> DeviceNode:
        if not path.startswith("/") or "\0" in path:
            raise KeyError(path)
        walked: list[Step] = []
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
            why = _REFUSALS.get(error.errno or 0, f"cannot be looked at: {error.strerror}")
            raise NotADevice(path, unseen or why) from None
        return _node(path, walked)

    def __iter__(self) -> Iterator[str]:
        """Yield the paths below /dev, links to directories not entered."""
        root = self._root.rstrip("/")
        for directory, _, names in os.walk(f"{root}/dev"):
            for name in names:
                path = f"{directory}/{name}"[len(root) :]
                if path in self:
                    yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _node(path: str, walked: Sequence[Step]) -> DeviceNode:
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
        doubt=trust.planted(walked),
        links=_links(walked),
    )


def _links(walked: Sequence[Step]) -> tuple[str, ...]:
    return tuple(step.path for step in walked if step.target)


def _why_missing(walked: Sequence[Step]) -> str:
    """Say why a path leads to nothing, if that is more than that nothing is there."""
    for step in reversed(walked):
        if step.target:
            return f"is a dangling link to {step.target}"
    if not walked or not stat.S_ISDIR(walked[-1].status.st_mode):
        return ""
    doubt = trust.fillable(walked)
    return f"does not exist, and {doubt}" if doubt else ""


class ProcLinkError(KeyError):
    """Report that a path leads through a link on procfs."""


class HostFiles(Mapping[str, Place]):
    """Map absolute paths to the files and directories below `root`, links followed.

    No file is opened for reading. A path that cannot be reached is a KeyError with the reason for
    a text, a ProcLinkError where the reason is a link on procfs.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root)

    def __getitem__(self, path: str) -> Place:
        try:
            walked = [*walk.steps(path, self._root, wait=False)]
            end = walked[-1]
            walk.confirm(end.path, end.status, self._root)
        except walk.ProcLink as error:
            raise ProcLinkError(trust.unreachable(path, error)) from error
        except (OSError, ValueError) as error:
            raise KeyError(trust.unreachable(path, error, self._root)) from error
        return Place(
            end.path,
            trust.planted(walked),
            trust.trouble(walked),
            any(step.on_procfs for step in walked),
            (end.status.st_dev, end.status.st_ino),
            _links(walked),
        )

    def __iter__(self) -> Iterator[str]:
        """Yield nothing: nobody wants all files of a host."""
        return iter(())

    def __len__(self) -> int:
        return 0


class HostNumbers(Mapping[Number, tuple[str, ...]]):
    """Map a device's number to the host's own names of it, whatever nodes there may be.

    First the kernel's name for it (DEVNAME in sysfs), then the links that udev made to it (lines
    `S:` of its database). A number that the kernel has no device for is a KeyError.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root).rstrip("/")
        self._known: Latest[Number, tuple[object, tuple[str, ...]]] = Latest(128)

    def __getitem__(self, number: Number) -> tuple[str, ...]:
        kind, major, minor = number
        directory = {"b": "block", "c": "char"}.get(kind)
        if directory is None:
            raise KeyError(number)
        device = f"{self._root}/sys/dev/{directory}/{major}:{minor}"
        record = f"{self._root}/run/udev/data/{kind}{major}:{minor}"
        # A device is not given another name while it is there, and has another link in sysfs when
        # it comes back. udev puts a new file in the place of the old one.
        state = (_version(device), _version(record))
        known = self._known.get(number)
        if known is not None and known[0] == state:
            return known[1]
        names = _names(f"{device}/uevent", record)
        if not names:
            raise KeyError(number)
        if state[0] is not None:  # it may have come just now
            self._known.put(number, (state, names))
        return names

    def __iter__(self) -> Iterator[Number]:
        """Yield nothing: one asks for a number that one has."""
        return iter(())

    def __len__(self) -> int:
        return 0


def _version(path: str) -> tuple[int, int, int, int] | None:
    """Return what tells a file from one that was written later; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


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
        return os.read(descriptor, _MOST_TOLD).decode(errors="replace").split("\n")
    except OSError:  # the device has gone meanwhile
        return []
    finally:
        os.close(descriptor)


class Remembered(Mapping[K, V]):
    """A mapping that is asked once for each key.

    What is decided and what is injected in one request is then the same look at the host.
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

    def __iter__(self) -> Iterator[K]:
        """Yield what the source does."""
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)


_MOST_TOLD: Final = 65536  # bytes; udev's longest records have a few thousand

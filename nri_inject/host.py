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
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from nri_inject import trust
from nri_inject.recall import Latest
from nri_inject.runtimes import NEWEST, Runtime
from nri_inject.trust import Step

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
    `real` is the path without links, and `doubt` says who besides root could have put the node
    there, or a link on the way to it.
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

    @property
    def number(self) -> Number:
        """What tells one device of the host from all others."""
        return self.type, self.major, self.minor


Number: TypeAlias = tuple[str, int, int]
"""A device's type, c or b, its major and its minor number."""


class Place(NamedTuple):
    """A file or directory of the host: its path without links, and `doubt` as for a node."""

    real: str
    doubt: str | None = None


def unheard(_sentence: str) -> None:
    """Be told what nobody wants to hear."""


@dataclass(frozen=True, slots=True)
class Host:
    """The world that an injector sees.

    `cdi` and `hooks` are what the node's spec and hook directories held when the container
    asked; a plugin that reads none of them has None and nothing. `numbers` has the host's own
    names of a device, `files` what is at a path. `inventory` looks at all devices of the host, for
    who asks for one by what it is. `permit` is what the policy grants the
    container that asks; None grants all of it. `warn` is told, without the container's name, what
    somebody should look at.
    """

    devices: Mapping[str, DeviceNode]
    runtime: Runtime = NEWEST
    cdi: Snapshot | None = None
    hooks: Sequence[Definition] = ()
    numbers: Mapping[Number, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, Place] = field(default_factory=dict)
    permit: Permit | None = None
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


# Characters of all that a path leads through, far more than a device's have.
_LONGEST_WALK: Final = 2048

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


class _Walks(Generic[V]):
    """Paths that were walked, and what each led to, for as long as it leads through the same.

    Pods' authors choose paths, so neither many nor long ones are kept.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: Latest[str, tuple[Sequence[Step], str, V]] = Latest(128)

    def end(self, path: str) -> V | None:
        """Return what a path leads to, None if that has to be worked out; look at all of it."""
        known = self._known.get(path)
        if known is None or not trust.unchanged(known[0], self._root, known[1]):
            return None
        return known[2]

    def keep(self, path: str, walked: Sequence[Step], value: V, gone: str = "") -> None:
        """Keep what a path led to; `gone` is the place where it did not go on."""
        if sum(len(step.path) + len(step.target) for step in walked) <= _LONGEST_WALK:
            self._known.put(path, (walked, gone, value))


class HostDevices(Mapping[str, DeviceNode]):
    """Map absolute paths to the nodes of a host whose file tree is below `root`.

    Each time a path is asked for it is looked at, and so is all that it leads through; what
    follows from that is worked out anew only if something has changed. Nothing is opened: opening
    a device can block, rewind a tape or start a watchdog. Links are followed inside the root, also
    absolute ones and those that climb with `..`; that is why the kernel is not asked to follow
    them. A path that does not exist is a KeyError, one that is something else a NotADevice; so is
    one that does not exist yet, where others than root could put something.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root).rstrip("/")
        self._walks = _Walks[DeviceNode | str](self._root)

    def __getitem__(self, path: str) -> DeviceNode:
        found = self._walks.end(path)
        if found is None:
            if not path.startswith("/") or "\0" in path:
                raise KeyError(path)
            found = self._found(path)
        if isinstance(found, DeviceNode):
            return found
        raise NotADevice(path, found) if found else KeyError(path)

    def _found(self, path: str) -> DeviceNode | str:
        """Return what is there, or say why there is nothing; without a word if that is plain."""
        walked: list[Step] = []
        try:
            self._follow(path, walked)
            found = self._node(path, walked)
        except _Gone as gone:
            why = _why_missing(walked)
            self._walks.keep(path, walked, why, gone.place)
            return why
        self._walks.keep(path, walked, found)
        return found

    def _node(self, path: str, walked: Sequence[Step]) -> DeviceNode:
        real, found, _ = walked[-1]
        kind = _TYPES.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            raise NotADevice(path, _OTHERS.get(stat.S_IFMT(found.st_mode), "is not a device"))
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
        )

    def __iter__(self) -> Iterator[str]:
        """Yield the paths below /dev, links to directories not entered."""
        for directory, _, names in os.walk(f"{self._root}/dev"):
            for name in names:
                path = f"{directory}/{name}"[len(self._root) :]
                if path in self:
                    yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _follow(self, path: str, walked: list[Step]) -> None:
        """Walk a path from the root to its end; raise _Gone where it does not go on."""
        pending = path.split("/")[::-1]
        at = ""
        links = 0
        parts = len(pending)
        _check_parts(path, parts)
        walked.append(self._look(path, "/"))
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                walked.append(self._look(path, at or "/"))
                continue
            here = f"{at}/{name}"
            if not stat.S_ISDIR(walked[-1].status.st_mode):
                raise _Gone(here)
            walked.append(self._look(path, here))
            if not stat.S_ISLNK(walked[-1].status.st_mode):
                at = here
                continue
            links += 1
            if links > trust.MOST_LINKS:
                raise NotADevice(path, "is a symlink loop")
            link = walked[-1].target
            if link.startswith("/"):
                at = ""
            walked.append(self._look(path, at or "/"))
            more = link.split("/")[::-1]
            parts += len(more)
            _check_parts(path, parts)
            pending += more

    def _look(self, path: str, place: str) -> Step:
        try:
            return trust.look(self._root, place)
        except (FileNotFoundError, NotADirectoryError):
            raise _Gone(place) from None
        except OSError as error:
            raise _refused(path, error) from error


class _Gone(Exception):
    """Say where a path does not go on, as seen from the root."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


def _check_parts(path: str, parts: int) -> None:
    if parts > _MOST_PARTS:
        raise NotADevice(path, f"has more than {_MOST_PARTS} parts, links followed")


def _why_missing(walked: Sequence[Step]) -> str:
    """Say why a path leads to nothing, if that is more than that nothing is there."""
    for step in reversed(walked):
        if step.target:
            return f"is a dangling link to {step.target}"
    if not walked or not stat.S_ISDIR(walked[-1].status.st_mode):
        return ""
    doubt = trust.fillable(walked)
    return f"does not exist, and {doubt}" if doubt else ""


def _refused(path: str, error: OSError) -> NotADevice:
    why = _REFUSALS.get(error.errno or 0, f"cannot be looked at: {error.strerror}")
    return NotADevice(path, why)


class HostFiles(Mapping[str, Place]):
    """Map absolute paths to what is there below `root`, links followed; nothing is opened.

    What cannot be reached is a KeyError with the reason for a text.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root)
        self._walks = _Walks[Place](self._root.rstrip("/"))

    def __getitem__(self, path: str) -> Place:
        seen = self._walks.end(path)
        if seen is not None:
            return seen
        try:
            walked = list(islice(trust.steps(path, self._root), _MOST_STEPS))
        except (OSError, ValueError) as error:
            raise KeyError(trust.unreachable(path, error)) from error
        if len(walked) == _MOST_STEPS:
            raise KeyError(f"{path!r} leads through {_MOST_STEPS} places or more")
        place = Place(walked[-1].path, trust.planted(walked))
        self._walks.keep(path, walked, place)
        return place

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


# A path with more steps than this, links followed, is nobody's honest one.
_MOST_STEPS: Final = 256
_MOST_TOLD: Final = 65536  # bytes; udev's longest records have a few thousand

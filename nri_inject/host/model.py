"""What a look at the host returns: device nodes, files, and why there is none."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

MAX_MAJOR: Final = 2**12 - 1
"""The greatest major number: MINORBITS in Linux's kdev_t.h leaves 12 bits for it."""
MAX_MINOR: Final = 2**20 - 1

DeviceType: TypeAlias = Literal["c", "b", "p"]


class DeviceNode(NamedTuple):
    """A node of the host: a character or block device, or a fifo (whose numbers are 0).

    `path` is the requested path, which may be a link; `mode` has the permission bits. `real` is the
    path without links, `links` are the links on the way to it, and `doubt` names the user besides
    root who could have put the node or a link there.
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
        """The key of a device: type, major and minor."""
        return self.type, self.major, self.minor


Number: TypeAlias = tuple[str, int, int]
"""A device's type, c or b, its major and its minor number."""


class HostPath(NamedTuple):
    """A file or directory of the host: its path without links, `doubt` and `links` as for a node.

    `writable_by` names the user besides root who could have written it. `on_procfs` says that the
    path leads through procfs. `identity` is the device number of its file system and its inode
    number: the kernel's own name for the file.
    """

    real: str
    doubt: str | None = None
    writable_by: str | None = None
    on_procfs: bool = False
    identity: tuple[int, int] = (0, 0)
    links: tuple[str, ...] = ()


class NotADevice(KeyError):
    """Say why something that is there is no device; a KeyError, as the mapping lacks it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


class ProcLinkError(KeyError):
    """Report that a path leads through a link on procfs."""

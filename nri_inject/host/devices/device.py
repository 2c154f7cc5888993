"""What is known of one device of the host: a value, some of it read when it is first requested."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")

Type: TypeAlias = Literal["c", "b"]
SysfsNumber: TypeAlias = tuple[Type, int, int]
"""Type, major and minor: what a node is to the kernel, whatever its path."""


class Later(Generic[T]):
    """A function without arguments; its result is computed at the first call, and then kept."""

    __slots__ = ("_function", "_value")

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self._value: T

    def __call__(self) -> T:
        """Return the result."""
        if self._function is not None:
            self._value = self._function()
            self._function = None
        return self._value


@dataclass(frozen=True, slots=True)
class Part:
    """A device of sysfs, with a node or without: one link in a device's chain of parents.

    `name` is the kernel's, such as ttyUSB0 or 1-2:1.0. `driver` is empty if none is bound.
    """

    name: str
    subsystem: str = ""
    devtype: str = ""
    driver: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Device:
    """A device with a node.

    `path` is the kernel's own name for the node, `links` are the other paths of it, such as
    those below /dev/serial/by-id. `syspath` begins with /devices; it is empty for a node that
    no driver stands behind. `properties` gives what udev knows; without udev, what the kernel
    says, and USB's own ids. `chain` gives the device itself and its parents, nearest first.
    """

    path: str
    type: Type
    major: int
    minor: int
    subsystem: str = ""
    devtype: str = ""
    syspath: str = ""
    links: tuple[str, ...] = ()
    properties: Callable[[], Mapping[str, str]] = field(default=dict, compare=False, repr=False)
    chain: Callable[[], tuple[Part, ...]] = field(default=tuple, compare=False, repr=False)

    @property
    def number(self) -> SysfsNumber:
        """Type, major and minor."""
        return self.type, self.major, self.minor

    @property
    def name(self) -> str:
        """The kernel's name, the last part of sysfs's path; that of the node without one."""
        return (self.syspath or self.path).rpartition("/")[2]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that leads to the node."""
        return self.path, *self.links

    @property
    def tags(self) -> list[str]:
        """The tags of udev, which libudev also gives as a property."""
        return [tag for tag in self.properties().get("TAGS", "").split(":") if tag]

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the device itself."""
        chain = self.chain()
        return chain[0].attributes.get(name) if chain else None

    def usb_device(self) -> Part | None:
        """Return the USB device that this is a function of: the nearest, not the hubs above."""
        return self._nearest("usb_device")

    def usb_interface(self) -> Part | None:
        """Return the interface of the USB device that this belongs to."""
        return self._nearest("usb_interface")

    def _nearest(self, devtype: str) -> Part | None:
        parts = (p for p in self.chain() if p.subsystem == "usb" and p.devtype == devtype)
        return next(parts, None)


_DIGITS: Final = re.compile("([0-9]+)")


def natural(path: str) -> tuple[tuple[str | int, ...], str]:
    """Return a key that puts paths in the order of people: ttyUSB2 before ttyUSB10."""
    pieces = _DIGITS.split(path)
    # Every second piece is digits, so text is never compared with a number.
    return tuple(int(p) if i % 2 else p for i, p in enumerate(pieces)), path

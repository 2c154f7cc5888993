"""The kernel's events for devices: a netlink socket, and its messages.

The socket listens to both groups of NETLINK_KOBJECT_UEVENT. The kernel's group works without udev
and in every network namespace of the initial user namespace; udev's message follows when its rules
have run, in the network namespace of its daemon. A message says only which device to read again, so
a forged one does no harm.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from nri_inject.host.devices.device import SysfsNumber
from nri_inject.host.devices.sysfs import is_syspath


@dataclass(frozen=True, slots=True)
class Uevent:
    """Something happened to the device at `syspath`, which has or had a number if it has a node."""

    syspath: str
    number: SysfsNumber | None = None


# <linux/netlink.h>, and the two groups as udev has them.
_NETLINK_KOBJECT_UEVENT: Final = 15
_KERNEL_AND_UDEV: Final = 0b11

_SO_RCVBUFFORCE: Final = 33  # <asm-generic/socket.h>; Python has no name for it
_BUFFER: Final = 4 << 20  # bytes; only what waits takes memory
_MAX_BYTES: Final = 1 << 16  # bytes of a message; the kernel's have 2 KiB (UEVENT_BUFFER_SIZE)
_MAX_EVENTS: Final = 4096  # messages at once; a computer that starts makes that many


class Uevents:
    """The messages that have come since they were last taken."""

    def __init__(self, connection: socket.socket) -> None:
        """Take messages from a connected socket; `listen` makes one."""
        self._socket = connection
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return a descriptor that can be read when there is a message."""
        return self._socket.fileno()

    def take(self) -> list[Uevent] | None:
        """Return what has happened, without waiting; None if that is too much, or some is lost."""
        events: list[Uevent] = []
        lost = False
        for _ in range(_MAX_EVENTS):
            try:
                event = parse(self._socket.recv(_MAX_BYTES))
            except BlockingIOError:
                return None if lost else events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if event is not None:
                events.append(event)
        return None

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()


def listen() -> Uevents:
    """Listen to kernel and udev; OSError where there is no such socket to be had."""
    connection = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT
    )
    with suppress(OSError):  # of those who may not, the buffer stays small
        connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    try:
        connection.bind((0, _KERNEL_AND_UDEV))
    except OSError:
        connection.close()
        raise
    return Uevents(connection)


# udev's message: b"libudev\0", a magic number, the header's size, where the properties begin.
# systemd's sd-device/device-monitor.c; the same since udev 150.
_UDEV: Final = b"libudev\0"
_OFFSET: Final = struct.Struct("=8x4x4xI")


def parse(data: bytes) -> Uevent | None:
    """Read one message of the kernel or of udev; None if it says nothing that we can use."""
    if data.startswith(_UDEV):
        if len(data) < _OFFSET.size:
            return None
        data = data[_OFFSET.unpack_from(data)[0] :]
    pairs = (line.partition("=") for line in data.decode(errors="replace").split("\0"))
    facts = {key: value for key, _, value in pairs}
    syspath = facts.get("DEVPATH", "")
    return Uevent(syspath, _number(facts)) if is_syspath(syspath) else None


def _number(facts: Mapping[str, str]) -> SysfsNumber | None:
    try:
        major, minor = int(facts["MAJOR"]), int(facts["MINOR"])
    except (KeyError, ValueError):
        return None
    return "b" if facts.get("SUBSYSTEM") == "block" else "c", major, minor

"""Loop devices that are plugged in and unplugged: the kernel makes them, their nodes and events."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

MAJOR: Final = 7
FIRST: Final = 160
"""Numbers from here on are the tests' own; the machine has the first few."""

_ADD: Final = 0x4C80  # <linux/loop.h>, LOOP_CTL_ADD
_REMOVE: Final = 0x4C81  # LOOP_CTL_REMOVE


class Loops:
    """The loop devices of a test, by number."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._present: set[int] = set()

    def plug(self, number: int) -> str:
        """Have the kernel add a loop device, and return the path of its node."""
        fcntl.ioctl(self._control, _ADD, number)
        self._present.add(number)
        return f"/dev/loop{number}"

    def unplug(self, number: int) -> None:
        """Have the kernel remove a loop device."""
        fcntl.ioctl(self._control, _REMOVE, number)
        self._present.discard(number)

    def unplug_all(self) -> None:
        """Remove what is left."""
        for number in list(self._present):
            with suppress(OSError):
                self.unplug(number)


@contextmanager
def loops() -> Iterator[Loops]:
    """Open the kernel's control of loop devices."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    made = Loops(control)
    try:
        yield made
    finally:
        made.unplug_all()
        os.close(control)

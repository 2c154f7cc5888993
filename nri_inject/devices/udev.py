"""What udev knows of a device, by pyudev, which is loaded when somebody first asks.

Only its database is read this way: it has no other documented door. Devices are enumerated by
`sysfs` and events come by `uevents`, which work on hosts and in containers without udev, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from nri_inject.devices.device import Described

DATABASE = "/run/udev/data"
"""Where the daemon keeps what it knows; looked at only to see that something has changed."""


def describe(syspath: str) -> Described | None:
    """Return the properties and tags of a device that is there; None without libudev or device."""
    pyudev = library()
    if pyudev is None:
        return None
    try:
        device = pyudev.Devices.from_sys_path(_context(), f"/sys{syspath}")
        return Described(dict(device.properties), frozenset(device.tags))
    except (pyudev.DeviceNotFoundError, OSError, UnicodeError):
        return None


@cache
def library() -> Any:
    """Return pyudev; None where it, or libudev, is not installed."""
    try:
        import pyudev
    except ImportError:
        return None
    return pyudev


@cache
def _context() -> Any:
    return library().Context()

"""The properties of a device in udev's database, read by pyudev, which is loaded at first use.

Only the database is read this way, as it has no other documented interface. `sysfs` lists devices
and `uevents` receives events; both work on hosts and in containers without udev, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

DATABASE: Final = "/run/udev/data"
"""Where the daemon keeps what it knows; looked at only to see that something has changed."""


def properties(syspath: str) -> Mapping[str, str]:
    """Return the properties of a device; none without libudev, or when the device has gone."""
    pyudev = library()
    if pyudev is None:
        return {}
    try:
        return dict(pyudev.Devices.from_sys_path(_context(), f"/sys{syspath}").properties)
    except (pyudev.DeviceNotFoundError, OSError, UnicodeError):
        return {}


@cache
def library() -> Any:
    """Return pyudev; None where it, or libudev, is not installed."""
    try:
        import pyudev

        pyudev.Context()  # loads libudev
    except ImportError:
        return None
    return pyudev


@cache
def _context() -> Any:
    return library().Context()

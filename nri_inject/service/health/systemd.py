"""Status notifications to systemd: sd_notify(3) and the watchdog, as its manual pages define them.

One datagram to the socket in NOTIFY_SOCKET. The watchdog is a timer of the kernel, a descriptor
like any other, so the loop that answers the runtime is the one that proves to be alive.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from nri_inject.service.health.timer import EXPIRATIONS, timer


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send assignments such as `READY=1`; return whether a service manager received them.

    Never waits and never fails; it does nothing without a service manager.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(message.encode(), address)
        except OSError:
            return False
    return True


def watchdog_pause(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the pause between two watchdog messages, in seconds; None if there is no watchdog.

    Half of the manager's limit, as sd_watchdog_enabled(3) recommends.
    """
    text = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID") or str(os.getpid())
    if not (text.isascii() and text.isdigit()) or int(text) == 0 or meant != str(os.getpid()):
        return None
    return int(text) / 2_000_000


class Watchdog:
    """Say `WATCHDOG=1` every `pause` seconds, for as long as a loop watches this."""

    def __init__(self, pause: float) -> None:
        self._descriptor = timer(pause)

    def fileno(self) -> int:
        """Return the timer's descriptor."""
        return self._descriptor

    def ready(self) -> None:
        """Tell the manager."""
        os.read(self._descriptor, EXPIRATIONS)
        notify("WATCHDOG=1")

    def close(self) -> None:
        """Give the timer back."""
        os.close(self._descriptor)

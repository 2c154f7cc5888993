"""A timer of the kernel, a descriptor that a loop can wait for: timerfd_create(2)."""

from __future__ import annotations

import ctypes
import os
from typing import Final

EXPIRATIONS: Final = 8
"""How many bytes to read of a timer that has expired."""

_CLOCK_MONOTONIC: Final = 1  # <time.h>


def timer(pause: float) -> int:
    """Return a timerfd that expires every `pause` seconds (os has them from Python 3.13 on)."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = os.O_CLOEXEC | os.O_NONBLOCK  # TFD_CLOEXEC and TFD_NONBLOCK are the same bits
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, flags))
    seconds, nanoseconds = divmod(max(int(pause * 1e9), 1), 1_000_000_000)
    # struct itimerspec: every so often, and so long before the first time.
    times = (ctypes.c_long * 4)(seconds, nanoseconds, seconds, nanoseconds)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(times), None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor

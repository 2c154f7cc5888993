"""What the parent asks of the kernel: sockets and processes, without waiting."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

from nri_inject.service.base import CRASHED, FAULTY, MISUSED

log = logging.getLogger(__name__)

_MORE: Final = 50  # in thousandths of the node's memory
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def received(connection: socket.socket | None) -> bytes | None:
    """Return what is there; None if nothing is, empty at the end of the connection."""
    if connection is None:
        return None
    try:
        return connection.recv(1 << 16)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def send(connection: socket.socket, queue: deque[bytes | memoryview]) -> bool:
    """Send from a queue what the socket takes; tell whether that is all."""
    while queue:
        try:
            sent = connection.send(queue[0], socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # the other side has gone, which the next read tells
            queue.clear()
            return True
        if sent == len(queue[0]):
            queue.popleft()
        else:
            queue[0] = memoryview(queue[0])[sent:]
    return True


def adopted(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor that this program was started with."""
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    return connection


def status_of(pid: int) -> int | None:
    """Return the exit status of a child that has ended, negative for a signal; None otherwise."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return CRASHED  # somebody else has waited for it
    return os.waitstatus_to_exitcode(status) if ended else None


def ended_within(pid: int, seconds: float) -> int | None:
    """Return the same of a child that is ending, for which the kernel may need a moment."""
    until = time.monotonic() + seconds
    while (status := status_of(pid)) is None and time.monotonic() < until:
        time.sleep(0.0005)
    return status


def words(status: int | None) -> str:
    """Say how a process has ended."""
    if status is None:
        return "closed its connection"
    if status in (FAULTY, MISUSED):
        return "cannot use its options or its configuration"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"was killed by signal {-status}"


def say(level: int, text: str) -> None:
    """Log, unless standard error is a pipe that nobody reads: the parent must not wait."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if poll.poll(0):
        log.log(level, "%s", text)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, or end if it has ended already.

    Without its parent a worker has no connection; one that hangs would not notice.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit


def be_the_first_to_go() -> None:
    """Have the kernel end this process rather than its parent when memory runs out: proc(5).

    Both count the pages that they share, so it might take either.
    """
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        path.write_text(str(min(int(path.read_text()) + _MORE, 1000)))

"""The worker as a process: forked from the parent, watched, and killed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, NoReturn, Protocol

from nri_inject.service.base import CRASHED
from nri_inject.service.parent.system import (
    be_the_first_to_go,
    die_with_parent,
    ended_within,
    status_of,
    words,
)
from nri_inject.service.parent.trial import UPGRADE

log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.05
"""Seconds until a worker is started again where that failed, or where none lives long."""

_SHORT_LIFE: Final = 1.0  # seconds; a worker that lives no longer is not replaced at once for ever
_MAX_DELAY: Final = 10.0


class WorkerProgram(Protocol):
    """What a worker does; returns its exit status."""

    def __call__(self, held: Sequence[socket.socket], *, resumes: bool, failures: int) -> int:
        """Serve on connections.

        With `resumes` the runtime has told a worker before this one what exists. `failures` counts
        the workers so far that died or hung.
        """

    def saved(self) -> Mapping[str, Any]:
        """Return what workers share, as values of JSON."""

    def upgraded(self, fault: str) -> None:
        """Note the end of an upgrade, and why it failed, if it did."""


class WorkerProcess:
    """One worker at a time. `pid` is 0 while there is none.

    `status` is the exit status of the last one, negative for a signal; None while it runs, and if
    it was given up. `unreaped` are the processes that still have to end.
    """

    def __init__(self, unreaped: Iterable[int]) -> None:
        self.pid = 0
        self.status: int | None = None
        self.unreaped = list(unreaped)
        self._last_pid = 0
        self._started = 0.0
        self._short_lives = 0

    def fork(
        self, count: int, run: Callable[[Sequence[socket.socket]], int]
    ) -> list[socket.socket]:
        """Start a worker that calls `run` with so many sockets; return their other ends.

        Raises OSError if the node lacks memory, processes or descriptors.
        """
        self.unreaped = [pid for pid in self.unreaped if status_of(pid) is None]
        self._started = time.monotonic()
        pairs: list[tuple[socket.socket, socket.socket]] = []
        parent = os.getpid()
        try:
            pairs += [socket.socketpair() for _ in range(count)]
            pid = os.fork()
        except OSError:
            for one in chain(*pairs):
                one.close()
            raise
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if pid == 0:
            _be_worker(parent, ours, partial(run, theirs))
        self.pid, self.status = pid, None
        for one in theirs:
            one.close()
        return ours

    def signal(self, number: int) -> None:
        """Send the worker a signal, if there is one."""
        if self.pid:
            os.kill(self.pid, number)

    def has_ended(self, within: float = 0.0) -> bool:
        """Tell whether there is no worker, or none after so many seconds."""
        if self.pid and (status := ended_within(self.pid, within)) is not None:
            self._forget(status)
        return not self.pid

    def give_up(self) -> None:
        """Kill a worker without waiting: the kernel may be busy with it."""
        if self.pid:
            self.signal(signal.SIGKILL)
            self.unreaped.append(self.pid)
            self._forget(None)

    def _forget(self, status: int | None) -> None:
        self.status, self._last_pid, self.pid = status, self.pid, 0

    def end_in_words(self, why: str) -> str:
        """Say how the last worker ended, or with `why` for what it was killed."""
        return f"worker {self._last_pid} {why or words(self.status)}"

    def delay(self) -> float:
        """Return the seconds until the next one may start: more than 0 if several died soon."""
        is_short = time.monotonic() - self._started < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives < 2:
            return 0.0
        return min(FIRST_DELAY * 2.0 ** min(self._short_lives, 10), _MAX_DELAY)


def _be_worker(parent: int, others: Iterable[socket.socket], run: Callable[[], int]) -> NoReturn:
    status = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(UPGRADE, signal.SIG_IGN)
        die_with_parent(parent)
        be_the_first_to_go()
        for other in others:
            other.close()
        status = run()
    except BaseException:  # whatever it is, nothing may run on as if it were the parent
        log.exception("the worker failed")
    finally:
        try:
            logging.shutdown()
            sys.stdout.flush()
        finally:
            os._exit(status)

"""The parent as a process: it forks workers, waits for them and for the runtime, and moves bytes.

It imports nothing after the first fork, opens no file, and writes to the log only where that does
not wait. What it decides is in `relay`.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, Protocol

from nri_inject.service.base import CRASHED, FAILED, FAULTY, LOST, MISUSED, status_outside
from nri_inject.service.health.systemd import notify, watchdog_pause
from nri_inject.service.parent.link import Link
from nri_inject.service.parent.system import (
    be_the_first_to_go,
    die_with_parent,
    say,
    status_of,
    words,
)
from nri_inject.stub.dial import APPEARED_PAUSE, Appearance, dial, pauses
from nri_inject.stub.limits import DEFAULT_LIMITS, Limits
from nri_inject.stub.loop import Loop

log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""How long a worker may take to end, in seconds: it sends and writes what it still holds."""

_BURIAL: Final = 0.01  # seconds for the kernel to end a process that has closed its descriptors
_TIMES: Final = ("restart", "look", "handshake", "ping")
_TICK: Final = 0.02  # seconds between two looks at the clock while a request waits
_LOOK: Final = 0.01  # seconds between two looks at a worker that is about to end
_SHORT_LIFE: Final = 1.0  # seconds; a worker that lives no longer is not replaced at once for ever
_FIRST_DELAY: Final = 0.05
_MAX_DELAY: Final = 10.0


class WorkerProgram(Protocol):
    """What a worker does; returns its exit status."""

    def __call__(self, held: Sequence[socket.socket], *, resumes: bool, failures: int) -> int:
        """Serve on connections.

        With `resumes` the runtime has told a worker before this one what exists. `failures` counts
        the workers so far that died or hung.
        """


class Parent:
    """Hold `count` connections to a runtime, and keep a worker that serves them.

    `given` is the connection of a runtime that launched us; without it `socket_path` is dialled,
    again whenever the connection is lost. Before requests are read, `note_quiet` gets the moment at
    which there were none. `run` returns the exit status of the process.
    """

    def __init__(
        self,
        work: WorkerProgram,
        title: str,
        *,
        given: socket.socket | None = None,
        socket_path: str = "",
        count: int = 1,
        limits: Limits = DEFAULT_LIMITS,
        note_quiet: Callable[[float], object] = bool,
    ) -> None:
        self._work = work
        self._title = title
        self._given = given
        self._path = socket_path
        self._count = count
        self._limits = limits
        self._note_quiet = note_quiet
        self._pauses = pauses(limits.first_pause, limits.max_pause)
        self._appearance: Appearance | None = None
        self._loop = Loop(on_wake=lambda: None)
        self._links: list[Link] = []
        self._pid = 0
        self._status: int | None = None
        self._failures = 0
        self._is_over = False
        self._has_served = False
        self._unburied: list[int] = []
        self._started = 0.0
        self._short_lives = 0
        self._last_pid = 0
        self._times = dict.fromkeys(_TIMES, math.inf)
        self._next_time = math.inf
        self._ping_pause = watchdog_pause()
        if self._ping_pause is not None:
            self._set_time("ping", 0.0)

    def run(self) -> int:
        """Serve until the runtime, a signal or the worker's own wish ends it."""
        gc.freeze()  # a collection in a worker would copy the pages that all of them share
        try:
            with self._loop.stopped_by_signals():
                if self._given is None:
                    return status_outside(self._serve_and_reconnect())
                self._begin()
                self._attach([self._given])
                return status_outside(self._serve())
        finally:
            notify("STOPPING=1")
            self._loop.close()

    # --- connections ------------------------------------------------------------------------------

    def _serve_and_reconnect(self) -> int:
        reason = ""
        while True:
            self._begin()
            if sockets := self._dialled(reason):
                self._attach(sockets)
            status = self._serve()
            if self._is_synchronized:
                self._has_served = True
                self._pauses = pauses(self._limits.first_pause, self._limits.max_pause)
            is_final = status in (FAILED, FAULTY, MISUSED) and not self._has_served
            if self._loop.stopping or is_final or (status == 0 and self._wants_to_end):
                return status
            reason = f"lost the connection to {self._path}"

    def _dialled(self, reason: str) -> list[socket.socket]:
        """Dial until all connections are made, and return them; none when it is over before.

        With a reason there is a pause before the first attempt, too.
        """
        with self._loop.watching(Appearance(self._path)) as appearance:
            self._appearance = appearance
            while True:
                self._await_worker()
                if reason:
                    self._pause(reason, appearance)
                if self._loop.stopping or self._is_over:
                    return []
                try:
                    return dial(self._path, self._count, self._limits.connect_timeout)
                except OSError as error:
                    reason = f"cannot connect to {self._path}: {error.strerror or error}"

    def _await_worker(self) -> None:
        """Wait until the worker has registered: a runtime gives a connection 5 s to do so."""
        while not (self._loop.stopping or self._is_over):
            if all(link.relay.is_registered for link in self._links):
                break
            self._turn(math.inf)

    def _pause(self, reason: str, appearance: Appearance) -> None:
        """Wait, but not longer than until a runtime may have made its socket."""
        pause = next(self._pauses)
        say(logging.WARNING, f"{reason}; reconnecting in {pause:.1f} s")
        until = time.monotonic() + pause
        while not self._is_ending and not appearance.seen() and time.monotonic() < until:
            self._turn(until)
        if appearance.seen():
            appearance.forget()
            self._pauses = pauses(APPEARED_PAUSE, self._limits.max_pause)

    @property
    def _is_ending(self) -> bool:
        return self._loop.stopping or self._is_over

    def _begin(self) -> None:
        """Make new relays and a worker that registers with them."""
        self._links = [Link(self._title, self._loop, self) for _ in range(self._count)]
        self._status = None
        self._is_over = self._wants_to_end = False
        self._set_time("handshake", math.inf)
        self._start_worker()

    def _attach(self, sockets: Sequence[socket.socket]) -> None:
        """Let the relays talk to the runtime."""
        self._set_time("handshake", time.monotonic() + self._limits.handshake_timeout)
        for link, connection in zip(self._links, sockets, strict=True):
            link.attach_runtime(connection)

    def _serve(self) -> int:
        """Serve until the end; then end the worker, and return its exit status."""
        while not (self._is_over or self._loop.stopping):
            self._turn(math.inf)
        return self._finish()

    def _turn(self, until: float) -> None:
        """Wait for whatever comes next, at most until then, and act on it."""
        now = time.monotonic()
        pause = _TICK if self._waits else self._longest_wait
        until = min(until, self._next_time, now + pause)
        self._loop.turn(max(until - now, 0.0))
        if time.monotonic() >= until:
            self._expire()

    def _set_time(self, what: str, when: float) -> None:
        """Set when something is to be done; infinity for never."""
        self._times[what] = when
        self._next_time = min(self._times.values())

    def _expire(self) -> None:
        now = time.monotonic()
        for link in self._links:
            if why := link.relay.expire(now):
                link.flush()
                self._kill(why)
        if now >= self._times["restart"]:
            self._start_worker()
        if now >= self._times["look"]:
            self._look()
        if now >= self._times["handshake"]:
            self._check_handshake()
        if self._ping_pause is not None and now >= self._times["ping"]:
            self._set_time("ping", now + self._ping_pause)
            notify("WATCHDOG=1")

    def _check_handshake(self) -> None:
        """End a connection on which the runtime has called nothing; some leave it open."""
        self._set_time("handshake", math.inf)
        if self._is_synchronized:
            return
        seconds = f"{self._limits.handshake_timeout:.0f} s"
        say(logging.WARNING, f"the runtime did not finish the NRI handshake within {seconds}")
        self._is_over = True

    def _finish(self) -> int:
        """End the worker, send what it has still answered, and close everything."""
        is_without = not (self._pid or self._wants_to_end)
        if self._pid and self._loop.stopping:
            os.kill(self._pid, signal.SIGTERM)
        elif self._pid:
            for link in self._links:
                link.hang_up()
        self._is_over = True
        until = time.monotonic() + GRACE
        while not self._has_ended() and time.monotonic() < until:
            self._loop.turn(GRACE if self._links[0].has_worker else _LOOK)
        if self._pid:
            self._kill("did not end")
        for link in self._links:
            link.close(self._limits.drain_timeout)
        is_killed = self._status is None or self._status < 0
        if is_without or (is_killed and self._loop.stopping):
            return 0
        return CRASHED if self._status is None or is_killed else self._status

    # --- what the links report --------------------------------------------------------------------

    def runtime_has_data(self) -> None:
        """Tell the worker since when the request may have waited: this process may have slept."""
        self._note_quiet(self._loop.quiet_until)

    def runtime_ended(self) -> None:
        """End what was served on this connection."""
        self._is_over = True

    def worker_left(self) -> None:
        """Look how the worker ends."""
        self._worker_left("")

    def worker_is_broken(self, why: str) -> None:
        """Kill it."""
        self._kill(f"broke the protocol: {why}")

    def worker_is_missing(self) -> None:
        """Have a worker for a request that has just come: none lives, or one is about to end."""
        if self._pid:
            self._bury("")
        else:
            self._start_worker()

    # --- the worker -------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        self._set_time("restart", math.inf)
        self._unburied = [pid for pid in self._unburied if status_of(pid) is None]
        self._started = now = time.monotonic()
        pairs: list[tuple[socket.socket, socket.socket]] = []
        parent = os.getpid()
        try:
            pairs += [socket.socketpair() for _ in self._links]
            pid = os.fork()
        except OSError as error:  # the node lacks memory, processes or descriptors
            for one in chain(*pairs):
                one.close()
            say(logging.ERROR, f"cannot start a worker: {error.strerror}")
            self._set_time("restart", now + _FIRST_DELAY)
            return
        if pid == 0:
            self._be_worker(parent, [pair[1] for pair in pairs], [pair[0] for pair in pairs])
        self._pid = pid
        for link, (ours, theirs) in zip(self._links, pairs, strict=True):
            theirs.close()
            link.attach_worker(ours)

    def _be_worker(
        self, parent: int, own: Sequence[socket.socket], others: Sequence[socket.socket]
    ) -> None:
        """Be the worker, and never return."""
        status = CRASHED
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            die_with_parent(parent)
            be_the_first_to_go()
            self._loop.close()
            if self._appearance is not None:
                self._appearance.close()
            for link in self._links:
                link.close_copies()
            for other in others:
                other.close()
            status = self._work(own, resumes=self._is_synchronized, failures=self._failures)
        except BaseException:  # whatever it is, nothing may run on as if it were the parent
            log.exception("the worker failed")
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(status)

    @property
    def _is_synchronized(self) -> bool:
        """Whether the handshake is over. Runtimes before NRI 0.7 configure what they launch."""
        relays = [link.relay for link in self._links]
        return all(r.synchronized or (self._given and r.configured) for r in relays)

    @property
    def _longest_wait(self) -> float:
        """How long the loop may wait, for `quiet_until` to say something: a part of a deadline."""
        return min(link.relay.timeout for link in self._links) / 4

    @property
    def _waits(self) -> bool:
        return any(link.relay.waits for link in self._links)

    def _kill(self, why: str) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._worker_left(why)

    def _worker_left(self, why: str) -> None:
        """Close the sockets of a worker that has closed its own, or is killed since it `why`."""
        for link in self._links:
            link.detach_worker()
        until = time.monotonic() + _BURIAL
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(0.0005)
        is_finishing = self._is_over or self._loop.stopping
        if self._pid and not why and (is_finishing or not self._waits):
            self._set_time("look", time.monotonic())  # it may write what it still has, and end
            return
        self._bury(why)

    def _look(self) -> None:
        """Look whether a worker that has closed its connections has ended."""
        if self._has_ended() or self._waits:
            self._bury("")
        else:
            self._set_time("look", time.monotonic() + _LOOK)

    def _has_ended(self) -> bool:
        if self._pid and (status := status_of(self._pid)) is not None:
            self._status, self._last_pid, self._pid = status, self._pid, 0
        return not self._pid

    def _bury(self, why: str) -> None:
        """Give up the worker; unless it was to end, let another one take its place."""
        self._set_time("look", math.inf)
        if self._pid:  # it goes on without connections, or the kernel is busy with it
            os.kill(self._pid, signal.SIGKILL)
            self._unburied.append(self._pid)
            self._status, self._last_pid, self._pid = None, self._pid, 0
        if self._is_over or self._loop.stopping:
            return
        relays = [link.relay for link in self._links]
        in_handshake = not self._is_synchronized
        if not why and (self._status == 0 or (in_handshake and self._status in _TOLD)):
            self._wants_to_end = self._is_over = True
            return
        how = f"worker {self._last_pid} {why or words(self._status)}"
        during = ", ".join(filter(None, (relay.pending_request() for relay in relays)))
        say(logging.ERROR, f"{how}{f' in {during}' if during else ''}; another one takes over")
        self._failures += 1
        for relay in relays:
            relay.worker_ended(how)
        if any(relay.lost for relay in relays):
            self._is_over = True
            return
        self._replace()
        for link in self._links:
            link.flush()

    def _replace(self) -> None:
        """Start another worker: at once if something waits, and later if none lives long."""
        now = time.monotonic()
        self._short_lives = self._short_lives + 1 if now - self._started < _SHORT_LIFE else 0
        if self._waits or self._short_lives < 2:
            self._start_worker()
            return
        delay = min(_FIRST_DELAY * 2 ** min(self._short_lives, 10), _MAX_DELAY)
        self._set_time("restart", now + delay)


_TOLD: Final = frozenset({FAILED, FAULTY, MISUSED, LOST})
"""The statuses of a worker that has logged why it can't be of use."""

"""The parent as a process: it forks workers, waits for them and for the runtime, and moves bytes.

It imports nothing after the first fork, opens no file of a disk, and writes to the log only where
that does not wait. What it decides is in `relay`.
"""

from __future__ import annotations

import enum
import gc
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nri_inject.service.base import CRASHED, FAILED, FAULTY, LOST, MISUSED, status_outside
from nri_inject.service.health.systemd import notify, watchdog_pause
from nri_inject.service.parent.handover import Handover
from nri_inject.service.parent.link import Link, Links
from nri_inject.service.parent.relay import Relay
from nri_inject.service.parent.system import adopted, say
from nri_inject.service.parent.trial import UPGRADE
from nri_inject.service.parent.upgrade import Upgrades
from nri_inject.service.parent.worker import FIRST_DELAY, WorkerProcess, WorkerProgram
from nri_inject.stub.dial import Dialler
from nri_inject.stub.limits import DEFAULT_LIMITS, Limits
from nri_inject.stub.loop import Loop

log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""How long a worker may take to end, in seconds: it sends and writes what it still holds."""

_BURIAL: Final = 0.01  # seconds for the kernel to end a process that has closed its descriptors
_TIMES: Final = ("restart", "look", "handshake", "ping")
_TICK: Final = 0.02  # seconds between two looks at the clock while a request waits
_LOOK: Final = 0.01  # seconds between two looks at a worker that is about to end
_MAX_ENDING: Final = 0.5  # seconds in which a worker must end before an upgrade: requests wait


class ParentPhase(enum.Enum):
    """What follows the end of a worker, unless the process is to stop: then nothing does."""

    SERVING = "another worker"
    ENDING = "the end of this conversation, or an upgrade, which ends the worker"
    RESIGNED = "the end of this conversation: the worker ended by itself, with a reason"


class Parent:
    """Hold `count` connections to a runtime, and keep a worker that serves them.

    `given` is the connection of a runtime that launched us; without it `socket_path` is dialled,
    again whenever the connection is lost. Before requests are read, `note_quiet` gets the moment at
    which there were none. `handed` is what another version has left, and `relays` are its
    conversations. `run` returns the exit status of the process.
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
        handed: Handover | None = None,
        relays: Sequence[Relay] = (),
    ) -> None:
        self._work = work
        self._title = title
        self._given = given
        self._count = count
        self._limits = limits
        self._note_quiet = note_quiet
        self._loop = Loop(on_wake=lambda: None)
        warn = partial(say, logging.WARNING)
        self._dialler = Dialler(socket_path, limits, self._loop, warn=warn, sleep=self._sleep)
        self.links = Links((), is_launched=given is not None)
        self._phase = ParentPhase.SERVING
        self._upgrades = Upgrades(self._loop, self)
        self._handed = handed
        self._relays = relays
        self._failures = handed.failures if handed else 0
        self._has_served = handed.has_served if handed else False
        self._worker = WorkerProcess(handed.children if handed else ())
        self._times = dict.fromkeys(_TIMES, math.inf)
        self._next_time = math.inf
        self._ping_pause = watchdog_pause()
        if self._ping_pause is not None:
            self._set_time("ping", 0.0)

    def run(self) -> int:
        """Serve until the runtime, a signal or the worker's own wish ends it."""
        gc.freeze()  # a collection in a worker would copy the pages that all of them share
        try:
            with self._loop.stopped_by_signals({UPGRADE: self._upgrades.ask}):
                if self._handed is not None:
                    say(logging.INFO, f"took over from version {self._handed.program}")
                if self._given is None:
                    return status_outside(self._serve_and_reconnect())
                self._begin()
                self._attach([self._given])
                return status_outside(self._serve())
        finally:
            notify("STOPPING=1")
            self._upgrades.close()
            self._loop.close()

    # --- connections ------------------------------------------------------------------------------

    def _serve_and_reconnect(self) -> int:
        is_lost = False
        while True:
            self._begin()
            if sockets := self._inherited() or self._dialler.dialled(self._count, again=is_lost):
                self._attach(sockets)
            status = self._serve()
            if self.links.is_synchronized:
                self._has_served = True
                self._dialler.succeeded()
            if self._loop.stopping or self._is_final(status):
                return status
            is_lost = True

    def _is_final(self, status: int | None) -> bool:
        """Tell whether a worker that ended so needs no other: it was to end, or can't begin."""
        if status == 0:
            return self._phase is ParentPhase.RESIGNED
        return status in (FAILED, FAULTY, MISUSED) and not self._has_served

    def _inherited(self) -> list[socket.socket]:
        """Return the connections that another version has left, once."""
        return [] if self._handed is None else list(map(adopted, self._handed.descriptors))

    def _sleep(self, seconds: float, until: Callable[[], bool]) -> bool:
        """Wait for the worker to register, then so long; return whether to dial.

        A runtime gives a connection 5 s to register. A worker that ends meanwhile does not end the
        pause: the next one may end as soon.
        """
        while not self._is_ending and not self.links.are_registered:
            self._turn(math.inf)
        end = time.monotonic() + seconds
        while not (self._loop.stopping or until() or time.monotonic() >= end):
            if self._is_final(self._worker.status):
                break
            self._turn(end)
        return not self._is_ending

    @property
    def _is_ending(self) -> bool:
        return self._loop.stopping or self._phase is not ParentPhase.SERVING

    def _begin(self) -> None:
        """Make new relays and a worker that registers with them."""
        relays = self._relays or [Relay(self._title) for _ in range(self._count)]
        links = [Link(relay, self._loop, self) for relay in relays]
        self.links = Links(links, is_launched=self._given is not None)
        self._relays = ()
        self._phase = ParentPhase.SERVING
        self._set_time("handshake", math.inf)
        self._start_worker()

    def _attach(self, sockets: Sequence[socket.socket]) -> None:
        """Let the relays talk to the runtime."""
        self._set_time("handshake", time.monotonic() + self._limits.handshake_timeout)
        since = None
        if self._handed is not None:
            self._note_quiet(since := self._handed.since)
            self._handed = None
        for link, connection in zip(self.links, sockets, strict=True):
            link.attach_runtime(connection, since)

    def _serve(self) -> int:
        """Serve until the end; then end the worker, and return its exit status."""
        while not self._is_ending:
            self._turn(math.inf)
        return self._finish()

    def _turn(self, until: float) -> None:
        """Wait for whatever comes next, at most until then, and act on it."""
        now = time.monotonic()
        # The loop's `quiet_until` must say something: it waits for a part of a deadline.
        pause = _TICK if self.links.waits else self.links.timeout / 4
        until = min(until, self._next_time, self._upgrades.next_look, now + pause)
        self._loop.turn(max(until - now, 0.0))
        if time.monotonic() >= until:
            self._expire()
        self._upgrades.advance()

    def _set_time(self, what: str, when: float) -> None:
        """Set when something is to be done; infinity for never."""
        self._times[what] = when
        self._next_time = min(self._times.values())

    def _expire(self) -> None:
        now = time.monotonic()
        for link in self.links:
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
        if self.links.is_synchronized:
            return
        seconds = f"{self._limits.handshake_timeout:.0f} s"
        say(logging.WARNING, f"the runtime did not finish the NRI handshake within {seconds}")
        self._end()

    def _end(self) -> None:
        """End the conversation, unless the worker has done so."""
        if self._phase is ParentPhase.SERVING:
            self._phase = ParentPhase.ENDING

    def _finish(self) -> int:
        """End the worker, send what it has still answered, and close everything."""
        worker = self._worker
        is_without = not (worker.pid or self._phase is ParentPhase.RESIGNED)
        if worker.pid and not self._loop.stopping:
            for link in self.links:
                link.hang_up()
        self._end_worker(GRACE, by_signal=self._loop.stopping)
        for link in self.links:
            link.close(self._limits.drain_timeout)
        is_killed = worker.status is None or worker.status < 0
        if is_without or (is_killed and self._loop.stopping):
            return 0
        return CRASHED if worker.status is None or is_killed else worker.status

    def _end_worker(self, seconds: float, *, by_signal: bool) -> None:
        """Let the worker end, and read what it still sends."""
        self._end()
        if by_signal:
            self._worker.signal(signal.SIGTERM)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._worker.has_ended():
            self._loop.turn(seconds if self.links.have_worker else _LOOK)
        self._kill("did not end")
        self._detach_worker()

    # --- an upgrade -------------------------------------------------------------------------------

    @property
    def may_hand_over(self) -> bool:
        """Whether this is a moment without requests."""
        return self.links.is_quiet and not self._is_ending

    def saved(self, since: float = 0.0) -> tuple[Handover, list[socket.socket]]:
        """Return what another version needs, and the connections that it gets."""
        relays, connections = self.links.saved()
        handover = Handover(
            since=since,
            relays=relays,
            descriptors=[connection.fileno() for connection in connections],
            children=self._worker.unreaped,
            failures=self._failures,
            has_served=self._has_served or bool(relays),
            is_launched=self._given is not None,
            life=self._work.saved(),
        )
        return handover, connections

    def upgrade_failed(self, fault: str) -> None:
        """Note why this version goes on."""
        self._work.upgraded(fault)

    def leave(self, children: Sequence[int]) -> None:
        """Wait for these processes some time."""
        self._worker.unreaped += children

    def hand_over(self, replace: Callable[[Handover, Sequence[socket.socket]], str]) -> str:
        """End the worker and become another version; if that fails, go on, and return why."""
        since = time.monotonic()
        for link in self.links:
            link.hold()
        try:
            self._end_worker(_MAX_ENDING, by_signal=True)
            for link in self.links:
                link.drain(_MAX_ENDING)
                link.relay.worker_ended("")
            if self._loop.stopping or not self.links.is_quiet:
                return "the runtime does not read what it is sent, or the plugin is to end"
            self._work.upgraded("")
            return replace(*self.saved(since))
        finally:
            self._phase = ParentPhase.SERVING
            if not self._loop.stopping:
                self._start_worker()
            for link in self.links:
                link.release()

    # --- what the links report --------------------------------------------------------------------

    def runtime_has_data(self) -> None:
        """Tell the worker since when the request may have waited: this process may have slept."""
        self._note_quiet(self._loop.quiet_until)

    def runtime_ended(self) -> None:
        """End what was served on this connection."""
        self._end()

    def worker_left(self) -> None:
        """Look how the worker ends, which may still write what it has."""
        self._worker.has_ended(_BURIAL)
        if self._worker.pid and (self._is_ending or not self.links.waits):
            self._set_time("look", time.monotonic())
        else:
            self._bury("")

    def worker_is_broken(self, why: str) -> None:
        """Kill it."""
        self._kill(f"broke the protocol: {why}")

    def worker_is_missing(self) -> None:
        """Have a worker for a request that has just come: none lives, or one is about to end."""
        if self._worker.pid:
            self._bury("")
        else:
            self._start_worker()

    # --- the worker -------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        for what in ("restart", "look"):
            self._set_time(what, math.inf)
        try:
            sockets = self._worker.fork(len(self.links), self._be_worker)
        except OSError as error:
            say(logging.ERROR, f"cannot start a worker: {error.strerror}")
            self._set_time("restart", time.monotonic() + FIRST_DELAY)
            return
        for link, connection in zip(self.links, sockets, strict=True):
            link.attach_worker(connection)

    def _be_worker(self, own: Sequence[socket.socket]) -> int:
        """Close what is the parent's, in the worker, and serve."""
        self._loop.close()
        self._dialler.close_copies()
        for link in self.links:
            link.close_copies()
        return self._work(own, resumes=self.links.is_synchronized, failures=self._failures)

    def _detach_worker(self, *, reads: bool = True) -> None:
        for link in self.links:
            link.detach_worker(reads=reads)

    def _kill(self, why: str) -> None:
        if self._worker.pid:
            self._worker.signal(signal.SIGKILL)
            self._worker.has_ended(_BURIAL)
            self._bury(why)

    def _look(self) -> None:
        """Look whether a worker that has closed its connections has ended."""
        if self._worker.has_ended() or self.links.waits:
            self._bury("")
        else:
            self._set_time("look", time.monotonic() + _LOOK)

    def _bury(self, why: str) -> None:
        """Give up the worker, killed since it `why`; let another one take its place if it should.

        The answers of a worker that has ended by itself count.
        """
        self._set_time("look", math.inf)
        self._worker.give_up()
        self._detach_worker(reads=not why)
        if self._is_ending:
            return
        status = self._worker.status
        in_handshake = not self.links.is_synchronized
        if not why and (status == 0 or (in_handshake and status in _LOGGED)):
            self._phase = ParentPhase.RESIGNED
            return
        relays = [link.relay for link in self.links]
        how = self._worker.end_in_words(why)
        during = ", ".join(filter(None, (relay.pending_request() for relay in relays)))
        say(logging.ERROR, f"{how}{f' in {during}' if during else ''}; another one takes over")
        self._failures += 1
        for relay in relays:
            relay.worker_ended(how)
        if any(relay.lost for relay in relays):
            self._end()
            return
        delay = self._worker.delay()
        if delay and not self.links.waits:
            self._set_time("restart", time.monotonic() + delay)
        else:
            self._start_worker()
        for link in self.links:
            link.flush()


_LOGGED: Final = frozenset({FAILED, FAULTY, MISUSED, LOST})
"""The statuses of a worker that has logged why it can't be of use."""

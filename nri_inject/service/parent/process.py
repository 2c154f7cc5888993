"""The parent as a process: it forks workers, waits for them and for the runtime, and moves bytes.

It imports nothing after the first fork, opens no file of a disk, and writes to the log only where
that does not wait. What it decides is in `relay`.
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
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol

from nri_inject.service.base import CRASHED, FAILED, FAULTY, LOST, MISUSED, status_outside
from nri_inject.service.health.systemd import notify, watchdog_pause
from nri_inject.service.parent.handover import Handover
from nri_inject.service.parent.link import Link, Links
from nri_inject.service.parent.relay import Relay
from nri_inject.service.parent.system import (
    adopted,
    be_the_first_to_go,
    die_with_parent,
    ended_within,
    say,
    status_of,
    words,
)
from nri_inject.service.parent.trial import UPGRADE
from nri_inject.service.parent.upgrade import Upgrades
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
_MAX_ENDING: Final = 0.5  # seconds in which a worker must end before an upgrade: requests wait
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

    def saved(self) -> Mapping[str, Any]:
        """Return what workers share, as values of JSON."""

    def upgraded(self, fault: str) -> None:
        """Note the end of an upgrade, and why it failed, if it did."""


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
        self._path = socket_path
        self._count = count
        self._limits = limits
        self._note_quiet = note_quiet
        self._pauses = pauses(limits.first_pause, limits.max_pause)
        self._appearance: Appearance | None = None
        self._loop = Loop(on_wake=lambda: None)
        self.links = Links((), is_launched=given is not None)
        self._pid = 0
        self._status: int | None = None
        self._failures = 0
        self._is_over = False
        self._has_served = False
        self._unburied: list[int] = []
        self._upgrades = Upgrades(self._loop, self)
        self._handed = handed
        self._relays = relays
        if handed is not None:
            self._failures, self._has_served = handed.failures, handed.has_served
            self._unburied = list(handed.children)
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
        reason = ""
        while True:
            self._begin()
            if sockets := self._inherited() or self._dialled(reason):
                self._attach(sockets)
            status = self._serve()
            if self.links.is_synchronized:
                self._has_served = True
                self._pauses = pauses(self._limits.first_pause, self._limits.max_pause)
            is_final = status in (FAILED, FAULTY, MISUSED) and not self._has_served
            if self._loop.stopping or is_final or (status == 0 and self._wants_to_end):
                return status
            reason = f"lost the connection to {self._path}"

    def _inherited(self) -> list[socket.socket]:
        """Return the connections that another version has left, once."""
        return [] if self._handed is None else list(map(adopted, self._handed.descriptors))

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
            if all(link.relay.is_registered for link in self.links):
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
        relays = self._relays or [Relay(self._title) for _ in range(self._count)]
        links = [Link(relay, self._loop, self) for relay in relays]
        self.links = Links(links, is_launched=self._given is not None)
        self._relays = ()
        self._status = None
        self._is_over = self._wants_to_end = False
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
        while not (self._is_over or self._loop.stopping):
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
        self._is_over = True

    def _finish(self) -> int:
        """End the worker, send what it has still answered, and close everything."""
        is_without = not (self._pid or self._wants_to_end)
        if self._pid and not self._loop.stopping:
            for link in self.links:
                link.hang_up()
        self._end_worker(GRACE, by_signal=self._loop.stopping)
        for link in self.links:
            link.close(self._limits.drain_timeout)
        is_killed = self._status is None or self._status < 0
        if is_without or (is_killed and self._loop.stopping):
            return 0
        return CRASHED if self._status is None or is_killed else self._status

    def _end_worker(self, seconds: float, *, by_signal: bool) -> None:
        """Let the worker end, read what it still sends, and close its sockets.

        The end of a socket that stays open would be taken for that of the next worker.
        """
        self._is_over = True
        if self._pid and by_signal:
            os.kill(self._pid, signal.SIGTERM)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not (self._has_ended() and self.links.are_free):
            self._loop.turn(_LOOK if self.links.are_free else seconds)
        if self._pid:
            self._kill("did not end")
        for link in self.links:
            link.detach_worker()

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
            children=self._unburied,
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
        self._unburied += children

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
            self._is_over = False
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
        for what in ("restart", "look"):
            self._set_time(what, math.inf)
        self._unburied = [pid for pid in self._unburied if status_of(pid) is None]
        self._started = now = time.monotonic()
        pairs: list[tuple[socket.socket, socket.socket]] = []
        parent = os.getpid()
        try:
            pairs += [socket.socketpair() for _ in self.links]
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
        for link, (ours, theirs) in zip(self.links, pairs, strict=True):
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
            signal.signal(UPGRADE, signal.SIG_IGN)
            die_with_parent(parent)
            be_the_first_to_go()
            self._loop.close()
            if self._appearance is not None:
                self._appearance.close()
            for link in self.links:
                link.close_copies()
            for other in others:
                other.close()
            status = self._work(own, resumes=self.links.is_synchronized, failures=self._failures)
        except BaseException:  # whatever it is, nothing may run on as if it were the parent
            log.exception("the worker failed")
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(status)

    def _kill(self, why: str) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._worker_left(why)

    def _worker_left(self, why: str) -> None:
        """Close the sockets of a worker that has closed its own, or is killed since it `why`."""
        for link in self.links:
            link.detach_worker()
        self._has_ended(_BURIAL)
        is_finishing = self._is_over or self._loop.stopping
        if self._pid and not why and (is_finishing or not self.links.waits):
            self._set_time("look", time.monotonic())  # it may write what it still has, and end
            return
        self._bury(why)

    def _look(self) -> None:
        """Look whether a worker that has closed its connections has ended."""
        if self._has_ended() or self.links.waits:
            self._bury("")
        else:
            self._set_time("look", time.monotonic() + _LOOK)

    def _has_ended(self, within: float = 0.0) -> bool:
        if self._pid and (status := ended_within(self._pid, within)) is not None:
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
        relays = [link.relay for link in self.links]
        in_handshake = not self.links.is_synchronized
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
        for link in self.links:
            link.flush()

    def _replace(self) -> None:
        """Start another worker: at once if something waits, and later if none lives long."""
        now = time.monotonic()
        self._short_lives = self._short_lives + 1 if now - self._started < _SHORT_LIFE else 0
        if self.links.waits or self._short_lives < 2:
            self._start_worker()
            return
        delay = min(_FIRST_DELAY * 2 ** min(self._short_lives, 10), _MAX_DELAY)
        self._set_time("restart", now + delay)


_TOLD: Final = frozenset({FAILED, FAULTY, MISUSED, LOST})
"""The statuses of a worker that has logged why it can't be of use."""

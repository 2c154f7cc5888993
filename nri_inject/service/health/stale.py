"""Which running containers hold a device that has changed: it is gone, or has another number.

A container's mark has the devices that the plugin gave. `StaleCheck` compares them with what the
container would get now: after an event of the kernel or of udev, and every POLL seconds, since not
every change has an event. It does so between requests, a slice at a time, as `missed` does.
"""

from __future__ import annotations

import logging
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Protocol, runtime_checkable

from nri_inject.api import Adjustment, Container, Pod, StartContainerRequest
from nri_inject.errors import NriError
from nri_inject.host.devices import uevents
from nri_inject.host.devices.uevents import Uevents
from nri_inject.host.model import Number
from nri_inject.service.health import mark
from nri_inject.service.health.mark import GivenDevice
from nri_inject.service.health.missed import lighten, shown
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.records import Records
from nri_inject.service.health.state import FoundContainers, Stale, State
from nri_inject.service.health.timer import EXPIRATIONS, timer
from nri_inject.text.annotations import container_name, where
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

SLICE: Final = 0.02
"""How long one turn may take before the loop looks after the runtime again, in seconds."""

PAUSE: Final = 0.1
"""How long after an event the containers are compared, in seconds: so many events cost one look."""

SETTLED: Final = 1.0
"""How long a change must last to be reported, in seconds: udev makes its links after the kernel's
event, and a device that resets itself is away for a moment."""

POLL: Final = 60.0
"""How long after one look the next one comes without an event, in seconds."""

MAX_BYTES: Final = 8 << 20
"""How many bytes of containers with devices and their pods are kept; one takes some 3 kB."""

MAX_LINES: Final = 100
"""How many lines an hour the log has about them: a loose plug must not fill it."""

_EVENT_SHARE: Final = 10  # after a look by an event, so many times as long without one
_POLL_SHARE: Final = 100
_HOUR: Final = 3600.0
_NOTES: Final = "given/"


@runtime_checkable
class Following(Protocol):
    """A service that can say what has become of the devices that a container was given."""

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        """Return what a container would be given, without a log; NriError if it is refused."""

    def gone(self, numbers: Collection[Number]) -> Collection[Number]:
        """Return the numbers that the host has no device for."""

    def registration(self, number: Number) -> int:
        """Return what the kernel's entry of a number is known by, 0 if there is none."""


class StaleCheck:
    """Compare given devices with those of the host; a Watch of the loop that never waits.

    `notes` keep the containers for the next worker. `listen` gives the events, or OSError where
    there are none. `now` is in seconds since 1970, `clock` in monotonic ones, `used` in those that
    this process has had of the processor. `on_progress` is called when what is stale may have
    changed, `on_stale` with each container that is reported.
    """

    def __init__(
        self,
        state: State,
        service: Following,
        notes: Notes | None = None,
        *,
        listen: Callable[[], Uevents] = uevents.listen,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._state = state
        self._service = service
        self._notes = notes
        self._used = used
        self._listen = listen
        self._now = now
        self._clock = clock
        self.on_progress: Callable[[], None] = lambda: None
        self.on_stale: Callable[[Pod, Container], None] = lambda _pod, _container: None
        self._records = Records(MAX_BYTES)
        self._since: dict[str, float] = {}
        self._reported: set[str] = set()
        self._pending: deque[str] = deque()
        self._looks_again = False
        self._gone: dict[Number, bool] = {}
        self._spent = 0.0
        self._earliest = 0.0
        self._due = math.inf
        self._lines = (0.0, 0)
        self._events: Uevents | None = None
        self._timer = -1
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return a descriptor that can be read when it is time to compare."""
        return self._epoll.fileno()

    def add(self, pod: Pod, container: Container) -> None:
        """Follow the devices that a running container was given, if it was given some."""
        if not mark.devices(container, self._state.name):
            return
        request = StartContainerRequest(pod=pod, container=container)
        lighten(request.container)
        record = request.SerializeToString()
        if self._notes is not None:
            self._notes.put(_NOTES + container.id, record)
        self._keep(container.id, record)

    def forget(self, container_id: str) -> None:
        """Follow a container no longer: it has ended."""
        if self._notes is not None:
            self._notes.drop(_NOTES + container_id)
        is_kept = self._records.pop(container_id) is not None
        if container_id in self._since:
            self._clear(container_id)
            self.on_progress()
        if is_kept and not self._records:
            self._rest()

    def restart(self) -> None:
        """Forget all containers: a runtime reports all that exists again."""
        if self._notes is not None:
            self._notes.clear(_NOTES)
        self._records = Records(MAX_BYTES)
        self._state.stale = FoundContainers()
        self._since, self._reported = {}, set()
        self._rest()

    def inherit(self) -> None:
        """Follow the containers that the worker before this one has noted."""
        self._since = {key: one.since for key, one in self._state.stale.items()}
        self._reported = {*self._since}
        self._state.stale.unlisted = 0
        for container_id, record in (self._notes.items(_NOTES) if self._notes else {}).items():
            self._keep(container_id, record)

    def ready(self) -> None:
        """Take the events, and compare for a while if it is time to."""
        for descriptor, _ in self._epoll.poll(0, 2):
            if descriptor == self._timer:
                os.read(self._timer, EXPIRATIONS)
            elif self._has_news():
                self._looks_again = True
                self._look_by(self._clock() + PAUSE)
        if not self._pending and self._clock() >= self._due:
            self._pending.extend(self._records)
            self._gone, self._spent, self._due = {}, 0.0, math.inf
        if self._pending:
            self._compare_some()
        self._wait()

    def renumbered(self, pod: Pod, container: Container) -> Mapping[str, str]:
        """Return the devices that a restart would give another number, by path in words."""
        given = mark.devices(container, self._state.name)
        return _renumbered(given, self._devices_now(pod, container))

    def close(self) -> None:
        """Give the descriptors back."""
        self._rest()
        self._epoll.close()

    # --- when -------------------------------------------------------------------------------------

    def _keep(self, container_id: str, record: bytes) -> None:
        self._records.put(container_id, record)
        if self._events is None and self._timer < 0:
            try:
                self._events = self._listen()
                self._epoll.register(self._events, select.EPOLLIN)
            except OSError as error:
                log.info(
                    "no kernel events (%s): given devices are looked at every %.0f s",
                    *(error.strerror, POLL),
                )
        # The device may have changed between the answer and the start.
        self._look_by(self._clock() + SETTLED)
        self._wait()

    def _has_news(self) -> bool:
        """Tell whether something happened to a device with a node; also if messages were lost."""
        if self._events is None:
            return False
        try:
            events = self._events.take()
        except OSError:
            self._stop_listening()
            return True
        return events is None or any(event.number is not None for event in events)

    def _look_by(self, moment: float) -> None:
        self._due = min(self._due, max(moment, self._earliest))

    def _wait(self) -> None:
        """Be called when the next look is due, or at once while some of this one is left."""
        self._stop_timer()
        if self._records:
            pause = 0.0 if self._pending else max(0.0, self._due - self._clock())
            self._timer = timer(pause)
            self._epoll.register(self._timer, select.EPOLLIN)

    def _stop_timer(self) -> None:
        if self._timer >= 0:
            self._epoll.unregister(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _rest(self) -> None:
        """Wait for nothing: no container has a device."""
        self._stop_timer()
        self._stop_listening()
        self._pending.clear()
        self._due = math.inf

    def _stop_listening(self) -> None:
        if self._events is not None:
            self._epoll.unregister(self._events)
            self._events.close()
            self._events = None

    # --- what -------------------------------------------------------------------------------------

    def _compare_some(self) -> None:
        until, used = self._clock() + SLICE, self._used()
        while self._pending:
            self._compare(self._pending.popleft())
            if self._clock() > until:
                break
        self._spent += self._used() - used
        if self._pending:
            return
        now = self._clock()
        self._earliest = now + max(PAUSE, _EVENT_SHARE * self._spent)
        self._look_by(now + max(POLL, _POLL_SHARE * self._spent))
        if self._looks_again:
            self._looks_again = False
            self._look_by(now + SETTLED)
        self._due = max(self._due, self._earliest)
        self.on_progress()

    def _compare(self, container_id: str) -> None:
        record = self._records.get(container_id)
        if record is None:  # it has ended meanwhile
            return
        request = StartContainerRequest.FromString(record)
        pod, container = request.pod, request.container
        because = shown(tuple(self._changes(pod, container)))
        if not because:
            if container_id in self._since and self._clear(container_id):
                self._tell(logging.INFO, "%s: has its devices again", where(pod, container))
        elif container_id not in self._since:
            self._since[container_id] = self._now()
            self._looks_again = True
        else:
            self._report(pod, container, because)

    def _changes(self, pod: Pod, container: Container) -> Iterator[str]:
        """Yield what is true no longer of what a container was given."""
        given = mark.devices(container, self._state.name)
        now = self._devices_now(pod, container)
        missing = {path: device for path, device in given.items() if path not in now}
        for path, device in missing.items():
            name = f"{plain(path)} ({_in_words(device.number)})"
            if self._is_gone(device.number):
                yield f"{name} is gone"
            elif device.registration not in (0, self._service.registration(device.number)):
                yield f"{name} was unplugged, and its number is in use again"
        yield from _renumbered(given, now).values()

    def _is_gone(self, number: Number) -> bool:
        """Tell whether the host has no device of a number; found out once in each look."""
        if number not in self._gone:
            self._gone[number] = number in self._service.gone([number])
        return self._gone[number]

    def _devices_now(self, pod: Pod, container: Container) -> Mapping[str, Number]:
        """Return the devices that a container would get now, none if it would be refused."""
        try:
            devices = self._service.expected(pod, container).linux.devices
        except NriError:
            return {}
        return {each.path: (each.type, each.major, each.minor) for each in devices}

    def _report(self, pod: Pod, container: Container, because: tuple[str, ...]) -> None:
        """Report a stale container, unless it is reported so."""
        name = f"{plain(pod.namespace)}/{plain(pod.name)}"
        since = self._since[container.id]
        one = Stale(name, plain(container_name(container)), because, since).bounded()
        before = self._state.stale.get(container.id)
        if container.id in self._reported and (before is None or before.because == one.because):
            return
        self._reported.add(container.id)
        self._state.stale.add(container.id, one)
        self._tell(
            logging.WARNING, "%s: stale, because %s", where(pod, container), ", ".join(because)
        )
        self.on_stale(pod, container)

    def _clear(self, container_id: str) -> bool:
        """Report a container no longer; tell whether it was reported."""
        del self._since[container_id]
        was_reported = container_id in self._reported
        if was_reported:
            self._reported.remove(container_id)
            self._state.stale.take_back(container_id)
        return was_reported

    def _tell(self, level: int, message: str, *values: str) -> None:
        """Log a line, if there have not been too many in this hour."""
        begun, lines = self._lines
        if self._now() >= begun + _HOUR or self._now() < begun:
            begun, lines = self._now(), 0
        self._lines = begun, lines + 1
        if lines < MAX_LINES:
            log.log(level, message, *values)
        elif lines == MAX_LINES:
            log.warning("more than %d lines in an hour on stale containers", MAX_LINES)


def _renumbered(given: Mapping[str, GivenDevice], now: Mapping[str, Number]) -> Mapping[str, str]:
    return {
        path: f"{plain(path)} is now {_in_words(now[path])}"
        for path, device in given.items()
        if now.get(path, device.number) != device.number
    }


def _in_words(number: Number) -> str:
    return f"{number[1]}:{number[2]}"

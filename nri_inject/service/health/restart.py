"""Restarts of containers: the runtime stops one, and the kubelet creates it anew.

A restart is requested with its cause. It happens once for a container, within the budget of the
pod, outside of excluded namespaces, and only while it would still help. NRI reports no restart
policy, so what becomes of a container that the kubelet does not restart is the admin's concern.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from nri_inject.api import Container, Pod, StartContainerRequest
from nri_inject.errors import ProtocolError
from nri_inject.service.config import RestartConfig
from nri_inject.service.health.cri import StopCall
from nri_inject.service.health.restart_record import RestartRecord
from nri_inject.service.health.state import WAITS, RestartOutcome, State
from nri_inject.service.health.timer import EXPIRATIONS, timer
from nri_inject.text.annotations import where
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

MAX_WAITING: Final = 1000
"""How many containers may wait for their restart."""

MAX_WAITING_BYTES: Final = 8 << 20
"""How many bytes of them and their pods are kept meanwhile."""

MAX_AT_ONCE: Final = 4
"""How many containers the runtime is asked to stop at one time."""

MAX_TRIES: Final = 5
"""How often the runtime is asked: one that has just started refuses for a moment."""

MAX_LINES: Final = 20
"""How many containers without a restart have a line in the log, for each connection."""

SLICE: Final = 0.02
"""How long one turn may take before the loop looks after the runtime again, in seconds."""

_TICK: Final = 0.1  # seconds between two looks while something waits
_FIRST_PAUSE: Final = 1.0  # seconds before the second try; then twice as many

Check = Callable[[Pod, Container], str]
"""Returns why a container needs a restart now; empty if a restart would not help."""


class RestartReport(NamedTuple):
    """What became of a requested restart: its cause, why, and the reason if there was none."""

    cause: str
    why: str
    outcome: RestartOutcome
    reason: str = ""


@runtime_checkable
class Restarting(Protocol):
    """A service whose configuration says which containers are restarted."""

    @property
    def restart_config(self) -> RestartConfig:
        """How containers are restarted."""

    @property
    def has_restarts(self) -> bool:
        """Whether some missed container may be restarted."""

    def restarts_missed(self, pod: Pod, container: Container) -> bool:
        """Tell whether this container is to be restarted if it was missed."""

    def restarts_stale(self, pod: Pod, container: Container, changed: Collection[str]) -> bool:
        """Tell whether a container is to be restarted whose devices at these paths have changed."""

    def record_restart(self, pod: Pod, container: Container, report: RestartReport) -> None:
        """Write to the audit what became of a restart."""


@dataclass(slots=True)
class _RestartRequest:
    """A restart that is requested: a StartContainerRequest in bytes has the container.

    `number` counts the restarts of its pod in this hour, this one included.
    """

    record: bytes
    cause: str
    why: str
    check: Check
    number: int = 0
    tries: int = 0
    not_before: float = 0.0

    def parts(self) -> tuple[Pod, Container]:
        message = StartContainerRequest.FromString(self.record)
        return message.pod, message.container


class _PendingStop(NamedTuple):
    """A call to the runtime that has no answer yet."""

    request: _RestartRequest
    container_id: str
    stop: StopCall
    deadline: float


class _End(NamedTuple):
    """What becomes of a requested restart, and the reason if there is none."""

    outcome: RestartOutcome
    reason: str


class RestartQueue:
    """Restart containers, a few at a time; a Watch of the loop that never waits.

    `record` has the path of the record, empty if there is no directory for it. `now` is in seconds
    since 1970, `clock` in monotonic ones. `on_progress` is called when something is decided.
    """

    def __init__(
        self,
        state: State,
        service: Restarting,
        record: str,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._service = service
        self._record = RestartRecord(record)
        self._now = now
        self._clock = clock
        self.on_progress: Callable[[], None] = lambda: None
        self._waiting: dict[str, _RestartRequest] = {}
        self._size = 0
        self._calls: dict[int, _PendingStop] = {}
        self._lines = 0
        self._timer = -1
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return a descriptor that can be read when there is something to do."""
        return self._epoll.fileno()

    def ask(self, pod: Pod, container: Container, cause: str, why: str, check: Check) -> None:
        """Request a restart, and return at once.

        `cause` is a word: `missed` or `stale`. `why` is what `check` returns now; it is asked again
        before the container is stopped.
        """
        if container.id in self._waiting or any(
            call.container_id == container.id for call in self._calls.values()
        ):
            return
        obstacle = self._obstacle(pod, container)
        record = b""
        if obstacle is None:
            record = StartContainerRequest(pod=pod, container=container).SerializeToString()
            is_full = self._size + len(record) > MAX_WAITING_BYTES
            if is_full or len(self._waiting) == MAX_WAITING:
                obstacle = _End("left_out", "too many containers wait for a restart")
        if obstacle is not None:
            self._tell(pod, container, RestartReport(cause, why, *obstacle))
            return
        self._wait(container.id, _RestartRequest(record, cause, why, check))

    def ready(self) -> None:
        """Read answers, give up those that are overdue, and begin what there is room for."""
        for descriptor, _ in self._epoll.poll(0, MAX_AT_ONCE + 1):
            if descriptor == self._timer:
                os.read(self._timer, EXPIRATIONS)
            elif descriptor in self._calls:
                self._receive(descriptor)
        for descriptor, call in list(self._calls.items()):
            if self._clock() >= call.deadline:
                self._end(descriptor)
                reason = f"the runtime did not answer StopContainer within {call.stop.time:.0f} s"
                self._fail(call.container_id, call.request, reason, again=False)
        self._begin_some()
        self._state.to_restart = len(self._waiting) + len(self._calls)
        if not self._state.to_restart and self._timer >= 0:
            self._stop_timer()

    def forget(self, container_id: str) -> None:
        """Do not restart a container that has been removed."""
        if container_id in self._waiting:
            self._take(container_id)
            self._state.to_restart -= 1

    def restart(self) -> None:
        """Forget what waits: a runtime reports all that exists again."""
        self._lines = 0
        for container_id in list(self._waiting):
            self.forget(container_id)

    def close(self) -> None:
        """Give up everything."""
        for descriptor in list(self._calls):
            self._end(descriptor)
        if self._timer >= 0:
            self._stop_timer()
        self._epoll.close()

    def _wait(self, container_id: str, request: _RestartRequest) -> None:
        self._waiting[container_id] = request
        self._size += len(request.record)
        self._state.to_restart = len(self._waiting) + len(self._calls)
        self._note(container_id, WAITS)
        if self._timer < 0:
            self._timer = timer(_TICK)
            self._epoll.register(self._timer, select.EPOLLIN)

    def _note(self, container_id: str, note: str) -> None:
        self._state.missed.note(container_id, note)
        self._state.stale.note(container_id, note)

    def _take(self, container_id: str) -> _RestartRequest:
        request = self._waiting.pop(container_id)
        self._size -= len(request.record)
        return request

    def _stop_timer(self) -> None:
        self._epoll.unregister(self._timer)
        os.close(self._timer)
        self._timer = -1

    # --- decisions --------------------------------------------------------------------------------

    def _obstacle(self, pod: Pod, container: Container) -> _End | None:
        """Return what forbids a restart now, if anything does."""
        settings = self._service.restart_config
        if any(pattern.matches(pod.namespace) for pattern in settings.excluded_namespaces):
            return _End("excluded", f"namespace {plain(pod.namespace)} is excluded")
        try:
            if self._record.has(container.id):
                return _End("repeated", "the runtime was asked to stop it before")
            if self._record.used(_key(pod), self._now()) >= settings.per_hour:
                reason = f"its pod has had its {settings.per_hour} restarts of this hour"
                return _End("over_budget", reason)
        except (OSError, ValueError) as error:
            return _End("failed", f"the record of restarts cannot be read: {error}")
        return None

    def _begin_some(self) -> None:
        until = time.monotonic() + SLICE
        for container_id, request in list(self._waiting.items()):
            if len(self._calls) == MAX_AT_ONCE:
                return
            if self._clock() < request.not_before:
                continue
            self._begin(container_id, self._take(container_id))
            if time.monotonic() > until:
                return

    def _begin(self, container_id: str, request: _RestartRequest) -> None:
        """Have the runtime stop a container, unless something is in the way by now."""
        pod, container = request.parts()
        why = request.check(pod, container)
        obstacle = None
        if not why:
            obstacle = _End("useless", "a restart would not help by now")
        elif not request.tries:
            obstacle = self._obstacle(pod, container) or self._recorded(pod, container, request)
        if obstacle is not None:
            self._tell(pod, container, RestartReport(request.cause, request.why, *obstacle))
            return
        request.why = why
        settings = self._service.restart_config
        try:
            stop = StopCall(settings.cri_socket, container_id, settings.grace_seconds)
        except (OSError, ProtocolError) as error:
            reason = f"{plain(settings.cri_socket)}: {_words(error)}"
            self._fail(container_id, request, reason, again=True)
            return
        deadline = self._clock() + stop.time
        self._calls[stop.fileno()] = _PendingStop(request, container_id, stop, deadline)
        self._epoll.register(stop, select.EPOLLIN)

    def _recorded(self, pod: Pod, container: Container, request: _RestartRequest) -> _End | None:
        """Record a restart, which may then happen; or return why not."""
        try:
            self._record.add(container.id, _key(pod), self._now())
            request.number = self._record.used(_key(pod), self._now())
        except (OSError, ValueError) as error:
            return _End("failed", f"the record of restarts cannot be written: {error}")
        return None

    # --- answers ----------------------------------------------------------------------------------

    def _receive(self, descriptor: int) -> None:
        call = self._calls[descriptor]
        try:
            result = call.stop.receive()
        except (OSError, ProtocolError) as error:
            self._end(descriptor)
            self._fail(call.container_id, call.request, _words(error), again=True)
            return
        if result is None:
            return
        self._end(descriptor)
        if result.code:
            reason = f"StopContainer: {plain(result.text)} (status {result.code})"
            self._fail(call.container_id, call.request, reason, again=True)
            return
        self._finish(call.request, _End("stopped", ""))

    def _end(self, descriptor: int) -> None:
        call = self._calls.pop(descriptor)
        self._epoll.unregister(descriptor)
        call.stop.close()

    def _fail(
        self, container_id: str, request: _RestartRequest, reason: str, *, again: bool
    ) -> None:
        """Try again later, up to MAX_TRIES; then report it."""
        request.tries += 1
        if again and request.tries < MAX_TRIES:
            request.not_before = self._clock() + _FIRST_PAUSE * 2 ** (request.tries - 1)
            self._wait(container_id, request)
            return
        self._finish(request, _End("failed", reason))

    def _finish(self, request: _RestartRequest, end: _End) -> None:
        pod, container = request.parts()
        report = RestartReport(request.cause, request.why, *end)
        self._tell(pod, container, report, request.number)

    def _tell(self, pod: Pod, container: Container, report: RestartReport, number: int = 0) -> None:
        """Count, log and audit what became of a restart."""
        self._state.restarts[report.outcome] += 1
        note = f"not restarted: {report.reason}" if report.reason else "stopped"
        self._note(container.id, note)
        because = f"{report.cause}: {report.why}"
        if report.outcome == "stopped":
            log.info(
                "%s: stopped for the kubelet to create it anew (%s); restart %d of %d this hour"
                " for its pod",
                *(where(pod, container), because, number, self._service.restart_config.per_hour),
            )
        elif self._lines < MAX_LINES:
            self._lines += 1
            level = logging.ERROR if report.outcome == "failed" else logging.WARNING
            log.log(
                level, "%s: not restarted (%s): %s", where(pod, container), because, report.reason
            )
        self._service.record_restart(pod, container, report)
        self.on_progress()


def _key(pod: Pod) -> str:
    """Return the name of a pod in the record; the kubelet's id of it outlives its sandboxes."""
    return pod.uid or pod.id


def _words(error: OSError | ProtocolError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

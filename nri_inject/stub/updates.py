"""Updates of containers that a plugin requests by itself: UpdateContainers calls."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from nri_inject.api import ContainerUpdate, UpdateContainersRequest, UpdateContainersResponse
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.wire.session import Answer, Failure, Session

log = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[list[ContainerUpdate] | NriError], None]
"""Gets the updates that failed, or the error of the whole request."""


class UpdateQueue:
    """Requests that wait, in order; one at a time is sent to the runtime.

    Requests that wait are kept when a connection is lost. Any thread may call `add`.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[UpdateContainersRequest, Callback | None]] = deque()
        self._sent: dict[int, Callback | None] = {}  # by the number of the stream, one at most

    def add(self, updates: Iterable[ContainerUpdate], callback: Callback | None) -> None:
        """Add a request."""
        self._waiting.append((UpdateContainersRequest(update=updates), callback))

    def send(self, session: Session) -> None:
        """Send the next request, if the runtime has answered the one before."""
        while self._waiting and not self._sent:
            request, callback = self._waiting.popleft()
            try:
                self._sent[session.call("UpdateContainers", request)] = callback
            except ValueError as error:  # too long for a message
                _finish(callback, NriError(str(error)))

    def answered(self, event: Answer | Failure) -> None:
        """Finish the request that the runtime has answered."""
        callback = self._sent.pop(event.stream, None)
        if isinstance(event, Failure):
            _finish(callback, RemoteError(event.code, event.text))
        elif isinstance(event.response, UpdateContainersResponse):
            _finish(callback, list(event.response.failed))

    def lose(self) -> None:
        """Finish the request that was sent on a connection that has ended."""
        while self._sent:
            _, callback = self._sent.popitem()
            _finish(callback, ConnectionLost("the connection ended before the runtime answered"))


def _finish(callback: Callback | None, outcome: list[ContainerUpdate] | NriError) -> None:
    if callback is None:
        if outcome:
            log.error("the runtime did not make all updates: %s", outcome)
        return
    try:
        callback(outcome)
    except Exception:  # a plugin's bug must not end the service of other containers
        log.exception("the callback of an update failed")

"""One connection to the runtime, the socket of the worker that serves it now, and their bytes."""

from __future__ import annotations

import logging
import socket
import time
from typing import Final, Protocol

from nri_inject.errors import ProtocolError
from nri_inject.service.parent.relay import Relay
from nri_inject.service.parent.system import received, say, send
from nri_inject.stub.loop import Loop, wait_for_room

MAX_UNSENT: Final = 8 << 20
"""How many bytes may wait for a runtime that does not read; then the worker is not read from."""

_MAX_READS: Final = 64  # of 64 KiB each; the rest is for the next turn


class LinkOwner(Protocol):
    """What a link reports to."""

    def runtime_has_data(self) -> None:
        """Note that the runtime has sent something, before it is read."""

    def runtime_ended(self) -> None:
        """Note that the runtime has closed the connection, or broken the protocol."""

    def worker_left(self) -> None:
        """Note that the worker has closed its socket."""

    def worker_is_broken(self, why: str) -> None:
        """Note that the worker has broken the protocol."""

    def worker_is_missing(self) -> None:
        """Note that a request waits, and the worker has gone."""


class Link:
    """Move bytes between two sockets and a relay; the runtime is read whatever the worker does."""

    def __init__(self, title: str, loop: Loop, owner: LinkOwner) -> None:
        self.relay = Relay(title)
        self._loop = loop
        self._owner = owner
        self._runtime: socket.socket | None = None
        self._worker: socket.socket | None = None
        self._runtime_is_full = self._worker_is_full = self._is_paused = False

    @property
    def has_worker(self) -> bool:
        """Whether a worker has the other end."""
        return self._worker is not None

    def attach_runtime(self, connection: socket.socket) -> None:
        """Talk to the runtime on this connection."""
        connection.setblocking(False)
        self._runtime = connection
        self._loop.add(connection.fileno(), self._runtime_ready)
        self.flush()

    def attach_worker(self, connection: socket.socket) -> None:
        """Give a new worker what the runtime has told, and what waits."""
        connection.setblocking(False)
        self._worker, self._worker_is_full, self._is_paused = connection, False, False
        self._loop.add(connection.fileno(), self._worker_ready)
        self.relay.worker_started(time.monotonic())
        self.flush()

    def detach_worker(self) -> None:
        """Close the socket of a worker that has gone."""
        if self._worker is not None:
            self._loop.remove(self._worker.fileno())
            self._worker.close()
            self._worker = None

    def hang_up(self) -> None:
        """Let the worker read the end of the connection, as a runtime would that ends.

        What it still writes fails, too: an answer that nobody gets must not count as given.
        """
        self.relay.for_worker.clear()
        self.flush()
        if self._worker is not None:
            try:
                self._worker.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has gone

    def close(self, drain_timeout: float) -> None:
        """Send the runtime the rest, whole, if it reads soon; then close its connection."""
        until = time.monotonic() + drain_timeout
        while self._runtime and self.relay.for_runtime and (left := until - time.monotonic()) > 0:
            wait_for_room(self._runtime, left)
            self.flush()
        self._detach_runtime()

    def close_copies(self) -> None:
        """Close this process's copies of both sockets: a fork has no part in the connection."""
        for held in filter(None, (self._runtime, self._worker)):
            held.close()

    def flush(self) -> None:
        """Send what the sockets take; wait for room where something is left."""
        relay = self.relay
        if self._runtime is not None and relay.for_runtime:
            is_full = not send(self._runtime, relay.for_runtime)
            if is_full != self._runtime_is_full:
                self._runtime_is_full = is_full
                self._loop.wait_for_room(self._runtime.fileno(), is_full, reads=True)
        if self._worker is not None and self._is_paused and not self._is_congested():
            self._is_paused = self._worker_is_full = False
            self._loop.add(self._worker.fileno(), self._worker_ready)
        if self._worker is not None and relay.for_worker and not self._is_paused:
            is_full = not send(self._worker, relay.for_worker)
            if is_full != self._worker_is_full:
                self._worker_is_full = is_full
                self._loop.wait_for_room(self._worker.fileno(), is_full, reads=True)

    def _is_congested(self) -> bool:
        """Tell whether so much waits for the runtime that the worker has to wait, too."""
        return self._runtime_is_full and sum(map(len, self.relay.for_runtime)) > MAX_UNSENT

    def _runtime_ready(self) -> None:
        self._owner.runtime_has_data()
        data, has_ended = _received_all(self._runtime)
        if data or has_ended:
            if has_ended or not self._is_taken(data):
                self._detach_runtime()
                self.relay.for_runtime.clear()
                self._owner.runtime_ended()
                return
            if self._worker is None and self.relay.waits:
                self._owner.worker_is_missing()
        self.flush()

    def _is_taken(self, data: bytes) -> bool:
        try:
            self.relay.from_runtime(data, time.monotonic())
        except ProtocolError as error:
            say(logging.ERROR, str(error))
            return False
        return True

    def _worker_ready(self) -> None:
        if self._worker is not None and self._is_congested():
            self._is_paused = True
            self._loop.remove(self._worker.fileno())
            return
        data = received(self._worker)
        if data is not None:
            if not data:
                self._owner.worker_left()
                return
            try:
                self.relay.from_worker(data, time.monotonic())
            except ProtocolError as error:
                self._owner.worker_is_broken(str(error))
                return
        self.flush()

    def _detach_runtime(self) -> None:
        if self._runtime is not None:
            self._loop.remove(self._runtime.fileno())
            self._runtime.close()
            self._runtime = None


def _received_all(connection: socket.socket | None) -> tuple[bytes, bool]:
    """Return what is there, and whether it is the end: a request before that is not passed on."""
    chunks: list[bytes] = []
    while len(chunks) < _MAX_READS and (data := received(connection)) is not None:
        if not data:
            return b"", True
        chunks.append(data)
    return b"".join(chunks), False

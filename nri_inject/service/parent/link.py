"""The connections to the runtime, the sockets of the worker that serves them, and their bytes."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

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

    def __init__(self, relay: Relay, loop: Loop, owner: LinkOwner) -> None:
        self.relay = relay
        self._loop = loop
        self._owner = owner
        self._runtime: socket.socket | None = None
        self._worker: socket.socket | None = None
        self._runtime_is_full = self._worker_is_full = self._is_paused = False
        self._is_held = False

    @property
    def has_worker(self) -> bool:
        """Whether a worker has the other end."""
        return self._worker is not None

    @property
    def runtime(self) -> socket.socket | None:
        """The connection to the runtime."""
        return self._runtime

    def attach_runtime(self, connection: socket.socket, since: float | None = None) -> None:
        """Talk to the runtime on this connection; what it has sent so far came at `since`."""
        connection.setblocking(False)
        self._runtime = connection
        self._loop.add(connection.fileno(), self._runtime_ready)
        if since is not None:
            self._read_runtime(since)
        self.flush()

    def hold(self) -> None:
        """Leave what the runtime sends from now on to the kernel, and send it nothing."""
        if self._runtime is not None and not self._is_held:
            self._is_held = True
            self._loop.remove(self._runtime.fileno())

    def release(self) -> None:
        """Go on after `hold`."""
        if self._runtime is not None and self._is_held:
            self._is_held = self._runtime_is_full = False
            self._loop.add(self._runtime.fileno(), self._runtime_ready)
            self.flush()

    def attach_worker(self, connection: socket.socket) -> None:
        """Give a new worker what the runtime has told, and what waits."""
        connection.setblocking(False)
        self._worker, self._worker_is_full, self._is_paused = connection, False, False
        self._loop.add(connection.fileno(), self._worker_ready)
        self.relay.worker_started(time.monotonic())
        self.flush()

    def detach_worker(self, *, reads: bool = False) -> None:
        """Close the socket of a worker that has gone; with `reads`, use what it has sent before.

        The end of a socket that stays open would be taken for that of the next worker.
        """
        if self._worker is not None:
            with contextlib.suppress(ProtocolError):
                while reads and (data := received(self._worker)):
                    self.relay.from_worker(data, time.monotonic())
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

    def drain(self, seconds: float) -> None:
        """Send the runtime the rest, whole, if it reads soon."""
        queue, until = self.relay.for_runtime, time.monotonic() + seconds
        while self._runtime and queue and (left := until - time.monotonic()) > 0:
            wait_for_room(self._runtime, left)
            send(self._runtime, queue)

    def close(self, drain_timeout: float) -> None:
        """Send the runtime the rest, and close its connection."""
        self.drain(drain_timeout)
        self._detach_runtime()

    def close_copies(self) -> None:
        """Close this process's copies of both sockets: a fork has no part in the connection."""
        for held in filter(None, (self._runtime, self._worker)):
            held.close()

    def flush(self) -> None:
        """Send what the sockets take; wait for room where something is left."""
        relay = self.relay
        if self._runtime is not None and relay.for_runtime and not self._is_held:
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
        self._read_runtime(time.monotonic())

    def _read_runtime(self, now: float) -> None:
        data, has_ended = _received_all(self._runtime)
        if data or has_ended:
            if has_ended or not self._is_taken(data, now):
                self._detach_runtime()
                self.relay.for_runtime.clear()
                self._owner.runtime_ended()
                return
            if self._worker is None and self.relay.waits:
                self._owner.worker_is_missing()
        self.flush()

    def _is_taken(self, data: bytes, now: float) -> bool:
        try:
            self.relay.from_runtime(data, now)
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
                self.detach_worker()
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


class Links(list[Link]):
    """The connections of a process to its runtime; `is_launched` if the runtime has made them."""

    def __init__(self, links: Iterable[Link], *, is_launched: bool) -> None:
        super().__init__(links)
        self._is_launched = is_launched

    @property
    def is_connected(self) -> bool:
        """Whether there is a runtime."""
        return all(link.runtime is not None for link in self)

    @property
    def is_synchronized(self) -> bool:
        """Whether the handshake is over. Runtimes before NRI 0.7 configure what they launch."""
        relays = [link.relay for link in self]
        return all(r.synchronized or (self._is_launched and r.configured) for r in relays)

    @property
    def are_registered(self) -> bool:
        """Whether the worker has registered on each."""
        return all(link.relay.is_registered for link in self)

    @property
    def have_worker(self) -> bool:
        """Whether a worker has the other end of each."""
        return all(link.has_worker for link in self)

    @property
    def waits(self) -> bool:
        """Whether a request waits for its answer."""
        return any(link.relay.waits for link in self)

    @property
    def is_quiet(self) -> bool:
        """Whether no request waits and no handshake is going on."""
        if not self.is_connected:
            return not self._is_launched
        return self.is_synchronized and all(link.relay.is_quiet for link in self)

    @property
    def timeout(self) -> float:
        """How long the runtime waits for an answer, in seconds, as far as it has said so."""
        return min(link.relay.timeout for link in self)

    @property
    def is_serving(self) -> bool:
        """Whether there is a runtime, and the handshake is over."""
        return self.is_connected and self.is_synchronized

    def saved(self) -> tuple[list[dict[str, Any]], list[socket.socket]]:
        """Return what another process needs to go on: the relays and the connections."""
        if not self.is_serving:
            return [], []
        connections = [link.runtime for link in self if link.runtime is not None]
        return [link.relay.saved() for link in self], connections


def _received_all(connection: socket.socket | None) -> tuple[bytes, bool]:
    """Return what is there, and whether it is the end: a request before that is not passed on."""
    chunks: list[bytes] = []
    while len(chunks) < _MAX_READS and (data := received(connection)) is not None:
        if not data:
            return b"", True
        chunks.append(data)
    return b"".join(chunks), False

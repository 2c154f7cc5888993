"""One connection to a runtime: the bytes of a socket, and the phases from registration to end."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

from google.protobuf.message import Message

from nri_inject import capabilities
from nri_inject.api import ConfigureRequest, ConfigureResponse, SynchronizeRequest
from nri_inject.errors import ConnectionLost, NriError, ProtocolError, RemoteError
from nri_inject.plugin import Plugin, dispatch, only_tells
from nri_inject.stub.delivery import Delivered, Deliveries
from nri_inject.stub.handshake import NO_HANDLERS, Handshake
from nri_inject.stub.limits import Limits
from nri_inject.stub.loop import Loop, wait_for_room
from nri_inject.stub.updates import UpdateQueue
from nri_inject.wire.session import Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

log = logging.getLogger(__name__)

Observer: TypeAlias = Callable[[Role, bytes], None]
"""Gets the bytes of a connection, and which side sent them; `b""` is the end of the connection."""

ConnectionPhase: TypeAlias = Literal[
    "registering", "configured", "synchronized", "leaving", "ended"
]

_NEXT: Final[Mapping[tuple[ConnectionPhase, str], ConnectionPhase]] = {
    ("registering", "Configure"): "configured",
    ("configured", "Configure"): "configured",
    ("synchronized", "Configure"): "synchronized",
    ("configured", "Synchronize"): "synchronized",
    ("synchronized", "Synchronize"): "synchronized",
    # No runtime calls a plugin whose handshake failed, and some do not close the connection.
    ("registering", "handshake failed"): "leaving",
    ("configured", "handshake failed"): "leaving",
    ("synchronized", "handshake failed"): "leaving",
    ("leaving", "all is sent"): "ended",
    ("registering", "connection ended"): "ended",
    ("configured", "connection ended"): "ended",
    ("synchronized", "connection ended"): "ended",
    ("leaving", "connection ended"): "ended",
}
"""(phase, event) -> the next phase. Configure and Synchronize are answered with an error in a phase
that has no line for them; any other event without a line changes nothing."""

_HANDSHAKE: Final = frozenset[ConnectionPhase]({"registering", "configured", "leaving"})
_SERVING: Final = frozenset[ConnectionPhase]({"configured", "synchronized"})


class Connection:
    """Serve a plugin on one connected socket.

    `fault` is the reason why it ended, None for a good end. With `launched` the runtime need not
    synchronize the plugin: runtimes before NRI 0.7 do not synchronize what they launch.
    """

    def __init__(
        self,
        connection: socket.socket,
        plugin: Plugin,
        loop: Loop,
        *,
        updates: UpdateQueue,
        delivered: list[Delivered],
        limits: Limits,
        launched: bool = False,
        on_bytes: Observer | None = None,
    ) -> None:
        connection.setblocking(False)
        self.phase: ConnectionPhase = "registering"
        self.fault: NriError | None = None
        self._socket = connection
        self._loop = loop
        self._updates = updates
        self._deliveries = Deliveries(loop, delivered)
        self._limits = limits
        self._on_bytes = on_bytes
        self._handshake = Handshake(plugin, limits)
        self._timed = _HANDSHAKE - {"configured"} if launched else _HANDSHAKE
        self._deadline = time.monotonic() + limits.handshake_timeout
        self._session = Session(Role.PLUGIN)
        self._unsent = b""
        self._waits_for_room = False
        self._closed_by = Role.PLUGIN

    def start(self) -> None:
        """Register; the runtime's answer and its first call may come in either order."""
        self._loop.add(self._socket.fileno(), self._ready)
        self._session.call("RegisterPlugin", self._handshake.registration())
        self.flush()

    @property
    def deadline(self) -> float | None:
        """When the handshake must be over, in seconds of time.monotonic; None when it is over."""
        return self._deadline if self.phase in self._timed else None

    @property
    def longest_wait(self) -> float | None:
        """How long the loop may wait at a time; None for as long as it likes."""
        return self._deliveries.longest_wait

    def check_deadline(self) -> None:
        """End the connection if the handshake takes too long.

        Runtimes before NRI 0.12 leave a connection open on which synchronization failed, and
        call nothing from then on.
        """
        if self.deadline is not None and self.deadline <= time.monotonic():
            seconds = f"{self._limits.handshake_timeout:.0f} s"
            fault = f"the runtime did not finish the NRI handshake within {seconds}"
            self._end(ConnectionLost(fault))

    def flush(self) -> None:
        """Send as much as the socket takes, updates that wait included."""
        if self.phase in _SERVING:
            self._updates.send(self._session)
        if data := self._session.outgoing():
            self._observe(Role.PLUGIN, data)
            self._unsent += data
        self._send()
        if self._waits_for_room != bool(self._unsent):
            self._waits_for_room = bool(self._unsent)
            self._loop.wait_for_room(self._socket.fileno(), self._waits_for_room)
        if not self._unsent:
            self._advance("all is sent")
        if not self._unsent or self.phase == "ended":
            self._deliveries.settle(sent=not self._unsent)

    def close(self) -> None:
        """Close the connection; an update that the runtime has not answered fails.

        A response that is sent in part is sent whole, within the drain timeout: with half of it
        the runtime would create the container without its adjustment.
        """
        deadline = time.monotonic() + self._limits.drain_timeout
        while self._unsent and self.phase != "ended" and (left := deadline - time.monotonic()) > 0:
            wait_for_room(self._socket, left)
            self.flush()
        self._deliveries.take()
        self._deliveries.settle(sent=not self._unsent)
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        self._observe(self._closed_by, b"")
        self._updates.lose()

    def _ready(self) -> None:
        """Send what did not fit before, or read; a peer that does not read is not read from."""
        if self._unsent:
            self.flush()
            return
        try:
            data = self._socket.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broke(error)
            return
        if not data:
            self._closed_by = Role.RUNTIME
            self._end()
            return
        self._observe(Role.RUNTIME, data)
        try:
            for event in self._session.receive(data):
                self._act(event)
        except ProtocolError as error:
            self._end(error)
        self._deliveries.take()
        self.flush()

    def _send(self) -> None:
        while self._unsent and self.phase != "ended":
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._broke(error)
                return
            self._unsent = self._unsent[sent:]

    def _observe(self, sender: Role, data: bytes) -> None:
        if self._on_bytes is not None:
            self._on_bytes(sender, data)

    def _advance(self, event: str) -> None:
        self.phase = _NEXT.get((self.phase, event), self.phase)

    def _broke(self, error: OSError) -> None:
        self._end(ConnectionLost(f"the connection to the runtime broke: {error.strerror}"))

    def _end(self, fault: NriError | None = None) -> None:
        if fault is None and self.phase == "registering":
            fault = ConnectionLost(
                "the runtime closed the connection before it configured the plugin"
            )
        if self.phase != "ended":
            self.fault = self.fault or fault
        self._advance("connection ended")

    def _act(self, event: Event) -> None:
        if isinstance(event, Call):
            self._serve(event)
        elif event.method == "UpdateContainers":
            self._updates.answered(event)
        elif isinstance(event, Failure):
            self._end(
                RemoteError(event.code, f"the runtime refused the registration: {event.text}")
            )

    def _serve(self, call: Call) -> None:
        try:
            self._session.answer(call, self._response(call))
        except NriError as error:
            self._loop.after_response(partial(log.error, "%s fails: %s", call.method, error))
            self._refuse(call, error, Code.UNKNOWN)
        except Exception:  # a plugin's bug must not end the service of other containers
            # The runtime may end the plugin over the answer; the traceback must be out by then.
            log.exception("the handler of %s failed", call.method)
            name = self._handshake.plugin.name
            fault = NriError(f"plugin {name} failed in {call.method}, see its log")
            self._refuse(call, fault, Code.INTERNAL)

    def _response(self, call: Call) -> Message:
        if isinstance(call.request, ConfigureRequest):
            self._check_order(call)
            configured = self._handshake.configure(call.request)
            self._note_patience(call.request, configured)
            self._advance("Configure")
            return configured
        if isinstance(call.request, SynchronizeRequest):
            self._check_order(call)
            synchronized = self._handshake.synchronize(call.request)
            if not synchronized.more:
                self._advance("Synchronize")
            return synchronized
        return dispatch(self._handshake.plugin, call.method, call.request)

    def _note_patience(self, request: ConfigureRequest, response: ConfigureResponse) -> None:
        """Note how long the runtime waits for a response, and what it does then."""
        runtime = capabilities.of_request(request)
        keeps = capabilities.keeps_failure_policy(runtime)
        self._deliveries.stays_connected = keeps and response.failure_policy.keep_connected
        if request.request_timeout > 0:
            self._deliveries.patience = request.request_timeout / 1000

    def _check_order(self, call: Call) -> None:
        if (self.phase, call.method) not in _NEXT:
            raise NriError(f"{call.method} is not expected while the plugin is {self.phase}")

    def _refuse(self, call: Call, error: NriError, code: Code) -> None:
        if isinstance(call.request, (ConfigureRequest, SynchronizeRequest)):
            self._fail_handshake(call, error)
        elif only_tells(call.method, call.request):
            self._session.answer(call, dispatch(NO_HANDLERS, call.method, call.request))
            return
        self._session.refuse(call, code, str(error))

    def _fail_handshake(self, call: Call, error: NriError) -> None:
        """Leave after the answer. A wrong configuration stays wrong; another report may be good."""
        if isinstance(call.request, SynchronizeRequest):
            error = ConnectionLost(f"not synchronized: {error}")
        self.fault = self.fault or error
        self._advance("handshake failed")

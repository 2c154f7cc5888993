"""A plugin as a runtime sees it: one connection that never blocks, and perhaps a process.

Calls are begun, and `wait` waits for any number of them at once: that is the loop of the runtime
side. Requests of a plugin are served after the runtime's own call to it, since a runtime holds its
lock until then.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.message import Message

from nri_inject import capabilities
from nri_inject.api import (
    ConfigureRequest,
    ConfigureResponse,
    Container,
    ContainerUpdate,
    Empty,
    FailurePolicy,
    Pod,
    RegisterPluginRequest,
    SynchronizeResponse,
    UpdateContainersResponse,
)
from nri_inject.capabilities import FAILURE_POLICY, Runtime, known_events
from nri_inject.errors import ConnectionLost, NriError, ProtocolError, RemoteError
from nri_inject.runtime import synchronize
from nri_inject.text.names import is_plugin_index, is_plugin_name
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

REGISTRATION_TIMEOUT: Final = 5.0
REQUEST_TIMEOUT: Final = 2.0
"""The defaults of NRI's runtimes, in seconds."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The deadlines for a plugin's registration, and for each answer, in seconds."""

    registration: float = REGISTRATION_TIMEOUT
    request: float = REQUEST_TIMEOUT


_READ: Final = 1 << 16
_MAX_UNSENT: Final = 8 << 20
"""How many bytes may wait for a plugin that does not read. Beyond that nothing is read from it, and
no request is added."""
_MAX_POSTPONED: Final = 16
"""How many updates a plugin may request while it has a call of ours."""

_CREDENTIALS: Final = struct.Struct("3i")  # ucred of unix(7): process, user, group

Response = TypeVar("Response", bound=Message)
Updater = Callable[[list[ContainerUpdate]], list[ContainerUpdate]]
Tap = Callable[[Role, bytes], None]
"""Is told every byte: who said it, and what."""


class Late(NriError):
    """The plugin did not answer in time, and its failure policy keeps it connected."""


class Unanswered(NriError):
    """A request fails since a plugin did not answer it, and its failure policy wants that."""


class Pending:
    """A call of ours, or a registration, that waits for the plugin until its deadline.

    With `on_behalf` the deadline is that of the runtime's own caller, so it is no fault of the
    plugin if it passes.
    """

    def __init__(self, peer: Peer, what: str, timeout: float, *, on_behalf: bool = False) -> None:
        self.peer = peer
        self.what = what
        self.on_behalf = on_behalf
        self.deadline = time.monotonic() + timeout
        self.stream = 0
        self._outcome: Message | NriError | None = None

    @property
    def done(self) -> bool:
        """Whether there is an outcome, good or bad."""
        return self._outcome is not None

    def end(self, outcome: Message | NriError) -> None:
        """Set the outcome; the first one counts."""
        self._outcome = self._outcome or outcome

    def result(self, response_type: type[Response]) -> Response:
        """Return the answer, or raise ConnectionLost, RemoteError or another NriError."""
        if isinstance(self._outcome, NriError):
            raise self._outcome
        if not isinstance(self._outcome, response_type):
            raise TypeError(f"{self.what} has no {response_type.__name__}, but {self._outcome!r}")
        return self._outcome


class Peer:
    """One connected plugin.

    Every method raises ConnectionLost when the plugin is gone, late, or breaks the protocol: a
    runtime drops it then. Late means that it was late and stays, by its failure policy.
    RemoteError is the plugin's own answer, and it stays. `update` makes
    the updates that the plugin requests by itself, and returns those that failed; that waits
    while the plugin has a call of ours, and while `holds_updates` is set.
    """

    def __init__(
        self,
        connection: socket.socket,
        update: Updater | None = None,
        pid: int | None = None,
        *,
        tap: Tap | None = None,
        checks_name: bool = False,
    ) -> None:
        self.index = ""
        self.name = ""
        self.events = 0
        self.policy = FailurePolicy()
        self.update = update
        self.pid = pid
        self.lost: ConnectionLost | None = None
        self.knows_dedicated_calls = True
        self.holds_updates = False
        self._checks_name = checks_name
        self._registration: Pending | None = None
        self._registered: Message | NriError | None = None
        self._socket = connection
        self._session = Session(Role.RUNTIME)
        self._tap = tap
        self._unsent = b""
        self._asked: dict[int, Pending] = {}
        self._postponed: deque[Call] = deque()
        connection.setblocking(False)

    @property
    def title(self) -> str:
        """The plugin's name as runtimes write it, `10-device-injector`."""
        return f"{self.index}-{self.name}"

    def wants(self, event: int) -> bool:
        """Tell whether the plugin subscribed to an event, by its number."""
        return bool(self.events >> (event - 1) & 1)

    # --- what a runtime does with a plugin --------------------------------------------------------

    def register(self, timeout: float = REGISTRATION_TIMEOUT) -> None:
        """Wait for the plugin's registration."""
        pending = self.registration(timeout)
        wait(pending)
        pending.result(Empty)

    def configure(
        self,
        runtime: Runtime,
        config: str = "",
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        """Hand the plugin its configuration, and learn which events it wants.

        NriError if it wants an event that this runtime does not know.
        """
        request = configuration(runtime, config, Timeouts())
        self.subscribe(self.request("Configure", request, ConfigureResponse, timeout), runtime)

    def subscribe(self, response: ConfigureResponse, runtime: Runtime) -> None:
        """Take the plugin's event mask, 0 for every event of this runtime, and failure policy."""
        known = known_events(runtime)
        if response.events & ~known:
            wrong = response.events & ~known & 0xFFFFFFFF
            raise NriError(f"plugin {self.title} requests invalid events: {wrong:#x}")
        self.events = response.events or known
        if runtime.nri >= FAILURE_POLICY:
            self.policy = response.failure_policy

    def synchronize(
        self,
        pods: Sequence[Pod],
        containers: Sequence[Container],
        timeout: float = REQUEST_TIMEOUT,
        *,
        splits: bool = True,
    ) -> list[ContainerUpdate]:
        """Report the existing objects to the plugin, and return the updates that it requests.

        A report that is too long for one message is sent in parts, which share the timeout.
        NriError if it may not be split, and for a plugin that does not accept parts.
        """
        steps = self.synchronization(pods, containers, timeout, splits=splits)
        try:
            while True:
                wait(next(steps))
        except StopIteration as end:
            updates: list[ContainerUpdate] = end.value
            return updates

    def request(
        self,
        method: str,
        message: Message,
        response_type: type[Response],
        timeout: float = REQUEST_TIMEOUT,
    ) -> Response:
        """Call a method of the plugin and wait for its answer, `timeout` seconds at most."""
        pending = self.begin(method, message, timeout)
        wait(pending)
        return pending.result(response_type)

    # --- without waiting --------------------------------------------------------------------------

    def registration(self, timeout: float = REGISTRATION_TIMEOUT) -> Pending:
        """Expect the plugin's registration, which may have arrived already."""
        pending = Pending(self, "registration", timeout)
        self._registration = pending
        if outcome := self._registered or self.lost:
            pending.end(outcome)
        return pending

    def begin(
        self,
        method: str,
        message: Message,
        timeout: float = REQUEST_TIMEOUT,
        *,
        on_behalf: bool = False,
    ) -> Pending:
        """Call a method of the plugin; `timeout` in seconds is sent with it.

        `on_behalf` is that of Pending. A plugin that has left too much unread is not sent any more;
        it is late when the deadline passes.
        """
        pending = Pending(self, method, timeout, on_behalf=on_behalf)
        if self.lost:
            pending.end(self.lost)
            return pending
        try:
            if len(self._unsent) <= _MAX_UNSENT:
                pending.stream = self._session.call(method, message, int(timeout * 1e9))
        except ValueError as error:  # too long to be sent
            pending.end(NriError(f"plugin {self.title}: {error}"))
            return pending
        self._asked[pending.stream] = pending
        self._send()
        return pending

    def synchronization(
        self,
        pods: Sequence[Pod],
        containers: Sequence[Container],
        timeout: float = REQUEST_TIMEOUT,
        *,
        splits: bool = True,
    ) -> Generator[Pending, None, list[ContainerUpdate]]:
        """Do what `synchronize` does in steps; yields what to wait for before the next one."""
        deadline = time.monotonic() + timeout
        for part in synchronize.parts(pods, containers, splits=splits):
            pending = self.begin("Synchronize", part, deadline - time.monotonic())
            yield pending
            response = pending.result(SynchronizeResponse)
            if part.more and (not response.more or response.update):
                raise NriError(f"plugin {self.title} does not handle split sync requests")
        return list(response.update)

    def give_up(self, pending: Pending) -> None:
        """End a call whose deadline has passed; lose the plugin unless its policy keeps it."""
        text = f"plugin {self.title} did not answer {pending.what} in time"
        if pending.on_behalf:
            text = f"the request ended before plugin {self.title} answered {pending.what}"
        elif not self.policy.keep_connected:
            self._lose(text)
            return
        self._asked.pop(pending.stream, None)
        self._session.forget(pending.stream)
        pending.end(NriError(text) if pending.on_behalf else Late(text))

    def has_ended(self) -> bool:
        """Tell whether the plugin has closed the connection, whatever it has sent before."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLRDHUP)
        if poll.poll(0):
            self._lose(f"plugin {self.title} ended")
        return self.lost is not None

    def fileno(self) -> int:
        """Return the connection's descriptor, -1 when it is closed."""
        return self._socket.fileno()

    def interest(self) -> int:
        """Return what to wait for, as for `select.poll`."""
        writes = select.POLLOUT if self._unsent else 0
        reads = select.POLLIN if len(self._unsent) <= _MAX_UNSENT else 0
        return reads | writes

    def ready(self) -> None:
        """Send and read what is possible at once, and act on it. Never raises: see `lost`."""
        self._send()
        if self.lost or not self.interest() & select.POLLIN:
            return
        try:
            data = self._socket.recv(_READ)
            self._tell_tap(Role.PLUGIN, data)
            events = self._session.receive(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(f"plugin {self.title}: {error.strerror}")
            return
        except ProtocolError as error:
            self._lose(f"plugin {self.title}: {error}")
            return
        for event in events:
            self._act(event)
        self.serve_postponed()
        if not data:
            self._lose(f"plugin {self.title} ended")

    def serve_postponed(self) -> None:
        """Make the updates that have waited, if they need not wait any longer."""
        while self._postponed and self._may_update():
            self._update(self._postponed.popleft())
        self._send()

    def close(self) -> None:
        """Close the connection; a launched plugin is killed, as runtimes do."""
        self._socket.close()
        if self.pid is not None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.pid = None

    def _act(self, event: Event) -> None:
        if not isinstance(event, Call):
            self._answered(event)
        elif isinstance(event.request, RegisterPluginRequest):
            self._register(event, event.request)
        elif self._may_update():
            self._update(event)
        elif len(self._postponed) < _MAX_POSTPONED:
            self._postponed.append(event)
        else:
            text = f"at most {_MAX_POSTPONED} updates may wait for the end of a request"
            self._session.refuse(event, Code.RESOURCE_EXHAUSTED, text)

    def _may_update(self) -> bool:
        return not (self._asked or self.holds_updates)

    def _answered(self, event: Answer | Failure) -> None:
        pending = self._asked.pop(event.stream, None)
        if pending is None:
            return
        if isinstance(event, Failure):
            pending.end(RemoteError(event.code, event.text))
        else:
            pending.end(event.response)

    def _register(self, call: Call, request: RegisterPluginRequest) -> None:
        """Read a registration; a launched plugin's name is that of its file.

        A second registration is answered without an error and changes nothing.
        """
        if not (self.index or self.name):
            try:
                check_identity(request, strict=self._checks_name)
            except NriError as error:
                self._session.refuse(call, Code.UNKNOWN, str(error))
                self._end_registration(error)
                return
            self.index, self.name = request.plugin_idx, request.plugin_name
        self._session.answer(call, Empty())
        self._end_registration(Empty())

    def _end_registration(self, outcome: Message | NriError) -> None:
        self._registered = outcome
        if self._registration is not None:
            self._registration.end(outcome)

    def _update(self, call: Call) -> None:
        """Make the updates that the plugin requests; evictions are passed over, as everywhere."""
        updates = list(getattr(call.request, "update", ()))
        failed = updates if self.update is None else self.update(updates)
        if names := [update.container_id for update in failed if not update.ignore_failure]:
            # With a status, as every runtime does: an answer with the list would say that all
            # is well to plugins that look at nothing but the status.
            text = f"NRI update of some containers failed: {', '.join(names)}"
            self._session.refuse(call, Code.UNKNOWN, text)
        else:
            self._session.answer(call, UpdateContainersResponse(failed=failed))

    def _send(self) -> None:
        said = self._session.outgoing()
        self._tell_tap(Role.RUNTIME, said)
        self._unsent += said
        while self._unsent and not self.lost:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._lose(f"plugin {self.title}: {error.strerror}")
                return
            self._unsent = self._unsent[sent:]

    def _tell_tap(self, sender: Role, data: bytes) -> None:
        if self._tap is not None and data:
            self._tap(sender, data)

    def _lose(self, text: str) -> None:
        if self.lost is None:
            self.lost = ConnectionLost(text)
        while self._asked:
            self._asked.popitem()[1].end(self.lost)
        if self._registration is not None:
            self._registration.end(self.lost)


def wait(*pending: Pending) -> None:
    """Wait until each has an outcome; one whose deadline passes loses its plugin."""
    while waiting := [one for one in pending if not one.done]:
        peers = {one.peer.fileno(): one.peer for one in waiting}
        poll = select.poll()
        for descriptor, peer in peers.items():
            poll.register(descriptor, peer.interest())
        left = min(one.deadline for one in waiting) - time.monotonic()
        for descriptor, _ in poll.poll(max(left, 0) * 1000):
            peers[descriptor].ready()
        # A plugin that never stops talking is late as well: there is always something to read.
        expire(waiting)


def expire(pending: Sequence[Pending]) -> None:
    """Lose the plugins that have let a deadline pass."""
    now = time.monotonic()
    for one in pending:
        if not one.done and one.deadline <= now:
            one.peer.give_up(one)


def configuration(runtime: Runtime, config: str, timeouts: Timeouts) -> ConfigureRequest:
    """Return the Configure request of a runtime of this version."""
    tells_timeouts = runtime.nri >= (0, 7, 0)
    return ConfigureRequest(
        config=config,
        runtime_name=runtime.name,
        runtime_version=runtime.version,
        NRI_version=f"v{capabilities.dotted(runtime.nri)}" if runtime.nri >= (0, 12, 0) else "",
        registration_timeout=int(timeouts.registration * 1000) if tells_timeouts else 0,
        request_timeout=int(timeouts.request * 1000) if tells_timeouts else 0,
    )


def check_identity(request: RegisterPluginRequest, *, strict: bool) -> None:
    """Raise NriError for a name or an index that a runtime would refuse.

    `strict` is the rule of NRI 0.12.0, which allows few characters in a name; before, any were
    allowed. What would break a line of the log is refused here for every version.
    """
    name, index = request.plugin_name, request.plugin_idx
    if not name:
        raise NriError("invalid plugin name: it is empty")
    if not name.isprintable() or (strict and not is_plugin_name(name)):
        raise NriError(f"invalid plugin name {name!r}: only letters, digits and . _ + - allowed")
    if not is_plugin_index(index):
        raise NriError(f"invalid plugin index {index!r}: two digits expected, as in 10")


def process_of(connection: socket.socket) -> int:
    """Return the id of the process at the other end of a unix socket, 0 if it cannot be known."""
    try:
        ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return 0
    return int(_CREDENTIALS.unpack(ucred)[0])

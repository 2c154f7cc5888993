"""A plugin on a socket: the only place of the plugin side that waits for anything.

One thread and one loop. The runtime's socket, signals and whatever else a plugin watches are
waited for together, so a handler never meets another one half way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, Literal, Protocol

from google.protobuf.message import Message

from nri_inject import runtimes
from nri_inject.api import (
    ConfigureRequest,
    ConfigureResponse,
    Container,
    ContainerUpdate,
    Pod,
    RegisterPluginRequest,
    SynchronizeRequest,
    SynchronizeResponse,
    UpdateContainersRequest,
    UpdateContainersResponse,
)
from nri_inject.errors import ConnectionLost, NriError, ProtocolError, RemoteError
from nri_inject.plugin import Plugin, dispatch, events_of, only_tells, subscription
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

log = logging.getLogger(__name__)

DEFAULT_SOCKET = "/var/run/nri/nri.sock"
NRI_VERSION = "0.12.2"
"""The release of the protocol that we speak; runtimes learn it when we register."""

PATIENCE = 120.0
"""How long a runtime may take to configure us and to tell what exists, in seconds. It takes
connections one after the other, and each silent one in front of ours costs it 5 s."""

MAX_TOLD = 100_000
"""How many pods and containers a runtime may report in all parts of a Synchronize, together. A node
has some hundreds; what never ends must not fill its memory."""

MAX_TOLD_BYTES = 64 << 20
"""How many bytes of them are kept for a plugin that wants all of them together."""

FAREWELL = 2.0
"""How long the last answer may take on its way out, in seconds: a runtime's own deadline."""

FIRST_PAUSE = 0.5
"""The first pause between two attempts to connect, in seconds; each further one is doubled."""

LONGEST_PAUSE = 30.0
"""The longest pause between two attempts to connect, in seconds."""

_READ = 1 << 16
_MOST_READY = 16

NO_HANDLERS = Plugin(name="none", index="00")
"""What answers for a plugin where its own answer does not matter."""


class Watch(Protocol):
    """Something else to wait for: a descriptor, and what to do when it can be read."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def ready(self) -> None:
        """Read what is there; must not wait."""


Phase = Literal["disconnected", "registering", "configured", "synchronized"]
"""What a runtime has done with us. One before NRI 0.7 leaves what it launched at "configured"."""

Then = Callable[[list[ContainerUpdate] | NriError], None]

Observer = Callable[[Role, bytes], None]
"""Is shown the bytes of a connection, and who sends them; `b""` is the end of the connection."""


class Stub:
    """Run a plugin against one runtime.

    With `connection`, a connected socket that somebody else made (a runtime launched us):
    `run` ends when the runtime closes it. Otherwise `socket_path` is dialled, and dialled
    again, with growing pauses, whenever the connection is lost; `run` ends on SIGTERM and
    SIGINT.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        connection: socket.socket | None = None,
        socket_path: str = DEFAULT_SOCKET,
        watches: Iterable[Watch] = (),
    ) -> None:
        self.plugin = plugin
        self._others: list[Plugin] = []
        self._observer: Observer | None = None
        self._given = connection
        self._path = socket_path
        self._updates: deque[tuple[UpdateContainersRequest, Then | None]] = deque()
        self._afterwards: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._has_served = False
        self._pauses = _pauses()
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._conversations: Sequence[_Conversation] = ()
        self._wake_end, self._woken_end = socket.socketpair()
        for end in (self._wake_end, self._woken_end):
            end.setblocking(False)
        self._wait_for(self._woken_end.fileno(), self._woken)
        for watch in watches:
            self.watch(watch)

    @property
    def launched(self) -> bool:
        """Whether the one connection was made by a runtime that launched us."""
        return self._given is not None

    def join(self, plugin: Plugin) -> None:
        """Serve another plugin in the same loop, on a connection of its own to `socket_path`.

        All connections are lost with the first that is lost, and dialled again together: for
        plugins that are of use together only. Updates go out on the first plugin's connection.
        Not for a launched stub, which has one connection; ValueError there.
        """
        if self.launched:
            raise ValueError("a launched plugin has one connection")
        self._others.append(plugin)

    def observe(self, observer: Observer) -> None:
        """Show all bytes of the first plugin's connections to `observer`, which must not wait."""
        self._observer = observer

    def run(self) -> None:
        """Serve until the runtime or a signal ends it; once in the life of a stub.

        Raises ConnectionLost when a given connection ends before the plugin was configured,
        and NriError when the runtime or the plugin itself refuses the configuration.
        """
        try:
            with _Signals(self.stop, self._wake_end):
                if self._given is not None:
                    self._serve([self._given])
                else:
                    self._serve_for_ever()
        finally:
            self._follow()
            self._epoll.close()
            self._wake_end.close()
            self._woken_end.close()

    @property
    def phase(self) -> Phase:
        """How far we have come with the runtime."""
        return self._conversations[0].phase if self._conversations else "disconnected"

    def stop(self) -> None:
        """End `run` as soon as the handler that is running has answered. Any thread may call."""
        self._stopping = True
        self._wake()

    def watch(self, watch: Watch) -> None:
        """Wait for something else too; `watch.ready` is called in the same thread.

        One that fails is logged and no longer waited for.
        """
        self._wait_for(watch.fileno(), partial(self._watched, watch))

    def unwatch(self, watch: Watch) -> None:
        """Wait for it no longer; its descriptor must still be open."""
        self._wait_no_longer_for(watch.fileno())

    def update(self, updates: Iterable[ContainerUpdate], then: Then | None = None) -> None:
        """Ask the runtime to change containers that exist. Any thread, and any handler, may call.

        Nothing waits: the request is sent after the current handler has answered, since the
        runtime would not take it before. `then` gets the updates that failed, or the error.
        Before the plugin is configured, and while there is no connection, requests are kept.
        """
        self._updates.append((UpdateContainersRequest(update=updates), then))
        self._wake()

    def after(self, do: Callable[[], None]) -> None:
        """Call `do` when the answer of the handler that calls this has gone to the socket.

        That is for what a container need not wait for, such as writing down what it was given. It
        is done in the same thread, before anything else is read, and as well if the answer is an
        error, or cannot be sent, or only in part for now. One that fails is logged. Not for `do`
        itself: what it puts off is done after the next request.
        """
        self._afterwards.append(do)

    def _serve_for_ever(self) -> None:
        while not self._stopping:
            try:
                connections = _connect(self._path, 1 + len(self._others))
            except OSError as error:
                pause = next(self._pauses)
                log.warning(
                    "cannot connect to %s: %s; next attempt in %.1f s",
                    *(self._path, error.strerror or error, pause),
                )
                self._wait(pause)
                continue
            try:
                self._serve(connections)
            except (ConnectionLost, ProtocolError) as error:
                log.warning("%s", error)
            except RemoteError as error:
                if not self._has_served:  # later on it is the runtime that has changed its mind
                    raise
                log.warning("%s", error)
            if not self._stopping:
                pause = next(self._pauses)
                log.warning(
                    "lost the connection to %s; connecting again in %.1f s", self._path, pause
                )
                self._wait(pause)

    def _serve(self, connections: Sequence[socket.socket]) -> None:
        """Serve to the end of the first that ends; raise what ended it, if that was a fault."""
        conversations = self._conversations = self._begun(connections)
        try:
            for conversation in conversations:
                self._wait_for(conversation.socket.fileno(), conversation.ready)
                conversation.start()
            patient = False  # for ever, once the runtime has taken all of them in
            while not (self._stopping or any(map(_HAS_ENDED, conversations))):
                wait = None if patient else _shortest(map(_Conversation.patience, conversations))
                patient = wait is None
                self._turn(wait)
        finally:
            self._conversations = ()
            for conversation in conversations:
                conversation.finish()
                self._wait_no_longer_for(conversation.socket.fileno())
                conversation.close()
            if all(each.synchronized for each in conversations):
                self._has_served = True
                self._pauses = _pauses()
        for conversation in conversations:
            conversation.check()

    def _begun(self, connections: Sequence[socket.socket]) -> list[_Conversation]:
        first, *others = connections
        return [
            _Conversation(
                *(self.plugin, first, self._updates, self._epoll.modify),
                launched=self.launched,
                observer=self._observer,
            ),
            *(
                _Conversation(plugin, connection, deque(), self._epoll.modify, launched=False)
                for plugin, connection in zip(self._others, others, strict=True)
            ),
        ]

    def _wait_for(self, descriptor: int, ready: Callable[[], None]) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)
        self._ready[descriptor] = ready

    def _wait_no_longer_for(self, descriptor: int) -> None:
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _turn(self, timeout: float | None) -> None:
        for descriptor, _ in self._epoll.poll(timeout, _MOST_READY):
            # What came before it may have ended the wait for it.
            if ready := self._ready.get(descriptor):
                ready()
            if self._afterwards:
                self._follow()

    def _follow(self) -> None:
        for _ in range(len(self._afterwards)):
            try:
                self._afterwards.popleft()()
            except Exception:  # the same boundary as for handlers
                log.exception("what was to follow an answer failed")

    def _watched(self, watch: Watch) -> None:
        try:
            watch.ready()
        except Exception:  # the same boundary as for handlers
            log.exception("%r failed and is no longer watched", watch)
            self.unwatch(watch)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._turn(left)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # enough bytes wait there, or `run` has ended
            self._wake_end.send(b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken_end.recv(_READ)
        for conversation in self._conversations:
            conversation.flush()


def serve(plugin: Plugin, *, socket_path: str = DEFAULT_SOCKET) -> None:
    """Run `plugin` the way it was started: launched by a runtime, or by hand.

    A runtime that launches a plugin passes a connected socket's descriptor in
    NRI_PLUGIN_SOCKET (NRI, pkg/api/plugin.go). Without it `socket_path` is dialled.
    """
    connection = launched_connection(os.environ)
    Stub(plugin, connection=connection, socket_path=socket_path).run()


def launched_connection(environ: Mapping[str, str]) -> socket.socket | None:
    """Return the connection that a runtime left for us, None if there is none.

    Raises ConnectionLost if NRI_PLUGIN_SOCKET does not name a connected socket.
    """
    text = environ.get("NRI_PLUGIN_SOCKET", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConnectionLost(f"NRI_PLUGIN_SOCKET is {text!r}, the number of a descriptor expected")
    try:
        connection = socket.socket(fileno=int(text))
        try:
            connection.getpeername()
        except OSError:
            connection.close()
            raise
    except OSError as error:
        raise ConnectionLost(
            f"NRI_PLUGIN_SOCKET is {text}, which is no connected socket: {error.strerror}"
        ) from error
    os.set_inheritable(connection.fileno(), False)
    return connection


class _Conversation:
    """One connection from registration to its end."""

    def __init__(
        self,
        plugin: Plugin,
        connection: socket.socket,
        updates: deque[tuple[UpdateContainersRequest, Then | None]],
        wait: Callable[[int, int], None],
        *,
        launched: bool,
        observer: Observer | None = None,
    ) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._plugin = plugin
        self._launched = launched
        self._observe = observer
        self._left_by = Role.PLUGIN
        self._session = Session(Role.PLUGIN)
        self._unsent = b""
        self._wait = wait
        self._waits_for_room = False
        self._updates = updates
        self._asked: dict[int, Then | None] = {}
        self._told = _Told()
        self._configured = False
        self._fault: NriError | None = None
        self._deadline = time.monotonic() + PATIENCE
        self._leaving = False
        self.synchronized = False
        self.ended = False

    @property
    def phase(self) -> Phase:
        """How far this conversation has come."""
        if self.synchronized:
            return "synchronized"
        return "configured" if self._configured else "registering"

    def start(self) -> None:
        """Register; the answer and the first call may come in either order."""
        self._session.call(
            "RegisterPlugin",
            RegisterPluginRequest(
                plugin_name=self._plugin.name,
                plugin_idx=self._plugin.index,
                NRI_version=NRI_VERSION,
            ),
        )
        self.flush()

    def ready(self) -> None:
        """Send what could not be sent before, or read what is there and act on it.

        A peer that does not read is not read from either.
        """
        if self._unsent:
            self.flush()
            return
        try:
            data = self.socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(ConnectionLost(f"the connection to the runtime broke: {error.strerror}"))
            return
        if not data:
            self._left_by = Role.RUNTIME
            self._end(None)
            return
        if self._observe is not None:
            self._observe(Role.RUNTIME, data)
        try:
            for event in self._session.receive(data):
                self._act(event)
        except ProtocolError as error:
            self._end(error)
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes; requests of our own wait for their turn."""
        if self._updates:
            self._ask()
        if data := self._session.outgoing():
            if self._observe is not None:
                self._observe(Role.PLUGIN, data)
            self._unsent += data
        while self._unsent and not self.ended:
            try:
                sent = self.socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(ConnectionLost(f"the connection to the runtime broke: {error.strerror}"))
                return
            self._unsent = self._unsent[sent:]
        if self._waits_for_room != bool(self._unsent):
            self._waits_for_room = not self._waits_for_room
            events = select.EPOLLOUT if self._waits_for_room else select.EPOLLIN
            self._wait(self.socket.fileno(), events)
        if self._leaving and not self._unsent:
            self._end(None)

    def finish(self) -> None:
        """Let an answer that is on its way arrive, if the peer takes it soon.

        Half an answer would have the runtime create the container without its adjustment.
        """
        deadline = time.monotonic() + FAREWELL
        while self._unsent and not self.ended and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self.socket, select.POLLOUT)
            poll.poll(left * 1000)
            self.flush()

    def patience(self) -> float | None:
        """Return how long to wait for the runtime, in seconds; for ever once we belong to it.

        Runtimes before NRI 0.12 leave a connection open on which synchronization failed, and
        are silent from then on. Those before 0.7 never synchronize what they launched.
        """
        if self.synchronized or (self._configured and self._launched):
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._end(ConnectionLost(f"the runtime did not take us in within {PATIENCE:.0f} s"))
        return max(left, 0.0)

    def close(self) -> None:
        """Close the connection, and tell those who wait for an answer that none will come."""
        self.socket.close()
        if self._observe is not None:
            self._observe(self._left_by, b"")
        while self._asked:
            _, then = self._asked.popitem()
            _tell(then, ConnectionLost("the connection ended before the runtime answered"))

    def check(self) -> None:
        """Raise what ended this conversation, if it was a fault."""
        if self._fault is not None:
            raise self._fault

    def _end(self, fault: NriError | None) -> None:
        if not self.ended:
            self.ended = True
            if fault is None and not self._configured:
                fault = ConnectionLost("the runtime closed the connection before configuring us")
            self._fault = self._fault or fault

    def _act(self, event: Event) -> None:
        if isinstance(event, Call):
            self._serve_call(event)
        elif event.method == "RegisterPlugin":
            self._registered(event)
        else:
            self._updated(event)

    def _serve_call(self, call: Call) -> None:
        try:
            self._session.answer(call, self._answer(call))
        except NriError as error:
            log.error("%s fails: %s", call.method, error)
            self._failed(call, error, Code.UNKNOWN)
        except Exception:  # a plugin's bug must not end the service of other containers
            log.exception("the handler of %s failed", call.method)
            text = f"plugin {self._plugin.name} failed in {call.method}, its log tells why"
            self._failed(call, NriError(text), Code.INTERNAL)

    def _answer(self, call: Call) -> Message:
        if isinstance(call.request, ConfigureRequest):
            return self._configure(call.request)
        if isinstance(call.request, SynchronizeRequest):
            return self._synchronize(call.request)
        return dispatch(self._plugin, call.method, call.request)

    def _failed(self, call: Call, error: NriError, code: Code) -> None:
        if call.method in ("Configure", "Synchronize"):
            self._leave(call.method, error)
        elif only_tells(call.method, call.request):
            self._session.answer(call, dispatch(NO_HANDLERS, call.method, call.request))
            return
        self._session.refuse(call, code, str(error))

    def _leave(self, method: str, error: NriError) -> None:
        """End after the answer: no runtime talks to us any more, and some do not even say so.

        A wrong configuration stays wrong; what exists on a node may be told better next time.
        """
        self._leaving = True
        synchronizing = method == "Synchronize"
        self._fault = ConnectionLost(f"not synchronized: {error}") if synchronizing else error

    def _configure(self, request: ConfigureRequest) -> ConfigureResponse:
        runtime = runtimes.of_request(request)
        if runtime.assumed:
            log.warning(
                "%s %s is a runtime that we do not know; taking its NRI for %s",
                *(runtime.name, runtime.version, runtimes.dotted(runtime.nri)),
            )
        if self._plugin.configure is not None:
            self._plugin = self._plugin.configure(request) or self._plugin
        wanted = subscription(self._plugin)
        events = wanted & runtimes.known_events(runtime)
        if events != wanted:
            log.warning(
                "%s %s does not know these events, so they will not come: %s",
                *(request.runtime_name, request.runtime_version),
                ", ".join(events_of(wanted & ~events)),
            )
        self._configured = True
        log.info(
            "configured by %s %s, plugin %s-%s",
            *(request.runtime_name, request.runtime_version),
            *(self._plugin.index, self._plugin.name),
        )
        return ConfigureResponse(events=events or subscription(NO_HANDLERS))

    def _synchronize(self, request: SynchronizeRequest) -> SynchronizeResponse:
        plugin = self._plugin
        self._told.count(request)
        if plugin.synchronize_part is not None:
            plugin.synchronize_part(request.pods, request.containers)
        elif plugin.synchronize is not None:
            self._told.keep(request)
        if request.more:
            return SynchronizeResponse(more=True)
        told, self._told = self._told, _Told()
        updates = plugin.synchronize(told.pods, told.containers) if plugin.synchronize else None
        self.synchronized = True
        log.info("synchronized with the runtime")
        return SynchronizeResponse(update=updates or ())

    def _registered(self, event: Answer | Failure) -> None:
        if isinstance(event, Failure):
            self._end(RemoteError(event.code, f"the runtime refused us: {event.text}"))

    def _ask(self) -> None:
        while self._updates and self._configured and not self._asked and not self.ended:
            request, then = self._updates.popleft()
            try:
                self._asked[self._session.call("UpdateContainers", request)] = then
            except ValueError as error:
                _tell(then, NriError(str(error)))

    def _updated(self, event: Answer | Failure) -> None:
        then = self._asked.pop(event.stream, None)
        if isinstance(event, Failure):
            _tell(then, RemoteError(event.code, event.text))
        elif isinstance(event.response, UpdateContainersResponse):
            _tell(then, list(event.response.failed))


class _Told:
    """What a runtime has reported in the parts of a Synchronize so far."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.containers: list[Container] = []
        self._count = 0
        self._bytes = 0

    def count(self, part: SynchronizeRequest) -> None:
        """Count the objects of a part; NriError where there are too many."""
        self._count += len(part.pods) + len(part.containers)
        if self._count > MAX_TOLD:
            raise NriError(f"the runtime reports more than {MAX_TOLD} pods and containers")

    def keep(self, part: SynchronizeRequest) -> None:
        """Keep the objects of a part; NriError where they are too long."""
        self._bytes += part.ByteSize()
        if self._bytes > MAX_TOLD_BYTES:
            raise NriError(
                f"the runtime reports more than {MAX_TOLD_BYTES >> 20} MiB of pods and containers;"
                " a plugin with a handler synchronize_part can take them as they come"
            )
        self.pods.extend(part.pods)
        self.containers.extend(part.containers)


def _tell(then: Then | None, outcome: list[ContainerUpdate] | NriError) -> None:
    if then is None:
        if outcome:
            log.error("the runtime did not make all updates: %s", outcome)
        return
    try:
        then(outcome)
    except Exception:  # the same boundary as for handlers
        log.exception("what was to follow an update failed")


class _Signals:
    """While open, SIGTERM and SIGINT call `stop`; not in other threads, where they cannot.

    A signal that comes just before the loop begins to wait does not end the wait by itself, and
    Python calls the handler only afterwards. So the signal also writes to what the loop waits for.
    """

    def __init__(self, stop: Callable[[], None], wake_end: socket.socket) -> None:
        self._stop = stop
        self._wake_end = wake_end
        self._before: dict[int, object] = {}
        self._woken_before = -1

    def __enter__(self) -> None:
        try:
            self._woken_before = signal.set_wakeup_fd(
                self._wake_end.fileno(), warn_on_full_buffer=False
            )
        except ValueError:  # only the main thread may
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: self._stop())

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.set_wakeup_fd(self._woken_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us


_HAS_ENDED: Final[Callable[[_Conversation], bool]] = attrgetter("ended")


def _shortest(waits: Iterable[float | None]) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)


def _connect(path: str, count: int) -> list[socket.socket]:
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(_dial(path)) for _ in range(count)]
        opened.pop_all()
    return connections


def _dial(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(FAREWELL)  # a listener whose backlog is full would keep us waiting
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _pauses() -> Iterator[float]:
    """Yield pauses that double from FIRST_PAUSE, each spread by half of it either way.

    A node's plugins all lose their runtime at once; the spread keeps them from all coming back
    at once.
    """
    import random  # here, since a plugin that a runtime launches connects to nothing

    pause = FIRST_PAUSE
    while True:
        yield min(pause, LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 - a spread, no secret
        pause *= 2

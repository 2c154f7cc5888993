"""A stub in a thread, and the runtime at the other end of its socket, in the test's hands."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.stub import Limits, Stub
from nri_inject.wire import Answer, Call, Failure, Role, Session
from nri_inject.wire.session import Event
from nri_inject.wire.ttrpc import Code

TIMEOUT = 20.0
"""How long anything may take before its test fails, in seconds."""

NAME, INDEX = "tested", "10"
POD = api.Pod(id="p1", name="pod")
CONTAINER = api.Container(id="c1", name="web")
CREATE = api.CreateContainerRequest(pod=POD, container=CONTAINER)
UPDATES = [api.ContainerUpdate(container_id="c2")]


def plugin(**handlers: Any) -> Plugin:
    return Plugin(name=NAME, index=INDEX, **handlers)


class Peer:
    """The runtime's end of a connection. No wait of its takes longer than TIMEOUT."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        self.connection = connection
        self.session = Session(Role.RUNTIME)
        self.events: deque[Event] = deque()

    def event(self) -> Event:
        """Return the next event."""
        while not self.events:
            data = self.connection.recv(1 << 16)
            assert data, "the plugin has closed the connection"
            self.events.extend(self.session.receive(data))
        return self.events.popleft()

    def called(self, method: str) -> Call:
        """Return the call that comes next, which must be to this method."""
        event = self.event()
        assert isinstance(event, Call)
        assert event.method == method
        return event

    def answer(self, call: Call, response: Message) -> None:
        self.session.answer(call, response)
        self.send()

    def refuse(self, call: Call, text: str) -> None:
        self.session.refuse(call, Code.UNKNOWN, text)
        self.send()

    def call(self, method: str, request: Message) -> None:
        self.session.call(method, request)
        self.send()

    def ask(self, method: str, request: Message) -> Message:
        """Call a method; return its response, which must come next."""
        self.call(method, request)
        event = self.event()
        assert isinstance(event, Answer)
        assert event.method == method
        return event.response

    def fail(self, method: str, request: Message) -> Failure:
        """Call a method that is to be answered with a status."""
        self.call(method, request)
        event = self.event()
        assert isinstance(event, Failure)
        return event

    def send(self) -> None:
        self.connection.sendall(self.session.outgoing())

    def take_in(self, version: str = "2.3.0") -> int:
        """Register, configure and synchronize the plugin; return its event mask."""
        self.answer(self.called("RegisterPlugin"), api.Empty())
        mask = self.configure(version)
        assert self.ask("Synchronize", api.SynchronizeRequest()) == api.SynchronizeResponse()
        return mask

    def configure(self, version: str = "2.3.0", config: str = "") -> int:
        request = api.ConfigureRequest(
            runtime_name="containerd", runtime_version=version, config=config
        )
        response = self.ask("Configure", request)
        assert isinstance(response, api.ConfigureResponse)
        return response.events

    def sees_the_end(self) -> bool:
        """Tell whether nothing but the end of the connection is left to read."""
        return not self.events and self.connection.recv(1 << 16) == b""

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """A stub that runs in a thread. What it raises is to be looked at with `outcome`."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self._error: BaseException | None = None
        self._looked = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.stub.run()
        except BaseException as error:
            self._error = error

    def outcome(self) -> BaseException | None:
        """Wait for the end of `run` without asking for it; return what it raised."""
        self._looked = True
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the stub does not end"
        return self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        looked = self._looked
        self.stub.stop()
        outcome = self.outcome()
        if error is None and not looked:
            assert outcome is None


@contextlib.contextmanager
def launched(tested: Plugin, **options: Any) -> Iterator[tuple[Peer, Running]]:
    """Run a plugin on a connection that was made for it."""
    ours, theirs = socket.socketpair()
    with Peer(ours) as peer, Running(Stub(tested, connection=theirs, **options)) as running:
        yield peer, running


class Listener:
    """A runtime's socket in the file system."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.bind(str(path))
        self.socket.listen()

    def accept(self) -> Peer:
        connection, _ = self.socket.accept()
        return Peer(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Heard(logging.Handler):
    """What the stub logs, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())

    def line(self) -> str:
        return self.lines.get(timeout=TIMEOUT)


def raising(error: Exception) -> Callable[..., None]:
    """Return a handler that fails."""

    def handler(*_: object) -> None:
        raise error

    return handler


LONG = api.Adjustment(args=["x" * 3_000_000])


class Asking:
    """A plugin that asks for an update while it handles a creation, and what came of it."""

    def __init__(self) -> None:
        self.outcomes: queue.Queue[list[api.ContainerUpdate] | NriError] = queue.Queue()
        self.ask: Callable[[], None] = lambda: None
        self.plugin = plugin(create_container=self.create_container)

    def create_container(self, _: api.Pod, __: api.Container) -> api.Adjustment:
        self.ask()
        return api.Adjustment(args=["created"])

    def outcome(self) -> list[api.ContainerUpdate] | NriError:
        return self.outcomes.get(timeout=TIMEOUT)


def external(tested: Plugin, path: Path, **limits: Any) -> Running:
    """Run a plugin that dials `path`, with short pauses unless `limits` says otherwise."""
    short = {"first_pause": 0.01, "max_pause": 0.05}
    return Running(Stub(tested, socket_path=str(path), limits=Limits(**short | limits)))

"""The stub over real sockets, against our own session in the runtime's role."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from google.protobuf.message import Message

from nri_inject import api, stub
from nri_inject.errors import ConfigError, ConnectionLost, NriError, ProtocolError, RemoteError
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import launch
from nri_inject.runtimes import identify
from nri_inject.stub import MAX_TOLD, Stub, launched_connection
from nri_inject.wire import Answer, Call, Failure, Role, Session
from nri_inject.wire.session import Event
from nri_inject.wire.ttrpc import Code

LONGEST = 20.0
"""How long anything may take before its test fails, in seconds."""

NAME, INDEX = "tested", "10"
POD = api.Pod(id="p1", name="pod")
CONTAINER = api.Container(id="c1", name="web")
CREATE = api.CreateContainerRequest(pod=POD, container=CONTAINER)
UPDATES = [api.ContainerUpdate(container_id="c2")]


def plugin(**handlers: Callable[..., Any]) -> Plugin:
    return Plugin(name=NAME, index=INDEX, **handlers)


class Peer:
    """The runtime's end of a connection. No wait of its takes longer than LONGEST."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(LONGEST)
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
        self._thread.join(LONGEST)
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
        self.socket.settimeout(LONGEST)
        self.socket.bind(str(path))
        self.socket.listen()

    def accept(self) -> Peer:
        connection, _ = self.socket.accept()
        return Peer(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a runtime's socket, for a stub that does not wait long for it."""
    monkeypatch.setattr(stub, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(stub, "LONGEST_PAUSE", 0.05)
    return tmp_path / "nri.sock"


class Heard(logging.Handler):
    """What the stub logs, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())

    def line(self) -> str:
        return self.lines.get(timeout=LONGEST)


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    stub.log.addHandler(handler)
    yield handler
    stub.log.removeHandler(handler)


def raising(error: Exception) -> Callable[..., None]:
    """Return a handler that fails."""

    def handler(*_: object) -> None:
        raise error

    return handler


# Registration and configuration


def test_a_plugin_registers_with_its_name_its_index_and_the_version_of_the_protocol() -> None:
    with launched(plugin()) as (peer, _):
        request = api.RegisterPluginRequest(
            plugin_name="tested", plugin_idx="10", NRI_version="0.12.2"
        )
        assert peer.event() == Call(1, "RegisterPlugin", request)
        peer.configure()


def test_configure_may_come_before_the_answer_to_the_registration() -> None:
    with launched(plugin(create_container=lambda *_: None)) as (peer, _):
        registration = peer.called("RegisterPlugin")
        assert peer.configure() == 0b1000
        peer.answer(registration, api.Empty())
        assert peer.ask("Synchronize", api.SynchronizeRequest()) == api.SynchronizeResponse()


def test_the_handler_of_configure_gets_the_whole_request() -> None:
    requests: queue.Queue[api.ConfigureRequest] = queue.Queue()
    with launched(plugin(configure=requests.put)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure("1.7.24~ds1", config="verbose: true")
    assert requests.get(timeout=LONGEST) == api.ConfigureRequest(
        runtime_name="containerd", runtime_version="1.7.24~ds1", config="verbose: true"
    )


NEW_EVENTS = "UPDATE_POD_SANDBOX, POST_UPDATE_POD_SANDBOX, VALIDATE_CONTAINER_ADJUSTMENT"


def test_configure_may_return_the_plugin_that_serves_from_then_on() -> None:
    created: queue.Queue[api.Container] = queue.Queue()
    other = plugin(create_container=lambda _, container: created.put(container))
    with launched(plugin(configure=lambda _: other, run_pod_sandbox=lambda _: None)) as (peer, _):
        assert peer.take_in() == 0b1000
        peer.ask("CreateContainer", CREATE)
    assert created.get(timeout=LONGEST) == CONTAINER


@pytest.mark.parametrize(
    ("version", "mask", "missing"),
    [("1.7.24~ds1", 0x7FF, True), ("2.1.9", 0x7FF, True), ("2.3.0", 0x3FFF, False)],
)
def test_a_runtime_is_asked_only_for_events_that_it_knows(
    version: str, mask: int, missing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    names = [name.lower() for name in api.Event.keys()[1:-1]]
    tested = plugin(**{name: lambda *_: None for name in names})
    with launched(tested) as (peer, _):
        assert peer.take_in(version) == mask
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    sentence = (
        f"containerd {version} does not know these events, so they will not come: {NEW_EVENTS}"
    )
    assert warnings == [sentence] * missing


def test_a_plugin_of_unknown_events_alone_asks_for_a_harmless_one() -> None:
    with launched(plugin(validate_container_adjustment=lambda _: None)) as (peer, _):
        assert peer.take_in("2.1.9") == 0b100


def test_what_is_assumed_of_an_unknown_runtime_is_logged(heard: Heard) -> None:
    with launched(plugin()) as (peer, _):
        peer.called("RegisterPlugin")
        request = api.ConfigureRequest(runtime_name="other", runtime_version="5.0")
        peer.ask("Configure", request)
        assert heard.line().startswith("other 5.0 is a runtime that we do not know; taking its NRI")


def test_a_refused_registration_is_raised() -> None:
    with launched(plugin()) as (peer, running):
        peer.refuse(peer.called("RegisterPlugin"), "invalid plugin name")
        error = running.outcome()
    assert isinstance(error, RemoteError)
    assert (error.code, str(error)) == (
        2,
        "the runtime refused us: invalid plugin name (status 2)",
    )


def test_a_refused_configuration_is_told_and_raised() -> None:
    problem = ConfigError("verbose is 'maybe', true or false expected")
    with launched(plugin(configure=raising(problem))) as (peer, running):
        peer.called("RegisterPlugin")
        assert peer.fail("Configure", api.ConfigureRequest()) == Failure(
            1, "Configure", 2, "verbose is 'maybe', true or false expected"
        )
        peer.close()
        assert running.outcome() is problem


def test_a_bug_in_configure_is_told_without_its_words_and_raised() -> None:
    with launched(plugin(configure=raising(KeyError("secret")))) as (peer, running):
        peer.called("RegisterPlugin")
        failure = peer.fail("Configure", api.ConfigureRequest())
        peer.close()
        error = running.outcome()
    assert failure[2:] == (13, "plugin tested failed in Configure, its log tells why")
    assert isinstance(error, NriError)
    assert str(error) == failure.text


# Synchronize


def test_what_exists_is_told_at_once_however_it_was_split() -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(*exists: Any) -> list[api.ContainerUpdate]:
        told.put(exists)
        return UPDATES

    pods = [api.Pod(id=str(number)) for number in range(5)]
    containers = [api.Container(id=str(number)) for number in range(5)]
    with launched(plugin(synchronize=synchronize)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        for part in (slice(0, 2), slice(2, 4)):
            request = api.SynchronizeRequest(
                pods=pods[part], containers=containers[part], more=True
            )
            assert peer.ask("Synchronize", request) == api.SynchronizeResponse(more=True)
        assert told.empty()
        last = api.SynchronizeRequest(pods=pods[4:], containers=containers[4:])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse(update=UPDATES)
        assert told.get(timeout=LONGEST) == (pods, containers)
        again = api.SynchronizeRequest(pods=pods[:1])
        assert peer.ask("Synchronize", again) == api.SynchronizeResponse(update=UPDATES)
        assert told.get(timeout=LONGEST) == (pods[:1], [])


def test_a_plugin_that_does_not_care_what_exists_answers_parts_all_the_same() -> None:
    with launched(plugin()) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[POD], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        last = api.SynchronizeRequest(containers=[CONTAINER])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse()


def test_a_runtime_that_never_stops_telling_what_exists_is_left() -> None:
    with launched(plugin(synchronize=lambda *_: None)) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod()] * (MAX_TOLD // 2), more=True)
        for _ in range(2):
            assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        failure = peer.fail("Synchronize", api.SynchronizeRequest(pods=[api.Pod()], more=True))
        assert failure[2:] == (2, "the runtime reports more than 100000 pods and containers")
        assert isinstance(running.outcome(), ConnectionLost)


def test_parts_are_handed_on_as_they_come_to_a_plugin_that_wants_them() -> None:
    told: queue.Queue[Any] = queue.Queue()
    handlers = {
        "synchronize_part": lambda *part: told.put((*map(list, part),)),
        "synchronize": lambda *exists: told.put(exists),
    }
    with launched(plugin(**handlers)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[POD], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        assert told.get(timeout=LONGEST) == ([POD], [])
        last = api.SynchronizeRequest(containers=[CONTAINER])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse()
        assert told.get(timeout=LONGEST) == ([], [CONTAINER])
        assert told.get(timeout=LONGEST) == ([], [])


@pytest.mark.parametrize("handler", ["synchronize_part", "run_pod_sandbox"])
def test_a_plugin_that_keeps_nothing_is_not_held_to_any_bytes_but_to_a_count(
    handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "MAX_TOLD_BYTES", 10)
    with launched(plugin(**{handler: lambda *_: None})) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod(name="longer than ten")], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        part = api.SynchronizeRequest(pods=[api.Pod()] * MAX_TOLD, more=True)
        failure = peer.fail("Synchronize", part)
        assert failure[2:] == (2, "the runtime reports more than 100000 pods and containers")
        assert isinstance(running.outcome(), ConnectionLost)


def test_a_runtime_that_reports_too_many_bytes_for_a_plugin_that_wants_all_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stub, "MAX_TOLD_BYTES", 3 << 20)
    with launched(plugin(synchronize=lambda *_: None)) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod(name="x" * (1 << 20))], more=True)
        for _ in range(2):
            assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        failure = peer.fail("Synchronize", part)
        assert failure.text == (
            "the runtime reports more than 3 MiB of pods and containers;"
            " a plugin with a handler synchronize_part can take them as they come"
        )
        assert isinstance(running.outcome(), ConnectionLost)


def test_a_fault_in_synchronize_is_told_and_ends_the_connection() -> None:
    with launched(plugin(synchronize=raising(NriError("cannot")))) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        failure = peer.fail("Synchronize", api.SynchronizeRequest())
        assert failure[2:] == (2, "cannot")
        assert peer.sees_the_end()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "not synchronized: cannot"


# Handlers


def test_an_error_of_a_handler_is_a_status_with_its_sentence() -> None:
    with launched(plugin(create_container=raising(NriError("no such device: ✗")))) as (peer, _):
        peer.take_in()
        failure = peer.fail("CreateContainer", CREATE)
        assert failure[1:] == ("CreateContainer", 2, "no such device: ✗")


def test_an_error_that_utf_8_cannot_say_does_no_harm() -> None:
    tested = plugin(create_container=raising(NriError("no device \ud800")))
    with launched(tested) as (peer, _):
        peer.take_in()
        assert peer.fail("CreateContainer", CREATE)[2:] == (2, "no device \\ud800")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()


def test_a_bug_in_a_handler_is_logged_told_without_its_words_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def create_container(_: api.Pod, container: api.Container) -> api.Adjustment:
        return api.Adjustment(args=[{"web": "fine"}[container.name]])

    with launched(plugin(create_container=create_container)) as (peer, _):
        peer.take_in()
        bad = api.CreateContainerRequest(container=api.Container(name="secret"))
        failure = peer.fail("CreateContainer", bad)
        assert failure[2:] == (13, "plugin tested failed in CreateContainer, its log tells why")
        adjust = api.Adjustment(args=["fine"])
        response = api.CreateContainerResponse(adjust=adjust)
        assert peer.ask("CreateContainer", CREATE) == response
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage() == "the handler of CreateContainer failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


def test_a_handler_that_returns_nonsense_is_a_bug_too(caplog: pytest.LogCaptureFixture) -> None:
    with launched(plugin(create_container=lambda *_: True)) as (peer, _):
        peer.take_in()
        assert peer.fail("CreateContainer", CREATE).code == 13
    assert "the handler of CreateContainer returned bool" in caplog.text


# What follows an answer


class Afterwards:
    """A plugin whose handler has something done afterwards, and what has been done."""

    def __init__(self, meanwhile: Callable[[], None], then: Callable[[], None]) -> None:
        self.plugin = plugin(create_container=self.create_container)
        self.stub: Stub | None = None
        self.done: list[str] = []
        self.meanwhile = meanwhile
        self._then = then

    def create_container(self, *_: object) -> None:
        assert self.stub is not None
        self.stub.after(self._do)
        self.done.append("asked")
        self.meanwhile()

    def _do(self) -> None:
        self.done.append("told")
        self._then()


@contextlib.contextmanager
def following(
    meanwhile: Callable[[], None] = lambda: None, then: Callable[[], None] = lambda: None
) -> Iterator[tuple[Peer, Running, Afterwards]]:
    """Run a plugin that does something afterwards."""
    tested = Afterwards(meanwhile, then)
    with launched(tested.plugin) as (peer, running):
        tested.stub = running.stub
        peer.take_in()
        yield peer, running, tested


def test_what_follows_an_answer_is_done_when_the_runtime_can_have_it() -> None:
    answered = threading.Event()
    waited: list[bool] = []
    with following(then=lambda: waited.append(answered.wait(LONGEST))) as (peer, _, _):
        peer.ask("CreateContainer", CREATE)
        answered.set()
        peer.ask("Shutdown", api.Empty())
        assert waited == [True]


def test_what_follows_an_answer_is_done_before_anything_else_is_read() -> None:
    with following() as (peer, _, tested):
        peer.ask("CreateContainer", CREATE)
        peer.ask("CreateContainer", CREATE)
        peer.ask("Shutdown", api.Empty())
        assert tested.done == ["asked", "told", "asked", "told"]


def test_what_follows_an_answer_follows_an_error_too() -> None:
    with following(meanwhile=raising(NriError("no such device"))) as (peer, _, tested):
        assert peer.fail("CreateContainer", CREATE).text == "no such device"
        peer.ask("Shutdown", api.Empty())
        assert tested.done == ["asked", "told"]


def test_what_follows_an_answer_is_done_though_the_stub_is_to_stop() -> None:
    with following() as (peer, running, tested):
        tested.meanwhile = running.stub.stop
        peer.ask("CreateContainer", CREATE)
        assert running.outcome() is None
        assert tested.done == ["asked", "told"]


def test_what_follows_an_answer_is_done_though_nobody_is_there_to_have_it() -> None:
    with following() as (peer, running, tested):
        tested.meanwhile = peer.close
        peer.call("CreateContainer", CREATE)
        running.outcome()
        assert tested.done == ["asked", "told"]


def test_a_bug_in_what_follows_an_answer_is_logged_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with following(then=raising(KeyError("gone"))) as (peer, _, _):
        peer.ask("CreateContainer", CREATE)
        peer.ask("CreateContainer", CREATE)
        peer.ask("Shutdown", api.Empty())
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert told == ["what was to follow an answer failed"] * 2


ONLY_TELL = {
    "Shutdown": "shutdown",
    "PostUpdatePodSandbox": "post_update_pod_sandbox",
    "StopPodSandbox": "stop_pod_sandbox",
    "RemovePodSandbox": "remove_pod_sandbox",
    "PostCreateContainer": "post_create_container",
    "PostStartContainer": "post_start_container",
    "PostUpdateContainer": "post_update_container",
    "RemoveContainer": "remove_container",
}


def request_of(method: str) -> Message:
    return api.Empty() if method == "Shutdown" else getattr(api, f"{method}Request")()


@pytest.mark.parametrize(("method", "field"), ONLY_TELL.items(), ids=ONLY_TELL)
@pytest.mark.parametrize("error", [NriError("cannot"), KeyError("bug")], ids=["error", "bug"])
def test_a_fault_where_the_runtime_only_tells_is_logged_and_answered_empty(
    method: str, field: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with launched(plugin(**{field: raising(error)})) as (peer, _):
        peer.take_in()
        assert peer.ask(method, request_of(method)).ListFields() == []
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    if isinstance(error, NriError):
        assert record.getMessage() == f"{method} fails: cannot"
    else:
        assert record.exc_info is not None


def test_a_fault_in_a_state_change_that_only_tells_is_answered_empty() -> None:
    with launched(plugin(stop_pod_sandbox=raising(NriError("cannot")))) as (peer, _):
        peer.take_in("2.1.9")
        event = api.StateChangeEvent(event=api.Event.STOP_POD_SANDBOX, pod=POD)
        assert peer.ask("StateChange", event) == api.Empty()


@pytest.mark.parametrize("field", ["run_pod_sandbox", "start_container"])
def test_a_fault_in_a_state_change_that_asks_for_leave_is_a_status(field: str) -> None:
    with launched(plugin(**{field: raising(NriError("cannot"))})) as (peer, _):
        peer.take_in("2.1.9")
        event = api.StateChangeEvent(event=field.upper())
        assert peer.fail("StateChange", event)[2:] == (2, "cannot")


def test_a_state_change_and_the_dedicated_call_reach_the_same_handler() -> None:
    heard: queue.Queue[Any] = queue.Queue()

    def start_container(*arguments: Any) -> None:
        heard.put(arguments)

    with launched(plugin(start_container=start_container)) as (peer, _):
        peer.take_in()
        event = api.StateChangeEvent(event=api.Event.START_CONTAINER, pod=POD, container=CONTAINER)
        assert peer.ask("StateChange", event) == api.Empty()
        dedicated = api.StartContainerRequest(pod=POD, container=CONTAINER)
        assert peer.ask("StartContainer", dedicated) == api.StartContainerResponse()
        assert heard.get(timeout=LONGEST) == heard.get(timeout=LONGEST) == (POD, CONTAINER)


def test_an_unknown_event_is_answered_well() -> None:
    with launched(plugin()) as (peer, _):
        peer.take_in()
        event = api.StateChangeEvent()
        event.MergeFromString(b"\x08\x63")  # 99
        assert peer.ask("StateChange", event) == api.Empty()


# Updates on the plugin's own initiative


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
        return self.outcomes.get(timeout=LONGEST)


@contextlib.contextmanager
def asking() -> Iterator[tuple[Peer, Running, Asking]]:
    asked = Asking()
    with launched(asked.plugin) as (peer, running):
        asked.ask = lambda: running.stub.update(UPDATES, asked.outcomes.put)
        yield peer, running, asked


def test_an_update_is_sent_after_the_answer_of_the_handler_that_asked_for_it() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["created"]))
        call = peer.called("UpdateContainers")
        assert call.request == api.UpdateContainersRequest(update=UPDATES)
        peer.answer(call, api.UpdateContainersResponse())
        assert asked.outcome() == []


def test_updates_that_failed_are_told() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        failed = api.UpdateContainersResponse(failed=UPDATES)
        peer.answer(peer.called("UpdateContainers"), failed)
        assert asked.outcome() == UPDATES


def test_a_refused_update_is_told_with_status_and_sentence() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        peer.refuse(peer.called("UpdateContainers"), "some updates failed")
        error = asked.outcome()
        assert isinstance(error, RemoteError)
        assert (error.code, error.message) == (2, "some updates failed")


def test_an_update_without_an_answer_is_lost_with_the_connection() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        peer.called("UpdateContainers")
        peer.close()
        error = asked.outcome()
        assert isinstance(error, ConnectionLost)
        assert str(error) == "the connection ended before the runtime answered"
        assert running.outcome() is None


def test_an_update_from_another_thread_waits_until_the_plugin_is_configured() -> None:
    with asking() as (peer, running, asked):
        registration = peer.called("RegisterPlugin")
        running.stub.update(UPDATES, asked.outcomes.put)
        peer.answer(registration, api.Empty())
        peer.configure()
        peer.answer(peer.called("UpdateContainers"), api.UpdateContainersResponse())
        assert asked.outcome() == []


def test_updates_are_asked_for_one_after_the_other() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        for name in ("first", "second"):
            update = api.ContainerUpdate(container_id=name)
            running.stub.update([update], asked.outcomes.put)
        first = peer.called("UpdateContainers")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()  # so there is no second one yet
        peer.answer(first, api.UpdateContainersResponse())
        second = peer.called("UpdateContainers")
        assert [first.request, second.request] == [
            api.UpdateContainersRequest(update=[api.ContainerUpdate(container_id=name)])
            for name in ("first", "second")
        ]
        peer.answer(second, api.UpdateContainersResponse())
        assert [asked.outcome(), asked.outcome()] == [[], []]


def test_an_update_that_is_too_long_is_told_to_who_asked() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        update = api.ContainerUpdate(container_id="x" * (4 << 20))
        running.stub.update([update], asked.outcomes.put)
        error = asked.outcome()
        assert isinstance(error, NriError)
        assert str(error).startswith("UpdateContainers request of 41943")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()


def test_a_bug_in_what_follows_an_update_is_logged_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.update(UPDATES, raising(KeyError("bug")))
        peer.answer(peer.called("UpdateContainers"), api.UpdateContainersResponse())
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()
    assert "what was to follow an update failed" in caplog.messages


def test_a_failure_that_nobody_waits_for_is_logged(heard: Heard) -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.update(UPDATES)
        peer.refuse(peer.called("UpdateContainers"), "no")
        assert heard.line() == "the runtime did not make all updates: no (status 2)"


# The end of a launched plugin


def test_a_launched_plugin_ends_well_when_the_runtime_closes_the_connection() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        peer.close()
        assert running.outcome() is None


def test_a_launched_plugin_ends_well_where_runtimes_never_synchronize() -> None:
    with launched(plugin()) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure("1.7.24~ds1")
        peer.close()
        assert running.outcome() is None


@pytest.mark.parametrize("answered", [True, False], ids=["registered", "not registered"])
def test_a_connection_that_ends_before_configuration_is_lost(answered: bool) -> None:
    with launched(plugin()) as (peer, running):
        registration = peer.called("RegisterPlugin")
        if answered:
            peer.answer(registration, api.Empty())
        peer.close()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "the runtime closed the connection before configuring us"


def test_a_runtime_that_breaks_the_protocol_is_left() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        peer.connection.sendall(b"HTTP/1.1")
        error = running.outcome()
        assert peer.sees_the_end()
    assert isinstance(error, ProtocolError)
    assert str(error).startswith("multiplexer frame of 791752241 bytes on channel 1213486160")


def test_a_silent_runtime_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "PATIENCE", 0.05)
    with launched(plugin()) as (peer, running):
        peer.called("RegisterPlugin")
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "the runtime did not take us in within 0 s"


def test_a_launched_plugin_may_wait_for_ever_once_it_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stub, "PATIENCE", 0.5)
    with launched(plugin()) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure("1.7.24~ds1")
        peer.connection.settimeout(0.7)
        with pytest.raises(TimeoutError):
            peer.connection.recv(1)
        peer.connection.settimeout(LONGEST)
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()


def test_stop_ends_a_running_plugin() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.stop()
        assert running.outcome() is None
        assert peer.sees_the_end()


def test_stop_from_a_handler_lets_the_handler_answer() -> None:
    asked = Asking()
    with launched(asked.plugin) as (peer, running):
        asked.ask = running.stub.stop
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["created"]))
        assert running.outcome() is None


def test_stop_before_run_and_after_it_does_no_harm() -> None:
    ours, theirs = socket.socketpair()
    with Peer(ours):
        tested = Stub(plugin(), connection=theirs)
        tested.stop()
        tested.run()
        tested.stop()
        tested.update(UPDATES)


# A peer that does not read

LONG = api.Adjustment(args=["x" * 3_000_000])


def test_a_long_answer_waits_for_a_peer_that_reads_late() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, _):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        peer.call("Shutdown", api.Empty())
        first, second = peer.event(), peer.event()
        assert isinstance(first, Answer)
        assert first.response == api.CreateContainerResponse(adjust=LONG)
        assert isinstance(second, Answer)
        assert second.method == "Shutdown"


def test_a_long_answer_is_sent_on_when_the_peer_just_reads() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, _):
        peer.take_in()
        response = api.CreateContainerResponse(adjust=LONG)
        assert peer.ask("CreateContainer", CREATE) == response


def test_an_answer_on_its_way_still_arrives_after_a_stop() -> None:
    """Half an answer would have the runtime create the container without its adjustment."""
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        running.stub.stop()
        response = api.CreateContainerResponse(adjust=LONG)
        answer = peer.event()
        assert isinstance(answer, Answer)
        assert answer.response == response
        assert peer.sees_the_end()


def test_a_peer_that_does_not_read_does_not_keep_the_stub_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stub, "FAREWELL", 0.05)
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        running.stub.stop()
        assert running.outcome() is None


def test_a_peer_that_closes_without_reading_is_lost() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        peer.close()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error).startswith("the connection to the runtime broke: ")


class Bell:
    """Something else that a plugin watches."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.rung: queue.Queue[bytes] = queue.Queue()

    def fileno(self) -> int:
        return self.end.fileno()

    def ready(self) -> None:
        self.rung.put(self.end.recv(100))


def test_other_things_are_watched_even_while_a_peer_does_not_read() -> None:
    near, far = socket.socketpair()
    bell = Bell(near)
    with near, far, launched(plugin(create_container=lambda *_: LONG), watches=[bell]) as (peer, _):
        far.sendall(b"before")
        assert bell.rung.get(timeout=LONGEST) == b"before"
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        far.sendall(b"meanwhile")
        assert bell.rung.get(timeout=LONGEST) == b"meanwhile"
        peer.event()


def test_what_a_plugin_watches_may_change_while_it_runs() -> None:
    near, far = socket.socketpair()
    bell = Bell(near)
    asked = Asking()
    with near, far, launched(asked.plugin) as (peer, running):
        peer.take_in()
        asked.ask = lambda: running.stub.watch(bell)
        peer.ask("CreateContainer", CREATE)
        far.sendall(b"heard")
        assert bell.rung.get(timeout=LONGEST) == b"heard"
        asked.ask = lambda: running.stub.unwatch(bell)
        peer.ask("CreateContainer", CREATE)
        far.sendall(b"unheard")
        peer.ask("Shutdown", api.Empty())
        assert bell.rung.empty()


class Cracked(Bell):
    """A bell that cannot be heard."""

    def ready(self) -> None:
        raise KeyError("bug")

    def __repr__(self) -> str:
        return "the bell"


def test_a_watch_that_fails_is_logged_once_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    near, far = socket.socketpair()
    with near, far, launched(plugin(), watches=[Cracked(near)]) as (peer, _):
        far.sendall(b"ring")
        peer.take_in()
        peer.ask("Shutdown", api.Empty())
    assert caplog.messages.count("the bell failed and is no longer watched") == 1


# External plugins


def external(tested: Plugin, path: Path) -> Running:
    return Running(Stub(tested, socket_path=str(path)))


def test_an_external_plugin_comes_back_registers_and_synchronizes_anew(path: Path) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(pods: Any, _: object) -> None:
        told.put(pods)

    exists = api.SynchronizeRequest(pods=[POD])
    with Listener(path) as listener, external(plugin(synchronize=synchronize), path) as running:
        for _ in range(3):
            with listener.accept() as peer:
                peer.take_in()
                assert told.get(timeout=LONGEST) == []
                assert peer.ask("Synchronize", exists) == api.SynchronizeResponse()
                assert told.get(timeout=LONGEST) == [POD]
        running.stub.stop()
        assert running.outcome() is None


def test_half_of_a_split_synchronize_is_forgotten_with_its_connection(path: Path) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(pods: Any, _: object) -> None:
        told.put(pods)

    with Listener(path) as listener, external(plugin(synchronize=synchronize), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            peer.ask("Synchronize", api.SynchronizeRequest(pods=[POD], more=True))
        with listener.accept() as peer:
            peer.take_in()
            assert told.get(timeout=LONGEST) == []


def test_a_missing_socket_is_logged_and_tried_again(path: Path, heard: Heard) -> None:
    with external(plugin(), path):
        for _ in range(3):
            line = heard.line()
            assert line.startswith(f"cannot connect to {path}: No such file or directory; next a")
        with Listener(path) as listener, listener.accept() as peer:
            peer.take_in()


def test_a_lost_connection_is_logged(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
        assert heard.line() == "the runtime closed the connection before configuring us"
        assert heard.line().startswith(f"lost the connection to {path}; connecting again in 0.")
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_stays_silent_is_dialled_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "PATIENCE", 0.05)
    with (
        Listener(path) as listener,
        external(plugin(), path),
        listener.accept() as silent,
        listener.accept() as second,
    ):
        silent.called("RegisterPlugin")
        assert silent.sees_the_end()
        second.called("RegisterPlugin")


def test_a_runtime_that_never_synchronizes_is_dialled_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "PATIENCE", 0.5)
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_breaks_the_protocol_is_dialled_again(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.connection.sendall(b"HTTP/1.1")
            assert heard.line().startswith("multiplexer frame of 791752241 bytes")
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "broken"])
def test_pauses_stay_short_after_connections_that_had_served(
    path: Path, heard: Heard, abruptly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "LONGEST_PAUSE", 30.0)
    with Listener(path) as listener, external(plugin(), path):
        for _ in range(6):
            with listener.accept() as peer:
                peer.take_in()
                if abruptly:  # a socket that is closed with unread bytes breaks the other end
                    peer.call("Shutdown", api.Empty())
                    assert peer.connection.recv(1, socket.MSG_PEEK)
            if abruptly:
                assert (
                    heard.line() == "the connection to the runtime broke: Connection reset by peer"
                )
            assert heard.line() == f"lost the connection to {path}; connecting again in 0.0 s"


def test_pauses_double_up_to_the_longest() -> None:
    middles = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    for pause, middle in zip(stub._pauses(), middles, strict=False):
        assert middle / 2 <= pause <= middle * 3 / 2


def test_a_plugin_that_failed_to_synchronize_comes_back(path: Path) -> None:
    faults = [NriError("not now")]

    def synchronize(*_: object) -> None:
        if faults:
            raise faults.pop()

    with Listener(path) as listener, external(plugin(synchronize=synchronize), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            assert peer.fail("Synchronize", api.SynchronizeRequest()).text == "not now"
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


def test_a_refusal_after_having_served_is_outlived(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.take_in()
        assert heard.line().startswith("lost the connection")
        with listener.accept() as peer:
            peer.refuse(peer.called("RegisterPlugin"), "not now")
            assert heard.line() == "the runtime refused us: not now (status 2)"
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_accepts_nobody_is_tried_again(path: Path, heard: Heard) -> None:
    with Listener(path), contextlib.ExitStack() as crowd:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = crowd.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        with external(plugin(), path):
            for _ in range(2):
                assert heard.line().startswith(f"cannot connect to {path}: ")


def test_a_refused_external_plugin_does_not_try_again(path: Path) -> None:
    with Listener(path) as listener, external(plugin(), path) as running:
        with listener.accept() as peer:
            peer.refuse(peer.called("RegisterPlugin"), "no")
        assert isinstance(running.outcome(), RemoteError)


def test_an_update_waits_for_the_next_connection(path: Path) -> None:
    with external(plugin(), path) as running:
        running.stub.update(UPDATES)
        with Listener(path) as listener, listener.accept() as peer:
            peer.answer(peer.called("RegisterPlugin"), api.Empty())
            peer.configure()
            call = peer.called("UpdateContainers")
            assert call.request == api.UpdateContainersRequest(update=UPDATES)


def test_stop_ends_an_external_plugin_while_it_pauses(
    path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(stub, "LONGEST_PAUSE", 1000.0)
    with external(plugin(), path) as running:
        heard.line()
        running.stub.stop()
        assert running.outcome() is None


# How a runtime launches


def test_without_a_descriptor_nothing_was_launched() -> None:
    assert launched_connection({}) is None
    assert launched_connection({"NRI_PLUGIN_SOCKET": ""}) is None


def test_a_launched_connection_is_not_handed_on_to_children() -> None:
    ours, theirs = socket.socketpair()
    number = os.dup(theirs.fileno())
    theirs.close()
    os.set_inheritable(number, True)
    with ours:
        connection = launched_connection({"NRI_PLUGIN_SOCKET": str(number)})
        assert connection is not None
        with connection:
            assert connection.fileno() == number
            assert not os.get_inheritable(number)


@pytest.mark.parametrize("text", ["three", "-1", "3 ", "0x3", "٣", "9" * 30])
def test_what_is_no_number_of_a_descriptor_is_told(text: str) -> None:
    with pytest.raises(ConnectionLost) as error:
        launched_connection({"NRI_PLUGIN_SOCKET": text})
    expected = f"NRI_PLUGIN_SOCKET is {text!r}, the number of a descriptor expected"
    assert str(error.value) == expected


def test_a_descriptor_that_is_no_socket_is_told(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        number = file.fileno()
        with pytest.raises(ConnectionLost) as error:
            launched_connection({"NRI_PLUGIN_SOCKET": str(number)})
    assert str(error.value) == (
        f"NRI_PLUGIN_SOCKET is {number}, which is no connected socket: "
        "Socket operation on non-socket"
    )


def test_a_socket_that_is_not_connected_is_told() -> None:
    with socket.socket(socket.AF_UNIX) as unconnected:
        number = os.dup(unconnected.fileno())
    with pytest.raises(ConnectionLost, match=r"which is no connected socket: Transport endpoint"):
        launched_connection({"NRI_PLUGIN_SOCKET": str(number)})


PROGRAM = textwrap.dedent("""
    from nri_inject.api import Adjustment
    from nri_inject.plugin import Plugin
    from nri_inject.stub import serve

    def create_container(pod, container):
        return Adjustment(args=[container.name])

    serve(Plugin(name="tiny", index="10", create_container=create_container))
""")


LAUNCHER = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


@contextlib.contextmanager
def process() -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    """Start a plugin as runtimes do: descriptor 3 and next to no environment."""
    ours, theirs = socket.socketpair()
    with theirs, Peer(ours) as peer:
        number = theirs.fileno()
        child = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(number), sys.executable, "-c", PROGRAM],
            env={"PATH": os.environ["PATH"], "NRI_PLUGIN_SOCKET": "3"},
            pass_fds=[number],
            cwd=Path(__file__).parents[1],
        )
        theirs.close()
        with child:
            try:
                yield peer, child
            finally:
                child.kill()


def test_sigterm_ends_a_launched_process_well() -> None:
    with process() as (peer, child):
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["web"]))
        child.terminate()
        assert child.wait(LONGEST) == 0


def test_a_launched_process_ends_well_with_its_runtime() -> None:
    with process() as (peer, child):
        peer.take_in()
        peer.close()
        assert child.wait(LONGEST) == 0


def test_a_signal_ends_a_wait_that_has_not_begun_yet(tmp_path: Path) -> None:
    """Without a descriptor that the signal itself writes to, such a signal would be slept over."""
    program = tmp_path / "10-asks"
    program.write_text(
        f"#!{sys.executable}\n"
        "import signal\n"
        "from nri_inject import ConfigError, Plugin, serve\n"
        "def configure(request):\n"
        "    raise ConfigError(f'woken by a descriptor: {signal.set_wakeup_fd(-1) >= 0}')\n"
        "serve(Plugin(name='asks', index='10', configure=configure))\n"
    )
    program.chmod(0o755)
    with contextlib.closing(launch(program)) as peer:
        peer.register()
        with pytest.raises(RemoteError) as caught:
            peer.configure(identify("containerd", "2.1.9"))
    assert caught.value.message == "woken by a descriptor: True"


# Several plugins on connections of their own


def together(path: Path, *plugins: Plugin) -> Running:
    first, *others = plugins
    tested = Stub(first, socket_path=str(path))
    for other in others:
        tested.join(other)
    return Running(tested)


def named(index: str, calls: queue.Queue[str]) -> Plugin:
    return Plugin(name=NAME, index=index, run_pod_sandbox=lambda _: calls.put(index))


def test_several_plugins_are_served_in_one_loop_each_on_its_own_connection(path: Path) -> None:
    calls: queue.Queue[str] = queue.Queue()
    plugins = named("00", calls), named("99", calls)
    with (
        Listener(path) as listener,
        together(path, *plugins),
        listener.accept() as low,
        listener.accept() as high,
    ):
        for peer in (low, high):
            peer.take_in()
        for peer in (high, low, high):
            peer.ask("RunPodSandbox", api.RunPodSandboxRequest(pod=POD))
    assert [calls.get(timeout=LONGEST) for _ in range(3)] == ["99", "00", "99"]


def test_with_one_connection_all_are_lost_and_dialled_again(path: Path) -> None:
    with Listener(path) as listener, together(path, plugin(), plugin()):
        with listener.accept() as low, listener.accept() as high:
            low.take_in()
            high.take_in()
            low.close()
            assert high.sees_the_end()
        with listener.accept() as low, listener.accept() as high:
            low.take_in()
            high.take_in()


def test_a_launched_plugin_has_one_connection_only() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tested = Stub(plugin(), connection=theirs)
        assert tested.launched
        with pytest.raises(ValueError, match="a launched plugin has one connection"):
            tested.join(plugin())
        tested.stop()
        tested.run()


# What an observer is shown


def test_an_observer_is_shown_all_bytes_and_who_ended_the_connection(path: Path) -> None:
    shown: list[tuple[Role, bytes]] = []
    tested = Stub(plugin(), socket_path=str(path))
    tested.observe(lambda sender, data: shown.append((sender, data)))
    with Listener(path) as listener, Running(tested):
        with listener.accept() as peer:
            peer.take_in()
        with listener.accept() as peer:
            peer.take_in()
            tested.stop()
            assert peer.sees_the_end()
    ends = [sender for sender, data in shown if not data]
    assert ends == [Role.RUNTIME, Role.PLUGIN]
    first = shown[: shown.index((Role.RUNTIME, b""))]
    replayed = Session(Role.PLUGIN)
    replayed.call("RegisterPlugin", api.RegisterPluginRequest())
    heard = [replayed.receive(data) for sender, data in first if sender is Role.RUNTIME]
    methods = [event.method for events in heard for event in events]
    assert methods == ["RegisterPlugin", "Configure", "Synchronize"]
    registration, *_ = Session(Role.RUNTIME).receive(first[0][1])
    assert isinstance(registration, Call)

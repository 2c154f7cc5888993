"""What the runtime and the workers read, whenever a worker dies."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from google.protobuf.message import Message

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.errors import ProtocolError
from nri_inject.service.parent import relay as module
from nri_inject.service.parent.relay import Relay
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

POD = api.Pod(id="p", name="web", namespace="shop")
TITLE = "10-device-injector"


class Worker:
    """A worker that reads and answers when the test says so."""

    def __init__(self) -> None:
        self.session = Session(Role.PLUGIN)
        self.calls: list[Call] = []
        self.events: list[Event] = []

    def register(self) -> bytes:
        request = api.RegisterPluginRequest(plugin_name="device-injector", plugin_idx="10")
        self.session.call("RegisterPlugin", request)
        return self.session.outgoing()

    def receive(self, data: bytes) -> list[str]:
        """Read; return the methods that were called and answered."""
        events = self.session.receive(data)
        self.events += events
        self.calls += [event for event in events if isinstance(event, Call)]
        return [event.method for event in events]

    def answer(self, response: Message | None = None) -> bytes:
        """Answer the oldest call."""
        call = self.calls.pop(0)
        self.session.answer(call, response or answers(call))
        return self.session.outgoing()


def answers(call: Call) -> Message:
    """Answer a container with a variable that has its id."""
    if isinstance(call.request, api.CreateContainerRequest):
        return adjusted(call.request.container.id)
    if isinstance(call.request, api.SynchronizeRequest):
        return api.SynchronizeResponse(more=call.request.more)
    return {"Configure": api.ConfigureResponse(events=1)}.get(call.method, api.Empty())


def adjusted(text: str) -> api.CreateContainerResponse:
    return api.CreateContainerResponse(
        adjust=api.Adjustment(env=[api.KeyValue(key="ID", value=text)])
    )


class Connection:
    """A relay, the runtime at its one end, and the workers that follow each other at the other."""

    def __init__(self) -> None:
        self.relay = Relay(TITLE)
        self.runtime = Session(Role.RUNTIME)
        self.worker = Worker()
        self.now = 0.0
        self.seen: list[Event] = []
        self.relay.worker_started(self.now)

    def begin(self) -> None:
        """Bring the first worker through the handshake."""
        self.from_worker(self.worker.register())
        (call,) = self.to_runtime()
        assert isinstance(call, Call)
        self.runtime.answer(call, api.Empty())
        self.ask("Configure", api.ConfigureRequest(config="a"))
        self.ask("Synchronize", api.SynchronizeRequest(pods=[POD]))
        assert self.to_worker() == ["RegisterPlugin", "Configure", "Synchronize"]
        for _ in range(2):
            self.from_worker(self.worker.answer())
        assert [event.method for event in self.to_runtime()] == ["Configure", "Synchronize"]
        assert (self.relay.configured, self.relay.synchronized) == (True, True)

    def ask(self, method: str, request: Message) -> None:
        self.runtime.call(method, request)
        self.relay.from_runtime(self.runtime.outgoing(), self.now)

    def create(self, *names: str) -> None:
        for name in names:
            container = api.Container(id=name, name=name)
            self.ask("CreateContainer", api.CreateContainerRequest(pod=POD, container=container))

    def from_worker(self, data: bytes) -> None:
        self.relay.from_worker(data, self.now)

    def to_worker(self) -> list[str]:
        """Let the worker read everything; return the methods."""
        data = b"".join(self.relay.for_worker)
        self.relay.for_worker.clear()
        return self.worker.receive(data) if data else []

    def to_runtime(self) -> list[Event]:
        """Let the runtime read everything."""
        data = b"".join(self.relay.for_runtime)
        self.relay.for_runtime.clear()
        return self.runtime.receive(data) if data else []

    def serve(self) -> None:
        """Let the worker answer everything."""
        self.to_worker()
        while self.worker.calls:
            self.from_worker(self.worker.answer())

    def next_worker(self, how: str = "worker 7 was killed") -> None:
        self.relay.worker_ended(how)
        self.worker = Worker()
        self.relay.worker_started(self.now)
        self.from_worker(self.worker.register())


@pytest.fixture
def connection() -> Connection:
    made = Connection()
    made.begin()
    return made


def told(events: Sequence[Event]) -> list[str]:
    """Return what the answers gave: the variable, or the error."""
    found = []
    for event in events:
        if isinstance(event, Answer) and isinstance(event.response, api.CreateContainerResponse):
            found.append(event.response.adjust.env[0].value)
        elif isinstance(event, Failure):
            found.append(event.text)
        else:
            found.append(event.method)
    return found


def test_a_request_and_its_answer_pass_unchanged(connection: Connection) -> None:
    connection.create("c1")
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


def test_the_next_worker_is_told_the_configuration_and_gets_the_request_that_waits(
    connection: Connection,
) -> None:
    connection.create("c1")
    connection.to_worker()
    connection.next_worker()
    assert connection.to_worker() == [
        "Configure",
        "Synchronize",
        "CreateContainer",
        "RegisterPlugin",
    ]
    configure, synchronize, create = connection.worker.calls
    assert configure.request == api.ConfigureRequest(config="a")
    assert synchronize.request == api.SynchronizeRequest()
    assert isinstance(create.request, api.CreateContainerRequest)
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]
    assert not connection.relay.waits


def test_an_answer_that_came_whole_is_not_asked_for_again(connection: Connection) -> None:
    connection.create("c1")
    connection.to_worker()
    connection.from_worker(connection.worker.answer())
    connection.next_worker()
    assert connection.to_worker() == ["Configure", "Synchronize", "RegisterPlugin"]
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


@pytest.mark.parametrize("cut", [1, 8, 17, 18, 4104, 4105, 4112, -1])
def test_half_an_answer_of_a_dead_worker_reaches_nobody(connection: Connection, cut: int) -> None:
    connection.create("c1")
    connection.to_worker()
    answer = connection.worker.answer(adjusted("x" * 10_000))
    connection.from_worker(answer[:cut])
    assert not connection.relay.for_runtime
    connection.next_worker()
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


def test_a_frame_that_the_runtime_has_half_of_is_sent_to_its_end(connection: Connection) -> None:
    connection.create("c1")
    connection.serve()
    (frame,) = connection.relay.for_runtime
    assert connection.runtime.receive(bytes(frame[:9])) == []
    connection.relay.for_runtime[0] = memoryview(frame)[9:]
    connection.next_worker()
    assert told(connection.to_runtime()) == ["c1"]


def test_half_a_request_waits_for_its_rest_whichever_worker_there_is(
    connection: Connection,
) -> None:
    container = api.Container(id="c1", env=["A=" + "x" * 9000])
    connection.runtime.call("CreateContainer", api.CreateContainerRequest(container=container))
    data = connection.runtime.outgoing()
    connection.relay.from_runtime(data[:5000], 0.0)
    connection.next_worker()
    assert connection.to_worker() == ["Configure", "Synchronize", "RegisterPlugin"]
    connection.relay.from_runtime(data[5000:], 0.0)
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


def test_a_request_that_comes_while_no_worker_lives_is_for_the_next(
    connection: Connection,
) -> None:
    connection.relay.worker_ended("worker 7 was killed")
    connection.create("c1")
    assert not connection.relay.for_worker
    connection.worker = Worker()
    connection.relay.worker_started(0.0)
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


def test_what_two_workers_fail_on_is_an_error_and_the_next_request_is_served(
    connection: Connection,
) -> None:
    connection.create("bad", "good")
    connection.next_worker("worker 7 was killed by signal 11 (SIGSEGV)")
    assert not connection.relay.for_runtime
    for _ in range(2):
        connection.to_worker()
        connection.from_worker(connection.worker.answer())  # Configure and Synchronize
    connection.next_worker("worker 8 was killed by signal 11 (SIGSEGV)")
    connection.serve()
    failure, served = told(connection.to_runtime())
    assert failure == (
        "pod shop/web, container bad: plugin 10-device-injector failed in CreateContainer:"
        " worker 7 was killed by signal 11 (SIGSEGV), then worker 8 was killed by signal 11"
        " (SIGSEGV); its log on the node has more; change what the pod asks for, or update"
        " nri-inject"
    )
    assert served == "good"


def test_a_notice_that_two_workers_fail_on_is_answered_well(connection: Connection) -> None:
    connection.ask("StopPodSandbox", api.StopPodSandboxRequest(pod=POD))
    event = api.StateChangeEvent(event=api.Event.REMOVE_CONTAINER, pod=POD)
    connection.ask("StateChange", event)
    for _ in range(4):
        connection.to_worker()
        while connection.worker.calls and connection.worker.calls[0].method in (
            "Configure",
            "Synchronize",
        ):
            connection.from_worker(connection.worker.answer())
        connection.next_worker()
    assert [type(event) for event in connection.to_runtime()] == [Answer, Answer]


def test_workers_that_do_not_start_fail_all_that_waits(connection: Connection) -> None:
    connection.create("c1", "c2")
    connection.next_worker()  # the one that served
    for _ in range(5):
        assert connection.relay.waits
        connection.next_worker("worker 8 cannot use its configuration")
    first, second = told(connection.to_runtime())
    assert first.startswith("pod shop/web, container c1: plugin 10-device-injector failed in")
    assert "worker 7 was killed, then worker 8 cannot use its configuration; its log" in first
    assert "CreateContainer: worker 8 cannot use its configuration; its log" in second
    assert not connection.relay.waits


def test_parts_of_what_exists_are_told_again_until_the_last_is_answered() -> None:
    connection = Connection()
    connection.from_worker(connection.worker.register())
    (call,) = connection.to_runtime()
    assert isinstance(call, Call)
    connection.runtime.answer(call, api.Empty())
    connection.ask("Configure", api.ConfigureRequest())
    parts = [api.SynchronizeRequest(pods=[POD], more=True), api.SynchronizeRequest(pods=[POD])]
    connection.ask("Synchronize", parts[0])
    connection.serve()
    connection.ask("Synchronize", parts[1])
    connection.next_worker()
    assert connection.to_worker() == ["Configure", "Synchronize", "Synchronize", "RegisterPlugin"]
    assert [call.request for call in connection.worker.calls[1:]] == parts
    connection.serve()
    methods = [event.method for event in connection.to_runtime()]
    assert methods == ["Configure", "Synchronize", "Synchronize"]
    connection.next_worker()
    connection.to_worker()
    assert connection.worker.calls[1].request == api.SynchronizeRequest()


def test_a_worker_that_dies_before_the_runtime_has_answered_its_registration() -> None:
    connection = Connection()
    connection.from_worker(connection.worker.register())
    (call,) = connection.to_runtime()
    assert isinstance(call, Call)
    connection.next_worker()
    assert connection.to_runtime() == []
    connection.runtime.answer(call, api.Empty())
    connection.relay.from_runtime(connection.runtime.outgoing(), 0.0)
    assert connection.to_worker() == ["RegisterPlugin"]


def test_calls_of_each_worker_get_numbers_of_their_own(connection: Connection) -> None:
    def update(name: str) -> None:
        request = api.UpdateContainersRequest(update=[api.ContainerUpdate(container_id=name)])
        connection.worker.session.call("UpdateContainers", request)
        connection.from_worker(connection.worker.session.outgoing())

    update("a")
    connection.next_worker()
    connection.serve()
    update("b")
    calls = connection.to_runtime()
    assert [(call.stream, call.method) for call in calls] == [
        (3, "UpdateContainers"),
        (5, "UpdateContainers"),
    ]
    of_the_dead, of_the_next = calls
    assert isinstance(of_the_dead, Call)
    assert isinstance(of_the_next, Call)
    connection.runtime.refuse(of_the_dead, Code.UNKNOWN, "no")
    connection.runtime.answer(of_the_next, api.UpdateContainersResponse())
    connection.relay.from_runtime(connection.runtime.outgoing(), 0.0)
    assert connection.to_worker() == ["UpdateContainers"]
    assert connection.worker.events[-1] == Answer(
        3, "UpdateContainers", api.UpdateContainersResponse()
    )


# --- time -----------------------------------------------------------------------------------------


def test_a_silent_worker_is_given_up_after_three_quarters_of_the_runtimes_patience(
    connection: Connection,
) -> None:
    assert connection.relay.deadline() is None
    connection.now = 10.0
    connection.create("c1")
    assert connection.relay.deadline() == 11.5
    assert connection.relay.expire(11.4) == ""
    assert connection.relay.expire(11.5) == "did not answer in 1.5 s"
    connection.now = 11.5
    connection.next_worker("worker 7 did not answer in 1.5 s")
    connection.serve()
    assert told(connection.to_runtime()) == ["c1"]


def test_a_request_that_hangs_two_workers_is_an_error_before_the_runtime_gives_up(
    connection: Connection,
) -> None:
    connection.now = 10.0
    connection.create("c1")
    connection.relay.expire(11.5)
    connection.now = 11.5
    connection.next_worker("worker 7 did not answer in 1.5 s")
    connection.to_worker()
    for _ in range(2):
        connection.from_worker(connection.worker.answer())
    assert connection.relay.deadline() == pytest.approx(11.85)
    assert connection.relay.expire(11.86) == "did not answer in 1.5 s"
    (text,) = told(connection.to_runtime())
    assert "worker 7 did not answer in 1.5 s, then no answer in 1.85 s" in text
    connection.create("c2")
    connection.next_worker("worker 8 did not answer in 1.5 s")
    connection.serve()
    assert told(connection.to_runtime()) == ["c2"]


def test_the_runtimes_own_timeout_counts() -> None:
    connection = Connection()
    connection.ask("Configure", api.ConfigureRequest(request_timeout=10_000))
    connection.serve()
    connection.now = 20.0
    connection.create("c1")
    assert connection.relay.deadline() == 27.5


# --- bounds and faults ----------------------------------------------------------------------------


def test_more_requests_than_may_wait_are_errors(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    connection.create("c1", "c2", "c3")
    assert told(connection.to_runtime()) == [
        "plugin 10-device-injector has too many requests to answer"
    ]


def test_a_request_that_is_too_long_is_an_error(connection: Connection) -> None:
    head = (4 << 20) + 1
    connection.runtime.call("CreateContainer", api.CreateContainerRequest())
    stream = connection.runtime.outgoing()[12:16]
    frame = (1).to_bytes(4, "big") + (4096).to_bytes(4, "big")
    header = head.to_bytes(4, "big") + stream + b"\x01\x00"
    connection.relay.from_runtime(frame + header + bytes(4086), 0.0)
    (failure,) = connection.to_runtime()
    assert isinstance(failure, Failure)
    assert failure.code == Code.INTERNAL


def test_a_broken_frame_of_the_runtime_or_the_worker_is_a_protocol_error(
    connection: Connection,
) -> None:
    frame = (1).to_bytes(4, "big") + (5 << 20).to_bytes(4, "big")
    with pytest.raises(ProtocolError):
        connection.relay.from_runtime(frame, 0.0)
    with pytest.raises(ProtocolError):
        connection.relay.from_worker(frame, 0.0)


def test_too_much_of_what_exists_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HISTORY", 100)
    connection = Connection()
    connection.from_worker(connection.worker.register())
    connection.ask("Configure", api.ConfigureRequest())
    for _ in range(3):
        connection.ask("Synchronize", api.SynchronizeRequest(pods=[POD], more=True))
        connection.serve()
    assert not connection.relay.lost
    connection.relay.worker_ended("worker 7 was killed")
    assert connection.relay.lost


# --- another process ------------------------------------------------------------------------------


def moved(connection: Connection) -> Connection:
    """Move a conversation to another process, by way of JSON."""
    there = Connection()
    there.relay = Relay.restored(TITLE, json.loads(json.dumps(connection.relay.saved())))
    there.runtime = connection.runtime
    there.relay.worker_started(there.now)
    there.from_worker(there.worker.register())
    return there


def test_a_relay_that_was_saved_goes_on_in_another_process(connection: Connection) -> None:
    before = connection.worker
    request = api.UpdateContainersRequest()
    before.session.call("UpdateContainers", request)
    connection.from_worker(before.session.outgoing())
    connection.to_runtime()
    connection.relay.worker_ended("")
    there = moved(connection)
    assert (there.relay.configured, there.relay.synchronized) == (True, True)
    assert there.to_worker() == ["Configure", "Synchronize", "RegisterPlugin"]
    configure, synchronize = (call.request for call in there.worker.calls)
    assert configure == api.ConfigureRequest(config="a")
    assert synchronize == api.SynchronizeRequest()
    there.serve()
    assert there.to_runtime() == []  # it has the answers of the worker before
    there.create("c")
    there.serve()
    (answer,) = there.to_runtime()
    assert isinstance(answer, Answer)
    assert answer.response == adjusted("c")
    there.worker.session.call("UpdateContainers", request)
    there.from_worker(there.worker.session.outgoing())
    (call,) = there.to_runtime()  # under a number that the runtime has not seen yet
    assert isinstance(call, Call)


def test_a_relay_keeps_how_it_was_configured(connection: Connection) -> None:
    assert Relay(TITLE).configuration == (b"", b"")
    told, answered = moved(connection).relay.configuration
    request = ttrpc_pb2.Request.FromString(told)
    assert api.ConfigureRequest.FromString(request.payload) == api.ConfigureRequest(config="a")
    response = ttrpc_pb2.Response.FromString(answered)
    assert api.ConfigureResponse.FromString(response.payload) == api.ConfigureResponse(events=1)


def test_a_relay_is_quiet_between_whole_messages_without_a_request_that_waits(
    connection: Connection,
) -> None:
    relay = connection.relay
    container = api.Container(id="c")
    connection.runtime.call("CreateContainer", api.CreateContainerRequest(container=container))
    data = connection.runtime.outgoing()
    seen = [relay.is_quiet]
    for part in (data[:20], data[20:]):
        relay.from_runtime(part, connection.now)
        seen.append(relay.is_quiet)
    connection.serve()
    seen.append(relay.is_quiet)
    connection.to_runtime()
    assert [*seen, relay.is_quiet] == [True, False, False, False, True]

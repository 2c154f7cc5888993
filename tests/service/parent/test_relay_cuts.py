"""Whenever workers die and however bytes are cut, each request has one answer, and whole frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from nri_inject import api
from nri_inject.service.parent.relay import Relay
from nri_inject.wire.session import Answer, Call, Failure, Role, Session

LONG = "x" * 5000  # takes two frames

steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 1)),
        st.tuples(st.just("update"), st.just(0)),
        st.tuples(st.just("runtime sends"), st.integers(1, 6000)),
        st.tuples(st.just("runtime reads"), st.integers(1, 6000)),
        st.tuples(st.just("worker reads"), st.integers(1, 6000)),
        st.tuples(st.just("worker sends"), st.integers(1, 6000)),
        st.tuples(st.just("worker dies"), st.integers(0, 6000)),
    ),
    max_size=60,
)


@dataclass
class World:
    """A runtime and workers, with the bytes on their way between them and the relay."""

    relay: Relay = field(default_factory=lambda: Relay("10-a"))
    runtime: Session = field(default_factory=lambda: Session(Role.RUNTIME))
    worker: Session = field(default_factory=lambda: Session(Role.PLUGIN))
    asked: dict[int, str] = field(default_factory=dict)
    answered: Counter[int] = field(default_factory=Counter)
    deaths: Counter[int] = field(default_factory=Counter)
    from_runtime: bytes = b""
    to_runtime: bytes = b""
    from_worker: bytes = b""
    to_worker: bytes = b""
    configured: bool = False
    registrations: int = 0

    def __post_init__(self) -> None:
        self.start_worker()
        self.call("Configure", api.ConfigureRequest(), "")
        self.call("Synchronize", api.SynchronizeRequest(pods=[api.Pod(id=LONG)], more=True), "")
        self.call("Synchronize", api.SynchronizeRequest(), "")

    def call(self, method: str, request: Message, expected: str) -> None:
        self.asked[self.runtime.call(method, request)] = expected
        self.from_runtime += self.runtime.outgoing()

    def start_worker(self) -> None:
        self.worker = Session(Role.PLUGIN)
        self.configured = False
        request = api.RegisterPluginRequest(plugin_name="a", plugin_idx="10")
        self.worker.call("RegisterPlugin", request)
        self.from_worker, self.to_worker = self.worker.outgoing(), b""
        self.relay.worker_started(0.0)

    def step(self, what: str, size: int) -> None:
        if what == "ask":
            name = f"{len(self.asked)}{LONG * size}"
            container = api.Container(id=name)
            self.call("CreateContainer", api.CreateContainerRequest(container=container), name)
        elif what == "update":
            self.worker.call("UpdateContainers", api.UpdateContainersRequest())
            self.from_worker += self.worker.outgoing()
        elif what == "runtime sends":
            data, self.from_runtime = self.from_runtime[:size], self.from_runtime[size:]
            self.relay.from_runtime(data, 0.0)
        elif what == "runtime reads":
            self.runtime_reads(size)
        elif what == "worker reads":
            self.worker_reads(size)
        elif what == "worker sends":
            data, self.from_worker = self.from_worker[:size], self.from_worker[size:]
            self.relay.from_worker(data, 0.0)
        else:
            self.relay.from_worker(self.from_worker[:size], 0.0)  # the kernel kept so much of it
            for stream in self.asked.keys() - self.answered.keys():
                self.deaths[stream] += 1
            self.relay.worker_ended("worker 7 was killed")
            self.start_worker()

    def runtime_reads(self, size: int) -> None:
        self.to_runtime += b"".join(self.relay.for_runtime)
        self.relay.for_runtime.clear()
        data, self.to_runtime = self.to_runtime[:size], self.to_runtime[size:]
        for event in self.runtime.receive(data) if data else ():
            if isinstance(event, Call):
                answer: Message = api.Empty()
                self.registrations += event.method == "RegisterPlugin"
                if event.method == "UpdateContainers":
                    answer = api.UpdateContainersResponse()
                self.runtime.answer(event, answer)
                self.from_runtime += self.runtime.outgoing()
                continue
            self.answered[event.stream] += 1
            if isinstance(event, Failure):
                assert "worker 7 was killed" in event.text
                assert self.deaths[event.stream] > 1
            elif isinstance(event.response, api.CreateContainerResponse):
                assert event.response.adjust.env[0].value == self.asked[event.stream]

    def worker_reads(self, size: int) -> None:
        self.to_worker += b"".join(self.relay.for_worker)
        self.relay.for_worker.clear()
        data, self.to_worker = self.to_worker[:size], self.to_worker[size:]
        for event in self.worker.receive(data) if data else ():
            if isinstance(event, Answer):
                continue
            assert isinstance(event, Call)
            self.worker.answer(event, self.response(event))
            self.from_worker += self.worker.outgoing()

    def response(
        self, call: Call
    ) -> api.ConfigureResponse | api.SynchronizeResponse | api.CreateContainerResponse:
        if call.method == "Configure":
            self.configured = True
            return api.ConfigureResponse()
        assert self.configured, "a worker is asked before it is configured"
        if isinstance(call.request, api.CreateContainerRequest):
            variable = api.KeyValue(key="ID", value=call.request.container.id)
            return api.CreateContainerResponse(adjust=api.Adjustment(env=[variable]))
        assert isinstance(call.request, api.SynchronizeRequest)
        return api.SynchronizeResponse(more=call.request.more)

    def finish(self) -> None:
        """Let everything on its way arrive."""
        for _ in range(6):
            self.step("runtime sends", 1 << 30)
            self.step("worker reads", 1 << 30)
            self.step("worker sends", 1 << 30)
            self.step("runtime reads", 1 << 30)


@examples(400)
@given(st.booleans(), steps)
def test_each_request_has_one_answer(is_synchronized: bool, taken: list[tuple[str, int]]) -> None:
    world = World()
    if is_synchronized:
        world.finish()
    for what, size in taken:
        world.step(what, size)
    world.finish()
    assert world.answered == dict.fromkeys(world.asked, 1)
    assert world.registrations == 1
    assert not world.relay.waits

"""The life of pods and containers as plugins are told of it, by every kind of runtime."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from support.lives import live

from nri_inject import api
from nri_inject.api import Adjustment, Container, ContainerState, ContainerUpdate, Pod
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import NriError, RemoteError, RequestError
from nri_inject.plugin import EVENTS, Plugin
from nri_inject.runtime.merge import Conflict
from nri_inject.runtime.peer import Peer, Timeouts
from nri_inject.runtime.validate import Rejection, Rules
from nri_inject.testing import FakeRuntime, make_container, make_pod
from nri_inject.wire.session import Call, Role, Session
from nri_inject.wire.ttrpc import Code

CONTAINERD_1 = identify("containerd", "1.7.24")
CONTAINERD_2 = identify("containerd", "2.1.9")
CRIO = Runtime("cri-o", "1.37.0", (0, 12, 0))
POD = make_pod("web")
MAIN = make_container(POD, "main", args=["sh"])
SIDE = make_container(POD, "side")

NewRuntime = Callable[..., FakeRuntime]
Told = list[str]


@pytest.fixture
def new_runtime() -> Iterator[NewRuntime]:
    opened: list[FakeRuntime] = []

    def new(runtime: Runtime = NEWEST, **options: Any) -> FakeRuntime:
        opened.append(FakeRuntime(runtime, **options))
        return opened[-1]

    yield new
    for runtime in opened:
        runtime.close()


def listener(told: Told, name: str = "web", index: str = "10", **handlers: Any) -> Plugin:
    """Make a plugin that hears everything; a handler given takes the place of one."""

    def hears(event: str) -> Callable[..., None]:
        def handler(*arguments: Any) -> None:
            container = next((each for each in arguments if isinstance(each, Container)), None)
            state = "" if container is None else f" {container.name} {container.state}"
            told.append(f"{event}{state}")

        return handler

    hearing = {field: hears(field) for field in EVENTS if field != "validate_container_adjustment"}
    return Plugin(name=name, index=index, **{**hearing, **handlers})


LIFE = [
    "run_pod_sandbox",
    "create_container main 0",
    "post_create_container main 1",
    "start_container main 1",
    "post_start_container main 3",
    "update_container main 3",
    "post_update_container main 3",
    "stop_container main 4",
    "stop_pod_sandbox",
    "remove_container main 4",
    "remove_pod_sandbox",
]


@pytest.mark.parametrize("runtime", [NEWEST, CONTAINERD_2, CONTAINERD_1, CRIO])
def test_events_come_in_the_order_of_a_life(new_runtime: NewRuntime, runtime: Runtime) -> None:
    told: Told = []
    world = new_runtime(runtime)
    world.connect(listener(told))
    live(world, POD, MAIN)
    older = runtime.name == "containerd"
    assert told == [
        "stop_container main 3" if older and event.startswith("stop_container") else event
        for event in LIFE
    ]
    assert (world.pods, world.containers, world.faults) == ({}, {}, [])


def test_a_pods_resources_are_updated_since_nri_0_10(new_runtime: NewRuntime) -> None:
    told: Told = []
    world = new_runtime()
    world.connect(listener(told))
    world.run_pod(POD)
    wanted = api.LinuxResources(cpu=api.LinuxCPU(cpus="3"))
    world.update_pod(POD.id, api.LinuxResources(), wanted)
    assert told == ["run_pod_sandbox", "update_pod_sandbox", "post_update_pod_sandbox"]
    assert world.pods[POD.id].linux.pod_resources == wanted
    old, told_old = new_runtime(CONTAINERD_2), Told()
    old.connect(listener(told_old))
    old.run_pod(POD)
    old.update_pod(POD.id, api.LinuxResources(), wanted)
    assert told_old == ["run_pod_sandbox"]


def test_stopping_a_pod_stops_its_containers_and_removing_removes_them(
    new_runtime: NewRuntime,
) -> None:
    told: Told = []
    world = new_runtime()
    world.connect(listener(told))
    world.run_pod(POD)
    for container in (MAIN, SIDE):
        world.create(container)
    told.clear()
    world.stop_pod(POD.id)
    world.stop(MAIN.id)  # which has stopped already
    world.remove_pod(POD.id)
    assert told == [
        "stop_container main 4",
        "stop_container side 4",
        "stop_pod_sandbox",
        "remove_container main 4",
        "remove_container side 4",
        "remove_pod_sandbox",
    ]


# --- errors ---------------------------------------------------------------------------------------


def refuses(*_: object) -> None:
    raise NriError("not today")


def test_a_pod_that_is_refused_ends_again(new_runtime: NewRuntime) -> None:
    told: Told = []
    world = new_runtime()
    world.connect(listener(told, run_pod_sandbox=refuses))
    with pytest.raises(RemoteError) as caught:
        world.run_pod(POD)
    assert caught.value.message == "not today"
    assert (told, world.pods) == (["stop_pod_sandbox", "remove_pod_sandbox"], {})


@pytest.mark.parametrize(
    ("runtime", "after"),
    [(NEWEST, ["stop_container main 0", "remove_container main 0"]), (CRIO, [])],
)
def test_a_container_that_fails_was_known_to_plugins(
    new_runtime: NewRuntime, runtime: Runtime, after: Told
) -> None:
    told: Told = []
    world = new_runtime(runtime)
    world.connect(listener(told))
    world.connect(Plugin(name="late", index="90", create_container=refuses))
    world.run_pod(POD)
    with pytest.raises(RemoteError):
        world.create(MAIN)
    assert told == ["run_pod_sandbox", "create_container main 0", *after]
    assert world.containers == {}


def test_the_first_error_ends_the_round(new_runtime: NewRuntime) -> None:
    told: Told = []
    world = new_runtime(CRIO)
    world.connect(Plugin(name="first", index="05", create_container=refuses))
    world.connect(listener(told))
    world.run_pod(POD)
    with pytest.raises(RemoteError):
        world.create(MAIN)
    assert told == ["run_pod_sandbox"]


def test_what_cannot_be_applied_fails_the_container(new_runtime: NewRuntime) -> None:
    namespaces = [api.LinuxNamespace(type="moon")]
    adjust = Adjustment(linux=api.LinuxContainerAdjustment(namespaces=namespaces))
    world = new_runtime()
    world.connect(Plugin(name="web", index="10", create_container=lambda *_: adjust))
    world.run_pod(POD)
    with pytest.raises(NriError, match=r"^unrecognized namespace 'moon'"):
        world.create(MAIN)
    assert world.containers == {}


def test_a_start_that_is_refused_stops_the_container_under_containerd(
    new_runtime: NewRuntime,
) -> None:
    told: Told = []
    world = new_runtime()
    world.connect(listener(told, start_container=refuses))
    world.run_pod(POD)
    world.create(MAIN)
    with pytest.raises(RemoteError):
        world.start(MAIN.id)
    assert told[-1] == "stop_container main 4"
    assert world.containers[MAIN.id].state == ContainerState.CONTAINER_STOPPED


def test_a_start_that_is_refused_is_only_logged_under_crio(new_runtime: NewRuntime) -> None:
    world = new_runtime(CRIO)
    world.connect(listener([], start_container=refuses))
    world.run_pod(POD)
    world.create(MAIN)
    world.start(MAIN.id)
    assert world.faults == ["START_CONTAINER: not today"]
    assert world.containers[MAIN.id].state == ContainerState.CONTAINER_RUNNING


def refuses_all(_: Call) -> NriError:
    """Refuse every event, as our own stub never would."""
    return NriError("not today")


def test_faults_after_the_fact_are_noted_and_nothing_more(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    with scripted(world, refuses_all):
        world.pods[POD.id] = POD
        container = Container()
        container.CopyFrom(MAIN)
        world.containers[MAIN.id] = container
        world.stop(MAIN.id)
        world.remove(MAIN.id)
        world.stop_pod(POD.id)
        world.remove_pod(POD.id)
    assert world.faults == [
        "STOP_CONTAINER: not today",
        "REMOVE_CONTAINER: not today",
        "STOP_POD_SANDBOX: not today",
        "REMOVE_POD_SANDBOX: not today",
    ]


def test_a_plugin_can_fail_the_stop_of_a_pod_under_crio(new_runtime: NewRuntime) -> None:
    world = new_runtime(CRIO)
    with scripted(world, refuses_all):
        world.pods[POD.id] = POD
        with pytest.raises(RemoteError):
            world.stop_pod(POD.id)


def test_ids_are_new_or_known(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    world.run_pod(POD)
    world.create(MAIN)
    with pytest.raises(ValueError, match="there is a pod 'pod-default-web' already"):
        world.run_pod(POD)
    with pytest.raises(ValueError, match=r"there is a container '[a-z-]+' already"):
        world.create(MAIN)
    with pytest.raises(KeyError):
        world.start("other")


# --- how older runtimes and older plugins are told ------------------------------------------------


@contextmanager
def scripted(
    world: FakeRuntime, answer: Callable[[Call], Any], events: int = 0
) -> Iterator[list[tuple[str, str]]]:
    """Connect a plugin that answers every call but the first ones by a function.

    Gives the methods that it was called by, with the name of the event in a StateChange.
    """
    ours, theirs = socket.socketpair()
    called: list[tuple[str, str]] = []

    def serve() -> None:
        session = Session(Role.PLUGIN)
        session.call(
            "RegisterPlugin", api.RegisterPluginRequest(plugin_name="old", plugin_idx="10")
        )
        while True:
            theirs.sendall(session.outgoing())
            data = theirs.recv(1 << 16)
            if not data:
                theirs.close()
                return
            for event in session.receive(data):
                if isinstance(event, Call):
                    respond(session, event)

    def respond(session: Session, call: Call) -> None:
        if isinstance(call.request, api.ConfigureRequest):
            session.answer(call, api.ConfigureResponse(events=events))
            return
        if isinstance(call.request, api.SynchronizeRequest):
            session.answer(call, api.SynchronizeResponse())
            return
        event = getattr(call.request, "event", 0)
        called.append((call.method, api.Event.Name(event)))
        response = answer(call)
        if isinstance(response, NriError):
            code = Code.UNIMPLEMENTED if "method" in str(response) else Code.UNKNOWN
            session.refuse(call, code, str(response))
        else:
            session.answer(call, response)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    world.adaptation.add(Peer(ours))
    try:
        yield called
    finally:
        world.adaptation.close()
        thread.join(10)
        assert not thread.is_alive()


def empty(call: Call) -> Any:
    name = "Empty" if call.method == "StateChange" else f"{call.method}Response"
    return getattr(api, name)()


def old(call: Call) -> Any:
    return NriError(f"method {call.method}") if call.method in DEDICATED else empty(call)


DEDICATED = {
    *("RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PostCreateContainer"),
    *("StartContainer", "PostStartContainer", "PostUpdateContainer", "RemoveContainer"),
    "PostUpdatePodSandbox",
}
METHODS = [
    *("RunPodSandbox", "CreateContainer", "PostCreateContainer", "StartContainer"),
    *("PostStartContainer", "UpdateContainer", "PostUpdateContainer", "StopContainer"),
    *("StopPodSandbox", "RemoveContainer", "RemovePodSandbox"),
]
MASK = 0x7FF


def by_state_change(method: str) -> tuple[str, str]:
    if method not in DEDICATED:
        return method, "UNKNOWN"
    snake = "".join(f"_{letter}" if letter.isupper() else letter for letter in method)
    return "StateChange", snake.lstrip("_").upper()


def test_since_nri_0_12_every_event_has_a_call_of_its_own(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    with scripted(world, empty, MASK) as called:
        live(world, POD, MAIN)
    assert called == [(method, "UNKNOWN") for method in METHODS]


def test_before_that_most_are_told_by_state_change(new_runtime: NewRuntime) -> None:
    world = new_runtime(CONTAINERD_2)
    with scripted(world, empty, MASK) as called:
        live(world, POD, MAIN)
    assert called == [by_state_change(method) for method in METHODS]


def test_a_plugin_without_those_calls_is_asked_for_one_of_them_once(
    new_runtime: NewRuntime,
) -> None:
    world = new_runtime()
    with scripted(world, old, MASK) as called:
        live(world, POD, MAIN)
    assert called == [("RunPodSandbox", "UNKNOWN"), *map(by_state_change, METHODS)]
    assert world.faults == []


def test_an_update_of_a_pod_has_no_other_form(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    world.pods[POD.id] = POD
    with (
        scripted(world, lambda call: NriError(f"method {call.method}")),
        pytest.raises(RemoteError) as caught,
    ):
        world.update_pod(POD.id, api.LinuxResources(), api.LinuxResources())
    assert caught.value.code == Code.UNIMPLEMENTED


# --- what plugins change --------------------------------------------------------------------------


def limited(container_id: str, limit: int, *, ignore: bool = False) -> ContainerUpdate:
    memory = api.LinuxMemory(limit={"value": limit})
    linux = api.LinuxContainerUpdate(resources=api.LinuxResources(memory=memory))
    return ContainerUpdate(container_id=container_id, linux=linux, ignore_failure=ignore)


def limit_of(world: FakeRuntime, container: Container) -> int:
    return world.containers[container.id].linux.resources.memory.limit.value


def test_the_spec_is_adjusted_and_its_owner_known(new_runtime: NewRuntime) -> None:
    adjust = Adjustment(env=[api.KeyValue(key="A", value="1")])
    world = new_runtime()
    world.connect(Plugin(name="web", index="10", create_container=lambda *_: adjust))
    world.run_pod(POD)
    made = world.create(MAIN, {"process": {"env": ["HOME=/"]}})
    assert made.before == {"process": {"env": ["HOME=/"]}}
    assert made.spec == {"process": {"env": ["HOME=/", "A=1"]}}
    assert made.adjust.env == adjust.env
    owners = made.created.owners.owners[MAIN.id].compound[api.Field.Env].owners
    assert dict(owners) == {"A": "10-web"}


def test_two_plugins_in_conflict_are_both_named(new_runtime: NewRuntime) -> None:
    adjust = Adjustment(args=["x"])
    world = new_runtime()
    for index in ("10", "20"):
        world.connect(Plugin(name="web", index=index, create_container=lambda *_: adjust))
    world.run_pod(POD)
    with pytest.raises(Conflict, match=r'^plugins "20-web" and "10-web" both tried to set Args$'):
        world.create(MAIN)


def test_updates_of_other_containers_are_made_at_every_event(new_runtime: NewRuntime) -> None:
    answers = iter([1, 2, 3])

    def updates(*_: object) -> list[ContainerUpdate]:
        return [limited(SIDE.id, next(answers)), limited("unknown", 9)]

    def create(_: Pod, container: Container) -> api.CreateContainerResponse:
        wanted = updates() if container.name == "main" else []
        return api.CreateContainerResponse(update=wanted)

    world = new_runtime()
    plugin = Plugin(name="web", index="10", create_container=create)
    world.connect(dataclasses.replace(plugin, update_container=updates, stop_container=updates))
    world.run_pod(POD)
    world.create(SIDE)
    limits = []
    for step in (
        lambda: world.create(MAIN),
        lambda: world.update_container(MAIN.id, api.LinuxResources()),
        lambda: world.stop(MAIN.id),
    ):
        step()
        limits.append(limit_of(world, SIDE))
    assert limits == [1, 2, 3]
    assert world.faults == []


def test_an_update_is_what_plugins_make_of_it_and_else_as_it_came(
    new_runtime: NewRuntime,
) -> None:
    def halve(
        _: Pod, container: Container, resources: api.LinuxResources
    ) -> Sequence[ContainerUpdate]:
        limit = resources.memory.limit.value
        return [limited(container.id, limit // 2)] if limit > 10 else []

    world = new_runtime()
    world.connect(Plugin(name="web", index="10", update_container=halve))
    world.run_pod(POD)
    world.create(MAIN)
    for asked, becomes in ((100, 50), (10, 10)):
        wanted = api.LinuxResources(memory=api.LinuxMemory(limit={"value": asked}))
        world.update_container(MAIN.id, wanted)
        assert limit_of(world, MAIN) == becomes


def test_an_update_of_a_stopped_container_fails_unless_that_is_ignored(
    new_runtime: NewRuntime,
) -> None:
    world = new_runtime()
    world.run_pod(POD)
    world.create(MAIN)
    world.stop(MAIN.id)
    assert world.update([limited(MAIN.id, 1)]) == [limited(MAIN.id, 1)]
    for ignore in (False, True):
        update = limited(MAIN.id, 1, ignore=ignore)
        plugin = Plugin(
            name="web",
            index="10",
            create_container=lambda *_, update=update: api.CreateContainerResponse(update=[update]),
        )
        world.connect(plugin)
    world.create(SIDE)
    assert world.faults == [f"update of container {MAIN.id}: it has stopped"]


def test_a_plugin_that_joins_is_told_what_lives_and_changes_it(new_runtime: NewRuntime) -> None:
    heard: list[tuple[list[str], list[str]]] = []

    def synchronize(
        pods: Sequence[Pod], containers: Sequence[Container]
    ) -> Sequence[ContainerUpdate]:
        heard.append(([pod.name for pod in pods], [each.name for each in containers]))
        return [limited(SIDE.id, 7)]

    world = new_runtime()
    world.run_pod(POD)
    for container in (MAIN, SIDE):
        world.create(container)
    world.stop(MAIN.id)
    world.connect(Plugin(name="web", index="10", synchronize=synchronize))
    assert heard == [(["web"], ["side"])]
    assert limit_of(world, SIDE) == 7


def test_a_plugin_updates_by_itself_between_requests(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    stub = world.connect(Plugin(name="web", index="10"))
    world.run_pod(POD)
    world.create(MAIN)
    outcomes: list[Any] = []
    stub.update([limited(MAIN.id, 5), limited("unknown", 5)], outcomes.append)
    deadline = time.monotonic() + 10
    while not outcomes and time.monotonic() < deadline:
        world.adaptation.serve(0.01)
    assert (outcomes, limit_of(world, MAIN)) == ([[]], 5)


@pytest.mark.parametrize(
    ("runtime", "kept", "lost"),
    [
        (CONTAINERD_1, [], [("10-web", "args"), ("10-web", "sysctl")]),
        (NEWEST, ["x"], []),
    ],
)
def test_what_a_runtime_does_not_know_is_lost_before_it_can_conflict(
    new_runtime: NewRuntime, runtime: Runtime, kept: list[str], lost: list[tuple[str, str]]
) -> None:
    asked = Adjustment(args=["x"], env=[api.KeyValue(key="A", value="1")])
    asked.linux.sysctl["k"] = "v"
    world = new_runtime(runtime)
    world.connect(Plugin(name="web", index="10", create_container=lambda *_: asked))
    world.run_pod(POD)
    made = world.create(MAIN)
    assert list(made.adjust.args) == kept
    assert [(each.plugin, each.loss.field) for each in made.created.lost] == lost
    both = Adjustment()
    both.CopyFrom(made.adjust)
    for each in made.created.lost:
        both.MergeFrom(each.part)
    assert (list(both.args), dict(both.linux.sysctl)) == (["x"], {"k": "v"})


# --- validators -----------------------------------------------------------------------------------


def validator(name: str, check: Callable[..., None], index: str = "90") -> Plugin:
    return Plugin(name=name, index=index, validate_container_adjustment=check)


def greets(*_: object) -> Adjustment:
    return Adjustment(env=[api.KeyValue(key="A", value="1")])


def test_a_validator_gets_the_container_as_it_was_and_what_becomes_of_it(
    new_runtime: NewRuntime,
) -> None:
    requests: list[api.ValidateContainerAdjustmentRequest] = []
    world = new_runtime(rules=Rules())
    world.connect(Plugin(name="web", index="10", create_container=greets))
    world.connect(validator("strict", requests.append))
    world.run_pod(POD)
    world.create(MAIN)
    (request,) = requests
    assert (list(request.container.env), request.adjust.env[0].key) == ([], "A")
    assert request.owners.owners[MAIN.id].compound[api.Field.Env].owners["A"] == "10-web"
    assert [f"{each.index}-{each.name}" for each in request.plugins] == [
        "00-default-validator",
        "10-web",
        "90-strict",
    ]


def test_validators_are_asked_side_by_side(new_runtime: NewRuntime) -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=10)

    def meets(_: object) -> None:
        meeting.wait()

    world = new_runtime()
    for name in ("a", "b"):
        world.connect(validator(name, meets))
    world.run_pod(POD)
    world.create(MAIN)
    assert world.adaptation.dropped == []


def test_every_rejection_is_told(new_runtime: NewRuntime) -> None:
    def rejects(_: object) -> None:
        raise RequestError(["not here"])

    def breaks(_: object) -> None:
        raise NriError("cannot tell")

    rules = Rules(required_plugins=("guard",))
    world = new_runtime(rules=rules)
    world.connect(validator("a", rejects))
    world.connect(validator("b", breaks))
    world.run_pod(POD)
    with pytest.raises(Rejection) as caught:
        world.create(MAIN)
    assert str(caught.value) == (
        'validator "00-default-validator" rejected container adjustment,'
        " reason: required plugin not there: guard;"
        ' validator "90-a" rejected container adjustment, reason: not here;'
        ' validator "90-b" failed: cannot tell'
    )
    assert world.adaptation.plugins == ["90-a", "90-b"]


def test_a_rejection_without_a_reason_is_one(new_runtime: NewRuntime) -> None:
    rejection = api.ValidateContainerAdjustmentResponse(reject=True)
    world = new_runtime()
    world.pods[POD.id] = POD
    with (
        scripted(
            world,
            lambda call: rejection if call.method.startswith("Validate") else empty(call),
            1 << 13,
        ),
        pytest.raises(Rejection, match=r"reason: unknown rejection reason$"),
    ):
        world.create(MAIN)


@pytest.mark.slow
def test_a_late_validator_fails_the_container_and_is_dropped(new_runtime: NewRuntime) -> None:
    release = threading.Event()

    def hangs(_: object) -> None:
        release.wait(10)

    world = new_runtime(timeouts=Timeouts(request=0.3))
    world.connect(validator("slow", hangs))
    world.run_pod(POD)
    late = "plugin 90-slow did not answer ValidateContainerAdjustment in time"
    with pytest.raises(Rejection) as caught:
        world.create(MAIN)
    release.set()
    assert str(caught.value) == f'validator "90-slow" failed: {late}'
    assert world.adaptation.dropped == [late]


def test_runtimes_before_nri_0_10_ask_no_validator(new_runtime: NewRuntime) -> None:
    world = new_runtime(CONTAINERD_2)
    world.connect(validator("strict", refuses))
    world.run_pod(POD)
    world.create(MAIN)


def test_an_update_that_comes_with_an_answer_finds_the_container_that_it_created(
    new_runtime: NewRuntime,
) -> None:
    """A runtime serves it after the request; before, it would not know the container yet."""
    ours, theirs = socket.socketpair()
    peer = Peer(ours)
    peer.index, peer.name = "10", "web"
    session = Session(Role.PLUGIN)
    update = api.UpdateContainersRequest(update=[limited(MAIN.id, 5)])

    def next_call() -> Call:
        while True:
            for event in session.receive(theirs.recv(1 << 16)):
                if isinstance(event, Call):
                    return event

    def answer(response: Any) -> None:
        session.answer(next_call(), response)
        if isinstance(response, api.CreateContainerResponse):
            session.call("UpdateContainers", update)
        theirs.sendall(session.outgoing())

    def plugin() -> None:
        session.call(
            "RegisterPlugin", api.RegisterPluginRequest(plugin_name="web", plugin_idx="10")
        )
        theirs.sendall(session.outgoing())
        answer(api.ConfigureResponse(events=1 << (api.Event.CREATE_CONTAINER - 1)))
        answer(api.SynchronizeResponse())
        answer(api.CreateContainerResponse())

    thread = threading.Thread(target=plugin, daemon=True)
    thread.start()
    world = new_runtime()
    with theirs:
        world.adaptation.add(peer)
        world.run_pod(POD)
        world.create(MAIN)
        thread.join(10)
        world.adaptation.serve()
        world.adaptation.serve()
        assert limit_of(world, MAIN) == 5

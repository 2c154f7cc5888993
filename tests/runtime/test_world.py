"""The life of pods and containers as plugins are told of it, by every kind of runtime."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.lives import live
from support.worlds import CONTAINERD_2, MAIN, POD, NewRuntime, refuses, scripted

from nri_inject import api
from nri_inject.api import Adjustment, Container, ContainerState, ContainerUpdate, Pod
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import NriError, RemoteError
from nri_inject.plugin import EVENTS, Plugin
from nri_inject.runtime.owners import Conflict
from nri_inject.runtime.peer import Peer
from nri_inject.testing import FakeRuntime, make_container
from nri_inject.wire.session import Call, Role, Session

CONTAINERD_1 = identify("containerd", "1.7.24")
CRIO = Runtime("cri-o", "1.37.0", (0, 12, 0))
SIDE = make_container(POD, "side")
Told = list[str]


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
    with pytest.raises(ValueError, match="pod 'pod-default-web' already exists"):
        world.run_pod(POD)
    with pytest.raises(ValueError, match=r"container '[a-z-]+' already exists"):
        world.create(MAIN)
    with pytest.raises(KeyError):
        world.start("other")


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

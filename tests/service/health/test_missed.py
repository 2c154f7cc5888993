"""What a running container lacks, by value; and the comparison of many, slice by slice."""

from __future__ import annotations

import logging
import select
from contextlib import closing

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.service.health import missed
from nri_inject.service.health.missed import DriftCheck, missing_edits
from nri_inject.service.health.state import Missed, State

POD = Pod(id="p", namespace="ns", name="web")
RUNNING = api.ContainerState.CONTAINER_RUNNING
STOPPED = api.ContainerState.CONTAINER_STOPPED
FUSE = api.LinuxDevice(path="/dev/fuse")
WANTED = Adjustment(
    mounts=[api.Mount(destination="/data")],
    env=[api.KeyValue(key="PART", value="1")],
    hooks=api.Hooks(poststop=[api.Hook(path="/bin/note")]),
    linux=api.LinuxContainerAdjustment(devices=[FUSE]),
)
COMPLETE = Container(
    mounts=[api.Mount(destination="/data", source="/elsewhere")],
    env=["PART=of the pod's own"],
    hooks=api.Hooks(poststop=[api.Hook(path="/bin/note", args=["note"])]),
    linux=api.LinuxContainer(devices=[FUSE]),
)


def test_a_container_that_was_passed_over_lacks_all_of_it() -> None:
    assert missing_edits(WANTED, Container()) == (
        "device /dev/fuse",
        "mount /data",
        "variable PART",
        "hook /bin/note",
    )


def test_a_container_that_has_it_lacks_nothing_whatever_its_values() -> None:
    assert missing_edits(WANTED, COMPLETE) == ()


def test_a_hook_at_another_stage_is_another_hook() -> None:
    elsewhere = Container(hooks=api.Hooks(prestart=[api.Hook(path="/bin/note")]))
    wanted = Adjustment(hooks=WANTED.hooks)
    assert missing_edits(wanted, elsewhere) == ("hook /bin/note",)


def test_what_was_to_be_removed_is_not_lacking() -> None:
    marks = Adjustment(mounts=[api.Mount(destination="-/data")], env=[api.KeyValue(key="-PART")])
    assert missing_edits(marks, Container()) == ()


def test_what_runtimes_do_not_tell_is_not_compared() -> None:
    wanted = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"kernel.msgmax": "1"}))
    assert missing_edits(wanted, Container()) == ()


def test_of_many_things_the_first_are_named() -> None:
    devices = [api.LinuxDevice(path=f"/dev/d{number}") for number in range(9)]
    wanted = Adjustment(linux=api.LinuxContainerAdjustment(devices=devices))
    assert missing_edits(wanted, Container())[-2:] == ("device /dev/d4", "4 more")


def running(number: int, state: api.ContainerState = RUNNING) -> Container:
    return Container(id=f"c{number}", name=f"n{number}", pod_sandbox_id="p", state=state)


def fresh() -> State:
    return State("20", "tested", 1)


def begin(one: DriftCheck, pods: list[Pod], containers: list[Container]) -> None:
    """Do what a connection does: configure, one part after the other, the end."""
    one.restart()
    for pod in pods:
        one.add([pod], [])
    for container in containers:
        one.add([], [container])
    one.begin()


def pending(one: DriftCheck) -> bool:
    return bool(select.select([one], [], [], 0)[0])


def finish(one: DriftCheck) -> None:
    while pending(one):
        one.ready()


def test_containers_are_compared_between_requests_not_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(missed, "SLICE", 0)
    state = fresh()
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        assert not pending(one)
        begin(one, [POD], [running(0), running(1), running(2, STOPPED)])
        assert (state.compared, state.to_compare) == (0, 2)
        one.ready()
        assert (state.compared, state.to_compare, pending(one)) == (1, 1, True)
        finish(one)
    assert (state.compared, state.to_compare) == (2, 0)
    assert state.missed["c1"] == Missed("ns/web", "n1", missing_edits(WANTED, Container()))


def test_a_later_synchronization_forgets_what_an_earlier_one_found() -> None:
    state = fresh()
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        begin(one, [POD], [running(0)])
        finish(one)
        begin(one, [POD], [running(1)])
        begin(one, [POD], [])
        assert not pending(one)
    assert (state.missed, state.compared) == ({}, 0)


def test_a_container_whose_wish_cannot_be_had_any_more_is_told_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(_pod: Pod, _container: Container) -> Adjustment:
        raise RequestError(["no device /dev/usb"])

    state = fresh()
    with caplog.at_level(logging.INFO), closing(DriftCheck(state, gone)) as one:
        begin(one, [POD], [running(0)])
        finish(one)
    assert state.missed == {}
    assert caplog.messages == [
        "pod ns/web, container n0: its expected state is unknown: no device /dev/usb",
        "compared 1 running containers, 0 missed",
    ]


def test_of_many_whose_wish_cannot_be_had_the_first_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(_pod: Pod, _container: Container) -> Adjustment:
        raise RequestError(["no device /dev/usb"])

    with caplog.at_level(logging.INFO), closing(DriftCheck(fresh(), gone)) as one:
        begin(one, [POD], [running(number) for number in range(100)])
        finish(one)
    assert len(caplog.messages) == missed.SHOWN + 2
    assert caplog.messages[-1] == "the expected state of 80 more containers is unknown"


def test_thousands_are_counted_and_the_first_are_named(caplog: pytest.LogCaptureFixture) -> None:
    state = fresh()
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        begin(one, [POD], [running(number) for number in range(3000)])
        finish(one)
    assert (len(state.missed), state.unlisted) == (1000, 2000)
    assert len(caplog.messages) == missed.SHOWN + 1
    assert caplog.messages[-1] == "2980 more containers lack what their pods request"


def compared(state: State, pods: list[Pod], containers: list[Container]) -> None:
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        begin(one, pods, containers)
        finish(one)


def test_of_what_exists_is_kept_what_is_compared() -> None:
    container = Container(
        id="c",
        args=["sh", "-c", "sleep 1"],
        env=["SECRET=x", "EMPTY=", "BARE"],
        annotations={"a": "1"},
        status_message="failed",
        mounts=COMPLETE.mounts,
        hooks=COMPLETE.hooks,
        rlimits=[api.POSIXRlimit(type="RLIMIT_NOFILE", hard=1, soft=1)],
        user=api.User(uid=1),
        linux=api.LinuxContainer(devices=[FUSE], seccomp_policy=api.LinuxSeccomp()),
    )
    missed.lighten(container)
    assert container == Container(
        id="c",
        args=["sh"],
        env=["SECRET", "EMPTY", "BARE"],
        annotations={"a": "1"},
        mounts=COMPLETE.mounts,
        hooks=COMPLETE.hooks,
        rlimits=[api.POSIXRlimit(type="RLIMIT_NOFILE", hard=1, soft=1)],
        user=api.User(uid=1),
        linux=api.LinuxContainer(devices=[FUSE]),
    )


def test_a_container_without_anything_stays_without() -> None:
    container = Container()
    missed.lighten(container)
    assert container == Container()


def test_containers_that_are_too_long_together_are_counted_and_the_others_compared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = fresh()
    long = [running(number) for number in range(5)]
    for one in long:
        one.annotations["a"] = "x" * (missed.MAX_CONTAINERS // 4)
    compared(state, [POD], [*long[:3], running(10), *long[3:], running(11)])
    assert (state.compared, state.uncompared, state.to_compare) == (5, 2, 0)
    assert {"c10", "c11"} <= state.missed.keys()
    assert caplog.messages[-1] == (
        "2 running containers were not compared with the requests of their pods: the runtime"
        " reported"
        " no pod of theirs, more than 10000 variables, or more than 24 MiB in all"
    )


def test_a_pod_that_is_too_long_costs_only_its_own_containers() -> None:
    state = fresh()
    long = Pod(id="long", annotations={"a": "x" * missed.MAX_PODS})
    compared(state, [long, POD], [running(0), Container(pod_sandbox_id="long", state=RUNNING)])
    assert (state.compared, state.uncompared, list(state.missed)) == (1, 1, ["c0"])


def test_a_container_of_too_many_variables_is_counted_and_not_compared() -> None:
    state = fresh()
    many = running(0)
    many.env.extend(["A="] * (missed.MAX_VARIABLES + 1))
    compared(state, [POD], [many])
    assert (state.compared, state.uncompared, state.missed) == (0, 1, {})


def test_a_container_that_is_removed_while_it_waits_is_not_compared() -> None:
    state = fresh()
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        begin(one, [POD], [running(0), running(1)])
        one.forget("c0")
        assert state.to_compare == 1
        finish(one)
    assert (state.compared, state.uncompared, list(state.missed)) == (1, 0, ["c1"])


def test_a_synchronization_that_broke_off_leaves_nothing_behind() -> None:
    state = fresh()
    with closing(DriftCheck(state, lambda _pod, _container: WANTED)) as one:
        one.add([POD], [running(0)])
        begin(one, [POD], [running(1)])
        finish(one)
    assert (state.compared, list(state.missed)) == (1, ["c1"])

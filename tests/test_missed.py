"""What a running container lacks, by value; and the comparison of many, slice by slice."""

from __future__ import annotations

import logging
import select
from contextlib import closing

import pytest

from nri_inject import api, missed
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.missed import Comparison, lacking
from nri_inject.state import Missed, State

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
    assert lacking(WANTED, Container()) == (
        "device /dev/fuse",
        "mount /data",
        "variable PART",
        "hook /bin/note",
    )


def test_a_container_that_has_it_lacks_nothing_whatever_its_values() -> None:
    assert lacking(WANTED, COMPLETE) == ()


def test_a_hook_at_another_stage_is_another_hook() -> None:
    elsewhere = Container(hooks=api.Hooks(prestart=[api.Hook(path="/bin/note")]))
    wanted = Adjustment(hooks=WANTED.hooks)
    assert lacking(wanted, elsewhere) == ("hook /bin/note",)


def test_what_was_to_be_removed_is_not_lacking() -> None:
    marks = Adjustment(mounts=[api.Mount(destination="-/data")], env=[api.KeyValue(key="-PART")])
    assert lacking(marks, Container()) == ()


def test_what_runtimes_do_not_tell_is_not_compared() -> None:
    wanted = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"kernel.msgmax": "1"}))
    assert lacking(wanted, Container()) == ()


def test_of_many_things_the_first_are_named() -> None:
    devices = [api.LinuxDevice(path=f"/dev/d{number}") for number in range(9)]
    wanted = Adjustment(linux=api.LinuxContainerAdjustment(devices=devices))
    assert lacking(wanted, Container())[-2:] == ("device /dev/d4", "4 more")


def running(number: int, state: api.ContainerState = RUNNING) -> Container:
    return Container(id=f"c{number}", name=f"n{number}", pod_sandbox_id="p", state=state)


def fresh() -> State:
    return State("20", "tested", 1)


def pending(one: Comparison) -> bool:
    return bool(select.select([one], [], [], 0)[0])


def finish(one: Comparison) -> None:
    while pending(one):
        one.ready()


def test_containers_are_compared_between_requests_not_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(missed, "SLICE", 0)
    state = fresh()
    with closing(Comparison(state, lambda _pod, _container: WANTED)) as one:
        assert not pending(one)
        one.begin([POD], [running(0), running(1), running(2, STOPPED)])
        assert (state.compared, state.to_compare) == (0, 2)
        one.ready()
        assert (state.compared, state.to_compare, pending(one)) == (1, 1, True)
        finish(one)
    assert (state.compared, state.to_compare) == (2, 0)
    assert state.missed["c1"] == Missed("ns/web", "n1", lacking(WANTED, Container()))


def test_a_later_synchronization_forgets_what_an_earlier_one_found() -> None:
    state = fresh()
    with closing(Comparison(state, lambda _pod, _container: WANTED)) as one:
        one.begin([POD], [running(0)])
        finish(one)
        one.begin([POD], [running(1)])
        one.begin([POD], [])
        assert not pending(one)
    assert (state.missed, state.compared) == ({}, 0)


def test_a_container_whose_wish_cannot_be_had_any_more_is_told_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(_pod: Pod, _container: Container) -> Adjustment:
        raise RequestError(["no device /dev/usb"])

    state = fresh()
    with caplog.at_level(logging.INFO), closing(Comparison(state, gone)) as one:
        one.begin([POD], [running(0)])
        finish(one)
    assert state.missed == {}
    assert caplog.messages == [
        "pod ns/web, container n0: cannot tell what it should have: no device /dev/usb",
        "compared 1 running containers, 0 missed",
    ]


def test_thousands_are_counted_and_the_first_are_named(caplog: pytest.LogCaptureFixture) -> None:
    state = fresh()
    with closing(Comparison(state, lambda _pod, _container: WANTED)) as one:
        one.begin([POD], [running(number) for number in range(3000)])
        finish(one)
    assert (len(state.missed), state.unlisted) == (1000, 2000)
    assert len(caplog.messages) == missed.SHOWN + 1
    assert caplog.messages[-1] == "2980 more containers lack what their pods ask for"

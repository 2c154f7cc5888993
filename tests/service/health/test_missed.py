"""What a running container lacks, by value; and the comparison of many, slice by slice."""

from __future__ import annotations

import logging
import select
from contextlib import closing

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.service.health import mark, missed
from nri_inject.service.health.missed import DriftCheck, missing_edits, shown
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
    assert shown(missing_edits(wanted, Container()))[-2:] == ("device /dev/d4", "4 more")


class Service:
    """What a service expects of every container: an adjustment, or a refusal."""

    def __init__(self, wanted: Adjustment | RequestError = WANTED, changed: float = 0.0) -> None:
        self._wanted = wanted
        self._changed = changed

    def expected(self, _pod: Pod, _container: Container) -> Adjustment:
        if isinstance(self._wanted, RequestError):
            raise self._wanted
        return self._wanted

    def hook_changed(self, _program: str) -> float:
        return self._changed


def marked(container: Container, plugin: str = "tested") -> Container:
    container.annotations[mark.PREFIX + plugin] = container.id
    return container


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
    with closing(DriftCheck(state, Service())) as one:
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
    with closing(DriftCheck(state, Service())) as one:
        begin(one, [POD], [running(0)])
        finish(one)
        begin(one, [POD], [running(1)])
        begin(one, [POD], [])
        assert not pending(one)
    assert (state.missed, state.compared) == ({}, 0)


GONE = RequestError(["no device /dev/usb"], where="pod ns/web, container n0")


def judged(wanted: Adjustment | RequestError, container: Container, **more: float) -> State:
    state = fresh()
    with closing(DriftCheck(state, Service(wanted, **more))) as one:
        begin(one, [POD], [container])
        finish(one)
    return state


def test_a_container_without_the_mark_was_missed_also_if_it_would_be_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        state = judged(GONE, running(0))
    assert state.missed == {"c0": Missed("ns/web", "n0", (), "no device /dev/usb")}
    assert state.drifted == {}
    assert caplog.messages == [
        (
            "pod ns/web, container n0: would be refused now: no device /dev/usb; it was created"
            " without the plugin, so recreate it"
        ),
        "compared 1 running containers, 1 missed, 0 drifted",
    ]


def test_a_container_with_the_mark_has_drifted(caplog: pytest.LogCaptureFixture) -> None:
    lacks = ("device /dev/fuse", "mount /data", "variable PART", "hook /bin/note")
    with caplog.at_level(logging.INFO):
        state = judged(WANTED, marked(running(0)))
    assert (state.missed, state.drifted) == ({}, {"c0": Missed("ns/web", "n0", lacks)})
    assert caplog.messages == [
        f"pod ns/web, container n0: lacks {', '.join(lacks)}, since something has changed",
        "compared 1 running containers, 0 missed, 1 drifted",
    ]
    refused = judged(GONE, marked(running(0)))
    assert refused.missed == {}
    assert refused.drifted == {"c0": Missed("ns/web", "n0", (), "no device /dev/usb")}


SYSCTL = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"kernel.msgmax": "1"}))


def test_what_runtimes_do_not_report_is_lacking_without_any_mark_of_ours() -> None:
    assert judged(SYSCTL, running(0)).missed["c0"].lacks == ("sysctl",)
    for one in (marked(running(0)), marked(running(0), "before-it-was-renamed")):
        assert judged(SYSCTL, one).missed == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (mark.PREFIX + "tested", "c1"),
        (mark.PREFIX + "tested", ""),
        (mark.PREFIX + "other", "c0"),
        ("served", "c0"),
    ],
)
def test_the_mark_is_the_containers_own_id_under_the_plugins_own_name(key: str, value: str) -> None:
    one = running(0)
    one.annotations[key] = value
    assert list(judged(WANTED, one).missed) == ["c0"]


def test_a_pods_annotation_is_no_mark() -> None:
    state = fresh()
    pod = Pod(id="p", annotations={mark.PREFIX + "tested": "c0"})
    with closing(DriftCheck(state, Service())) as one:
        begin(one, [pod], [running(0)])
        finish(one)
    assert list(state.missed) == ["c0"]


def test_a_container_without_an_id_has_no_mark() -> None:
    one = Container(annotations={mark.PREFIX + "tested": ""})
    assert not mark.is_on(one, "tested")


HOOK = Adjustment(hooks=WANTED.hooks)


def created(seconds: int) -> Container:
    one = running(0)
    one.created_at = seconds * 1_000_000_000
    return one


def test_a_hook_that_is_newer_than_the_container_is_drift() -> None:
    assert list(judged(HOOK, created(100), changed=101.0).drifted) == ["c0"]
    assert list(judged(HOOK, created(100), changed=99.0).missed) == ["c0"]
    assert list(judged(WANTED, created(100), changed=101.0).missed) == ["c0"]


def test_a_hook_is_drift_if_nobody_says_when_the_container_was_created() -> None:
    assert list(judged(HOOK, running(0), changed=99.0).drifted) == ["c0"]


def test_a_container_that_starts_is_as_new_as_its_start() -> None:
    state = fresh()
    with closing(DriftCheck(state, Service(HOOK, 99.0))) as one:
        missed_one = one.judge(POD, running(0), now=100.0)
        assert missed_one == Missed("ns/web", "n0", ("hook /bin/note",))
        assert one.judge(POD, marked(running(1)), now=100.0) is None
    assert (list(state.missed), list(state.drifted)) == (["c0"], ["c1"])


def test_thousands_are_counted_and_the_first_are_named(caplog: pytest.LogCaptureFixture) -> None:
    state = fresh()
    with closing(DriftCheck(state, Service())) as one:
        begin(one, [POD], [running(number) for number in range(3000)])
        finish(one)
    assert (len(state.missed), state.missed.count) == (1000, 3000)
    assert len(caplog.messages) == missed.SHOWN + 1
    assert caplog.messages[-1] == "2980 more containers were missed"


def compared(state: State, pods: list[Pod], containers: list[Container]) -> None:
    with closing(DriftCheck(state, Service())) as one:
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
    with closing(DriftCheck(state, Service())) as one:
        begin(one, [POD], [running(0), running(1)])
        one.forget("c0")
        assert state.to_compare == 1
        finish(one)
    assert (state.compared, state.uncompared, list(state.missed)) == (1, 0, ["c1"])


def test_a_synchronization_that_broke_off_leaves_nothing_behind() -> None:
    state = fresh()
    with closing(DriftCheck(state, Service())) as one:
        one.add([POD], [running(0)])
        begin(one, [POD], [running(1)])
        finish(one)
    assert (state.compared, list(state.missed)) == (1, ["c1"])


class Denying(Service):
    """A service whose policy denies everything but the first container."""

    denies = True

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        if self.denies and container.id != "c0":
            raise RequestError(["denied"])
        return super().expected(pod, container)


def test_what_was_refused_is_compared_again_when_another_policy_is_in_force() -> None:
    state, service = fresh(), Denying()
    with closing(DriftCheck(state, service)) as one:
        begin(one, [POD], [running(0), running(1), running(2)])
        finish(one)
        assert [each.refused for each in state.missed.values()] == ["", "denied", "denied"]
        one.forget("c2")
        service.denies = False
        one.compare_again()
        finish(one)
        lacks = missing_edits(WANTED, Container())
        assert [each.lacks for each in state.missed.values()] == [lacks, lacks]
        assert (list(state.missed), state.missed.count, state.compared) == (["c0", "c1"], 2, 3)
        one.compare_again()
        assert not pending(one)


def test_a_served_container_that_was_refused_has_not_drifted_once_it_is_allowed() -> None:
    state, service = fresh(), Denying(Adjustment())
    with closing(DriftCheck(state, service)) as one:
        begin(one, [POD], [marked(running(1))])
        finish(one)
        assert [each.refused for each in state.drifted.values()] == ["denied"]
        service.denies = False
        one.compare_again()
        finish(one)
    assert (state.drifted.count, state.missed.count, state.compared) == (0, 0, 1)


def test_of_many_that_were_refused_none_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nri_inject.service.health.state.MAX_MISSED", 2)
    state, service = fresh(), Denying()
    with closing(DriftCheck(state, service)) as one:
        begin(one, [POD], [running(number) for number in range(6)])
        finish(one)
        assert (len(state.missed), state.missed.count) == (2, 6)
        one.compare_again()
        finish(one)
        assert (len(state.missed), state.missed.count) == (2, 6)
        service.denies = False
        one.compare_again()
        finish(one)
    assert (len(state.missed), state.missed.count) == (2, 6)

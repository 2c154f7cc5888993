"""Merging what several injectors want."""

from collections.abc import Sequence

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.compose import Injector, Merger, combine, compose
from nri_inject.injectors.host import Host


def linux(**fields: object) -> Adjustment:
    return Adjustment(linux=api.LinuxContainerAdjustment(**fields))  # type: ignore[arg-type]


def test_nothing_combined_is_an_empty_adjustment() -> None:
    assert combine([]) == Adjustment()
    assert combine([Adjustment(), Adjustment()]) == Adjustment()


def test_one_adjustment_stays_as_it_is() -> None:
    adjustment = Adjustment(
        annotations={"a": "b"},
        args=["sh", "-c"],
        hooks=api.Hooks(prestart=[api.Hook(path="/a")]),
        linux=api.LinuxContainerAdjustment(
            cgroups_path="/x",
            scheduler=api.LinuxScheduler(),
            net_devices={"e0": api.LinuxNetDevice(name="n0")},
            seccomp_policy=api.LinuxSeccomp(syscalls=[api.LinuxSyscall(names=["a", "b"])]),
            rdt=api.LinuxRdt(remove=True, schemata=api.OptionalRepeatedString(value=["a", "b"])),
        ),
    )
    assert combine([adjustment]) == adjustment
    assert combine([adjustment, adjustment]).linux == adjustment.linux
    assert combine([adjustment]) is not adjustment


def test_an_empty_message_is_still_present() -> None:
    merged = combine([linux(scheduler=api.LinuxScheduler())])
    assert merged.linux.HasField("scheduler")


def test_lists_are_joined_in_order() -> None:
    merged = combine(
        [
            Adjustment(
                mounts=[api.Mount(destination="/a")],
                hooks=api.Hooks(poststop=[api.Hook(path="/1")]),
            ),
            Adjustment(
                mounts=[api.Mount(destination="/b")],
                hooks=api.Hooks(poststop=[api.Hook(path="/1")]),
            ),
        ]
    )
    assert [mount.destination for mount in merged.mounts] == ["/a", "/b"]
    assert [hook.path for hook in merged.hooks.poststop] == ["/1", "/1"]


def test_cgroup_rules_are_joined_even_if_equal_because_their_order_counts() -> None:
    allow = api.LinuxDeviceCgroup(allow=True, access="rw")
    deny = api.LinuxDeviceCgroup(allow=False, access="w")
    rules = [linux(resources=api.LinuxResources(devices=[rule])) for rule in (allow, deny, allow)]
    assert list(combine(rules).linux.resources.devices) == [allow, deny, allow]


def test_fields_of_messages_that_nri_claims_one_by_one_are_merged() -> None:
    merged = combine(
        [
            linux(resources=api.LinuxResources(cpu=api.LinuxCPU(cpus="0"))),
            linux(resources=api.LinuxResources(cpu=api.LinuxCPU(mems="1"))),
        ]
    )
    assert merged == linux(resources=api.LinuxResources(cpu=api.LinuxCPU(cpus="0", mems="1")))


@pytest.mark.parametrize(
    "adjustment",
    [
        Adjustment(args=["a", "b"]),
        Adjustment(mounts=[api.Mount(destination="/a")]),
        Adjustment(env=[api.KeyValue(key="a", value="b")]),
        Adjustment(annotations={"a": "b"}),
        Adjustment(CDI_devices=[api.CDIDevice(name="v.com/c=d")]),
        linux(io_priority=api.LinuxIOPriority(priority=3)),
        linux(sysctl={"a": "b"}),
        linux(net_devices={"a": api.LinuxNetDevice(name="b")}),
    ],
)
def test_equal_wishes_become_one(adjustment: Adjustment) -> None:
    assert combine([adjustment, adjustment]) == adjustment


@pytest.mark.parametrize(
    ("one", "other", "fault"),
    [
        (Adjustment(args=["a"]), Adjustment(args=["b"]), "args"),
        (Adjustment(annotations={"k": "1"}), Adjustment(annotations={"k": "2"}), "annotations 'k'"),
        (
            Adjustment(mounts=[api.Mount(destination="/a")]),
            Adjustment(mounts=[api.Mount(destination="/a", source="/b")]),
            "mounts '/a'",
        ),
        (
            Adjustment(env=[api.KeyValue(key="A")]),
            Adjustment(env=[api.KeyValue(key="A", value="b")]),
            "env 'A'",
        ),
        (
            Adjustment(rlimits=[api.POSIXRlimit(type="RLIMIT_CORE")]),
            Adjustment(rlimits=[api.POSIXRlimit(type="RLIMIT_CORE", hard=1)]),
            "rlimits 'RLIMIT_CORE'",
        ),
        (
            linux(devices=[api.LinuxDevice(path="/dev/a", major=1)]),
            linux(devices=[api.LinuxDevice(path="/dev/a", major=2)]),
            "linux.devices '/dev/a'",
        ),
        (linux(sysctl={"a": "1"}), linux(sysctl={"a": "2"}), "linux.sysctl 'a'"),
        (
            linux(net_devices={"a": api.LinuxNetDevice(name="1")}),
            linux(net_devices={"a": api.LinuxNetDevice(name="2")}),
            "linux.net_devices 'a'",
        ),
        (linux(cgroups_path="/a"), linux(cgroups_path="/b"), "linux.cgroups_path"),
        (
            linux(io_priority=api.LinuxIOPriority(priority=1)),
            linux(io_priority=api.LinuxIOPriority(priority=2)),
            "linux.io_priority",
        ),
        (
            linux(resources=api.LinuxResources(cpu=api.LinuxCPU(cpus="0"))),
            linux(resources=api.LinuxResources(cpu=api.LinuxCPU(cpus="1"))),
            "linux.resources.cpu.cpus",
        ),
    ],
)
def test_two_different_wishes_for_one_thing_are_an_error_that_names_it(
    one: Adjustment, other: Adjustment, fault: str
) -> None:
    with pytest.raises(RequestError) as caught:
        combine([one, other])
    assert caught.value.faults == (f"conflicting requests for {fault}",)


def outcome(adjustments: Sequence[Adjustment]) -> Adjustment | Sequence[str]:
    try:
        return combine(adjustments)
    except RequestError as error:
        return error.faults


def test_the_adjustments_themselves_stay_as_they_are() -> None:
    adjustments = [linux(sysctl={"a": "1"}), linux(sysctl={"b": "2"}, cgroups_path="/x")]
    before = [adjustment.SerializeToString(deterministic=True) for adjustment in adjustments]
    combine(adjustments)
    assert [one.SerializeToString(deterministic=True) for one in adjustments] == before


def test_an_adjustment_can_disagree_with_itself() -> None:
    mounts = [api.Mount(destination="/a"), api.Mount(destination="/a", source="/b")]
    assert outcome([Adjustment(mounts=mounts)]) == ("conflicting requests for mounts '/a'",)
    assert outcome([Adjustment(mounts=mounts[:1] * 2)]) == Adjustment(mounts=mounts[:1])


def test_a_removal_and_a_new_value_of_the_same_key_go_together() -> None:
    mounts = [api.Mount(destination="-/a"), api.Mount(destination="/a")]
    assert list(combine([Adjustment(mounts=mounts)]).mounts) == mounts


POD = Pod(name="p", namespace="ns")
CONTAINER = Container(name="c")
HOST = Host({})


def asks(adjustment: Adjustment) -> Injector:
    return lambda *_: adjustment


def refuses(*faults: str) -> Injector:
    def injector(_pod: Pod, _container: Container, _host: Host) -> Adjustment:
        raise RequestError(faults, where="somewhere")

    return injector


def test_composed_injectors_ask_for_everything() -> None:
    inject = compose(asks(Adjustment(args=["a"])), asks(linux(sysctl={"a": "b"})))
    assert inject(POD, CONTAINER, HOST) == combine(
        [Adjustment(args=["a"]), linux(sysctl={"a": "b"})]
    )


def test_composing_none_asks_for_nothing() -> None:
    assert compose()(POD, CONTAINER, HOST) == Adjustment()


def test_composed_injectors_report_the_faults_of_all() -> None:
    inject = compose(refuses("one"), asks(Adjustment(args=["a"])), refuses("two", "three"))
    with pytest.raises(RequestError) as caught:
        inject(POD, CONTAINER, HOST)
    assert str(caught.value) == "pod ns/p, container c: one; two; three"


def test_composed_injectors_that_disagree_name_the_container() -> None:
    inject = compose(asks(Adjustment(args=["a"])), asks(Adjustment(args=["b"])))
    with pytest.raises(RequestError) as caught:
        inject(POD, CONTAINER, HOST)
    assert str(caught.value) == "pod ns/p, container c: conflicting requests for args"


def test_a_report_shows_ten_faults_and_counts_the_others() -> None:
    error = RequestError([f"fault {number}" for number in range(1, 13)], where="here")
    assert str(error) == (
        "here: " + "; ".join(f"fault {number}" for number in range(1, 11)) + "; and 2 more"
    )
    assert len(error.faults) == 12


@pytest.mark.parametrize("fault", ["x" * 600, "x" * 100_000, "名" * 600])
def test_a_report_is_never_long(fault: str) -> None:
    error = RequestError([fault] * 9, where=fault)
    assert len(str(error).encode()) < 2048
    assert str(error).endswith(" more")


def test_a_report_without_a_place_is_its_faults() -> None:
    assert str(RequestError(["a", "b"])) == "a; b"
    assert str(RequestError([])) == ""


def test_an_adjustment_that_is_in_conflict_is_added_not_at_all_and_claims_nothing() -> None:
    def env(**values: str) -> Adjustment:
        return Adjustment(env=[api.KeyValue(key=key, value=text) for key, text in values.items()])

    merger, target = Merger(), Adjustment()
    assert merger.join(target, env(B="1")) == []
    assert merger.join(target, env(A="1", B="2")) == ["conflicting requests for env 'B'"]
    assert target == env(B="1")
    assert merger.join(target, env(A="3", B="1")) == []
    assert target == env(B="1", A="3")

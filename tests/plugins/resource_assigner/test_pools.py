"""Who gets which CPUs, by value; what holds whatever happens is in test_pools_properties."""

from __future__ import annotations

import dataclasses

import pytest
from hardware import container, host, pod, resources

from nri_inject import api
from nri_inject.errors import ConfigError, RequestError
from nri_inject.plugins.resource_assigner.pools import (
    Cpuset,
    CpuSubject,
    Pools,
    exclusive_count,
    reconcile,
    subject_of,
    updates,
)
from nri_inject.service.config import AssignerConfig
from nri_inject.text.cpulist import read

ASK = "exclusive-cpus.noderesource.dev"
FOUR = host(cores=4)
DEFAULT = AssignerConfig()


def subject(name: str, cpus: float = 0, **changes: object) -> CpuSubject:
    """Return a container that requests so many CPUs, in a pod of its own."""
    plain = subject_of(pod(name), container(name, cpus=cpus))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # by their names


def pools(*subjects: CpuSubject, rules: AssignerConfig = DEFAULT) -> Pools:
    """Return four CPUs and what has been created on them, and exists."""
    result = Pools(FOUR, rules)
    for each in subjects:
        result = result.create(each).confirmed(each.id)
    return result


def own(given: Pools, name: str) -> str:
    return given.cpuset(f"id-{name}").cpus


# --- what containers ask for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "limit", "count"),
    [
        (1, 1, 1),
        (3, 3, 3),
        (0, 0, 0),
        (0.5, 0.5, 0),
        (1.5, 1.5, 0),
        (0.999, 1, 0),
        (1.001, 1.001, 0),
        (1, 2, 0),
        (2, 0, 0),
    ],
)
def test_whole_cpus_that_are_requested_and_are_the_limit_are_exclusive(
    requests: float, limit: float, count: int
) -> None:
    asks = subject_of(pod(), container(cpus=requests, limit=limit))
    assert exclusive_count(asks, AssignerConfig()) == count
    assert exclusive_count(asks, AssignerConfig(whole_cpus=False)) == 0


@pytest.mark.parametrize(
    "tier", ["/kubepods/burstable/pod1", "kubepods-besteffort-pod1.slice:cri-containerd:x"]
)
def test_a_pod_of_another_class_shares(tier: str) -> None:
    other = pod()
    other.linux.cgroup_parent = tier
    assert exclusive_count(subject_of(other, container(cpus=1)), AssignerConfig()) == 0


def test_without_a_memory_limit_a_container_is_not_guaranteed() -> None:
    unlimited = container(cpus=1)
    unlimited.linux.resources.ClearField("memory")
    assert exclusive_count(subject_of(pod(), unlimited), AssignerConfig()) == 0


@pytest.mark.parametrize(
    ("key", "count"), [(f"{ASK}/container.app", 2), (f"{ASK}/pod", 2), (ASK, 2), (f"{ASK}/x", 3)]
)
def test_an_annotation_counts_before_the_request(key: str, count: int) -> None:
    asking = pod()
    asking.annotations[key] = " 2\n"
    assert exclusive_count(subject_of(asking, container(cpus=3)), AssignerConfig()) == count


def test_an_annotation_of_none_keeps_a_container_in_the_shared_pool() -> None:
    assert exclusive_count(subject_of(pod(app="0"), container(cpus=2)), AssignerConfig()) == 0


def fault(asks: CpuSubject, rules: AssignerConfig = DEFAULT) -> str:
    with pytest.raises(RequestError) as caught:
        exclusive_count(asks, rules)
    return str(caught.value)


@pytest.mark.parametrize("text", ["two", "", "-1", "1.5", "1000000", "²"])
def test_what_is_no_number_is_refused(text: str) -> None:
    assert fault(subject_of(pod(app=text), container(cpus=2))) == (
        f"pod default/web, container app: annotation {ASK}/container.app:"
        f" {text!r} is not a number of CPUs, such as 2"
    )


def test_no_more_may_be_asked_for_than_is_requested_and_so_was_counted_by_the_scheduler() -> None:
    asks = subject_of(pod(app="2"), container(cpus=1.5))
    assert fault(asks) == (
        f"pod default/web, container app: annotation {ASK}/container.app:"
        " exclusive CPUs: the annotation requests 2, resources.requests.cpu 1;"
        " set resources.requests.cpu to 2, or request fewer"
    )
    assert exclusive_count(asks, AssignerConfig(beyond_requests=("def*",))) == 2


def test_an_update_changes_what_it_has_and_leaves_what_it_says_nothing_of() -> None:
    before = container(cpus=1)
    resized = subject_of(pod(), before, resources(2000, 2000))
    assert (resized.shares, resized.quota) == (2048, 200_000)
    zeros = api.LinuxResources(
        cpu=api.LinuxCPU(shares=api.OptionalUInt64(), quota=api.OptionalInt64())
    )
    assert subject_of(pod(), before, zeros) == subject_of(pod(), before)


# --- the pools ------------------------------------------------------------------------------------


def test_containers_share_all_cpus_until_one_wants_some_for_itself() -> None:
    shared = pools(subject("a"), subject("b", 0.5))
    assert (own(shared, "a"), own(shared, "b")) == ("0-3", "0-3")
    with_exclusive = shared.create(subject("c", 2))
    assert [own(with_exclusive, name) for name in "abc"] == ["2-3", "2-3", "0-1"]
    assert own(with_exclusive.without(["id-c"]), "a") == "0-3"


def test_a_reserved_pool_is_for_its_namespaces_alone() -> None:
    rules = AssignerConfig(reserved=read("0"), reserved_namespaces=("kube-*",))
    given = pools(subject("a"), subject("dns", namespace="kube-system"), rules=rules)
    assert (own(given, "a"), own(given, "dns")) == ("1-3", "0")
    assert own(given.create(subject("b", 1)), "b") == "1"


def test_without_reserved_cpus_its_namespaces_share() -> None:
    assert own(pools(subject("dns", namespace="kube-system")), "dns") == "0-3"


def test_the_shared_pool_keeps_one_cpu_and_who_asks_for_it_is_told_how_many_there_are() -> None:
    given = pools(subject("a", 1), rules=AssignerConfig(reserved=read("0")))
    with pytest.raises(RequestError) as caught:
        given.create(subject("b", 2))
    assert str(caught.value) == (
        "pod default/b, container b: exclusive CPUs: 2 requested, 1 available: of 4 CPUs"
        " 1 are reserved, 1 exclusive to other containers, and 1 is always"
        " shared; request fewer, or use another node"
    )
    assert own(given.create(subject("b", 1)), "b") == "2"


def test_more_and_fewer_keep_what_there_is() -> None:
    given = pools(subject("a", 1), subject("b", 1))
    more = given.place(subject("b", 2))
    assert [own(more, name) for name in "ab"] == ["0", "1-2"]
    assert own(more.place(subject("b", 1)), "b") == "1"
    assert own(more.place(subject("b", 0)), "b") == "1-3"
    with pytest.raises(RequestError, match="exclusive CPUs: 4 requested, 2 available"):
        given.place(subject("b", 4))


def test_a_creation_that_never_came_to_an_end_is_replaced_by_the_next_try() -> None:
    given = pools().create(subject("a", 2))
    again = given.create(subject("a", 2, id="second"))
    assert list(again.placed) == ["second"]
    assert list(again.confirmed("second").create(subject("a", 1, id="third")).placed) == [
        "second",
        "third",
    ]


@pytest.mark.parametrize(
    ("reserved", "sentence"),
    [
        ("3-5", "reserved CPUs 4-5 are missing, offline or isolated; available CPUs: 0-3"),
        ("0-3", "all CPUs are reserved; at least one must stay shared"),
    ],
)
def test_reserved_cpus_that_cannot_be_are_refused(reserved: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pools(FOUR, AssignerConfig(reserved=read(reserved)))
    assert str(caught.value) == sentence


def test_memory_comes_from_the_nodes_of_the_cpus_that_have_any() -> None:
    given = Pools(host(nodes=2), AssignerConfig()).create(subject("a", 2)).create(subject("b"))
    assert given.cpusets() == {"id-a": Cpuset("0-1", "0"), "id-b": Cpuset("2-3", "1")}
    bare = dataclasses.replace(given.topology, memory_nodes=frozenset({0}))
    assert dataclasses.replace(given, topology=bare).cpuset("id-b") == Cpuset("2-3", "")
    rules = AssignerConfig(memory_nodes=False)
    assert dataclasses.replace(given, rules=rules).cpuset("id-a") == Cpuset("0-1", "")


# --- who must move --------------------------------------------------------------------------------


def test_those_that_exist_and_have_other_cpus_now_are_updated_and_no_others() -> None:
    before = pools(subject("a"), subject("own", 1)).create(subject("coming"))
    after = before.create(subject("new", 1))
    update = api.ContainerUpdate(container_id="id-a", ignore_failure=True)
    update.linux.resources.cpu.cpus = "2-3"
    update.linux.resources.cpu.mems = "0"
    assert updates(before.cpusets(), after) == [update]


# --- what already exists --------------------------------------------------------------------------


def test_what_is_as_it_should_be_is_kept() -> None:
    given, notes = reconcile(
        FOUR, AssignerConfig(), [(subject("b", 1), read("3")), (subject("a"), read("0-2"))]
    )
    assert notes == []
    assert (own(given, "a"), own(given, "b")) == ("0-2", "3")


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ("", "had CPUs any"),
        ("0-1", "had CPUs 0-1"),
        ("7", "had CPUs 7"),
    ],
)
def test_who_has_not_what_it_is_to_have_gets_it_and_that_is_told(has: str, said: str) -> None:
    given, notes = reconcile(FOUR, AssignerConfig(), [(subject("a", 1), read(has))])
    assert notes == [f"pod default/a, container a: {said}, now has exclusive CPUs 0"]
    assert own(given, "a") == "0"


def test_who_cannot_have_what_it_asks_for_shares_and_that_is_told() -> None:
    four = subject("a", 4)
    wrong = subject("b", key=ASK, asked="x")
    given, notes = reconcile(FOUR, AssignerConfig(), [(four, read("0-3")), (wrong, read("1"))])
    assert (own(given, "a"), own(given, "b")) == ("0-3", "0-3")
    first, second = notes
    assert first == (
        "pod default/a, container a: exclusive CPUs: 4 requested, 3 available: of 4 CPUs"
        " 0 are reserved, 0 exclusive to other containers, and 1 is always"
        " shared; request fewer, or use another node; until then it uses the shared CPUs"
    )
    assert second == (
        f"pod default/b, container b: annotation {ASK}: 'x' is not a number of CPUs, such as 2;"
        " until then it uses the shared CPUs"
    )


def test_who_shares_for_lack_of_cpus_gets_its_own_when_others_end_or_want_fewer() -> None:
    full = [(subject("a", 2), read("0-1")), (subject("b", 2), read(""))]
    given, notes = reconcile(FOUR, AssignerConfig(), full)
    assert len(notes) == 1
    assert own(given, "b") == "2-3"
    assert own(given.without(["id-a"]), "b") == "0-1"
    assert own(given.place(subject("a", 1)), "b") == "1-2"


def test_of_two_that_have_the_same_cpu_one_keeps_it() -> None:
    given, notes = reconcile(
        FOUR, AssignerConfig(), [(subject("b", 1), read("2")), (subject("a", 1), read("2"))]
    )
    assert (own(given, "a"), own(given, "b")) == ("2", "0")
    assert notes == ["pod default/b, container b: had CPUs 2, now has exclusive CPUs 0"]

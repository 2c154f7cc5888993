"""What one request may cost, however much it asks for and however many rules there are."""

from __future__ import annotations

import contextlib
import logging
import tracemalloc

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.naming import named
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Item, Policy
from nri_inject.policy.settle import without
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.environment import Environment
from nri_inject.text.budget import MAX_STEPS, Budget, OverBudget

POD = Pod(namespace="ci", name="p")
CONTAINER = Container(name="main")
COSTLY = (
    "comparing it with the rules of policy.yaml takes more than 100000 steps, the limit for"
    " one container; request fewer or shorter things"
)


def policy_of(rules: int, entry: str, **more: str) -> Policy:
    text = "\n".join([f"- allow: {entry}"] * rules)
    head = "".join(f"{key}: {value}\n" for key, value in more.items())
    return document.read(f"{head}rules:\n{text}", "policy.yaml")


def permit_of(policy: Policy) -> Permit:
    return Permit(policy, POD, CONTAINER, "10-injector", Budget(lambda: "pod ci/p"))


@pytest.mark.parametrize("more", [{}, {"mode": "warn"}, {"on_deny": "skip"}])
def test_what_takes_too_many_comparisons_fails_the_container(more: dict[str, str]) -> None:
    permit = permit_of(policy_of(1000, "{sysctl: ['*.x']}", **more))
    names = [f"net.a{number}.x" for number in range(34)]
    with pytest.raises(OverBudget) as caught:
        permit.filter_names("sysctl", names, "sysctl")
    assert str(caught.value) == f"pod ci/p: {COSTLY}"
    assert [d.verdict for d in permit.decisions] == ["allow"] * 33


def test_a_comparison_with_a_long_name_costs_more() -> None:
    permit = permit_of(policy_of(1000, "{sysctl: ['*.x']}"))
    with pytest.raises(OverBudget):
        permit.filter_names("sysctl", [f"{'a' * 1024}{number}.x" for number in range(6)], "sysctl")
    assert len(permit.decisions) == 5


def test_a_pod_that_takes_too_many_comparisons_cannot_get_rid_of_a_hook() -> None:
    permit = permit_of(policy_of(1000, "{sysctl: ['*.x'], hooks: ['*.y']}", on_deny="skip"))
    names = [f"net.a{number}.x" for number in range(102)]
    with pytest.raises(OverBudget):
        permit.filter_names("sysctl", names, "sysctl")
    with pytest.raises(OverBudget):
        permit.filter_unrequested_names("hooks", ["a.json"], "hook")


@pytest.mark.slow
def test_rules_for_other_names_take_no_comparison() -> None:
    rules = "\n".join(f"- allow: {{sysctl: [net.a{number}.*]}}" for number in range(2000))
    permit = permit_of(document.read(f"rules:\n{rules}", "policy.yaml"))
    names = [f"net.a{number}.x" for number in range(1000)]
    assert permit.filter_names("sysctl", names, "sysctl") == names


@pytest.mark.slow
def test_rules_of_many_sets_of_namespaces_count_as_comparisons() -> None:
    rules = "\n".join(
        f"- {{who: {{namespaces: [ci, team-{n}]}}, allow: {{sysctl: [net.a{n}]}}}}"
        for n in range(5000)
    )
    permit = permit_of(document.read(f"rules:\n{rules}", "policy.yaml"))
    with pytest.raises(OverBudget, match=COSTLY):
        permit.filter_names("sysctl", [f"net.a{number}" for number in range(21)], "sysctl")
    assert {d.verdict for d in permit.decisions} == {"allow"}


@pytest.mark.slow
def test_rules_for_other_namespaces_take_no_comparison() -> None:
    rules = "\n".join(
        f"- {{who: {{namespaces: [team-{n}, 'team-{n}-*']}}, allow: {{devices: [/dev/fuse]}}}}"
        for n in range(2000)
    )
    policy = document.read(f"rules:\n{rules}", "policy.yaml")
    fuse = named("devices", "/dev/fuse", "device")
    for namespace, expected in (("team-7", 1), ("team-7-a", 1), ("team-", 0), ("ci", 0)):
        assert len(policy.local(namespace).candidates(fuse)) == expected


def test_a_namespace_that_asks_takes_no_memory() -> None:
    rules = "\n".join(f"- allow: {{sysctl: [net.a{number}.x]}}" for number in range(2000))
    policy = document.read(f"rules:\n{rules}", "policy.yaml")
    item = named("sysctl", "net.a7.x", "sysctl")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(64):
            assert len(policy.local(f"team-{number}").candidates(item)) == 1
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 1024


def test_a_source_is_compared_once_with_an_entry_however_deep_it_lies() -> None:
    policy = policy_of(500, "{mounts: ['/srv/**']}")
    deep = Item("mounts", "/in", "mount", ("/srv" + "/a" * 60,), None)
    assert len(policy.local("ci").candidates(deep)) == 500
    several = Item("mounts", "/in", "mount", ("/srv/a", "/srv/b"), None)
    assert len(policy.local("ci").candidates(several)) == 500


def test_the_deepest_source_that_is_looked_at_has_64_parts() -> None:
    def verdicts(source: str) -> list[str]:
        permit = permit_of(policy_of(1, "{mounts: [/srv]}"))
        mount = api.Mount(source=source, destination="/in", type="bind", options=["ro"])
        host = Host({}, files={source: HostPath(source)})
        with contextlib.suppress(RequestError):
            permit.filter(Adjustment(mounts=[mount]), host)
        return [decision.reason for decision in permit.decisions]

    assert verdicts("/srv" + "/a" * 63) == [""]
    assert verdicts("/srv" + "/a" * 64) == ["its source has more than 64 parts"]


def test_a_mount_with_more_than_64_options_is_denied() -> None:
    permit = permit_of(policy_of(1, "{mounts: [{source: /srv, options: ['*']}]}"))
    options = ["ro", *(f"o{number}" for number in range(64))]
    mount = api.Mount(source="/srv", destination="/in", type="bind", options=options)
    with pytest.raises(RequestError, match="it has more than 64 options"):
        permit.filter(Adjustment(mounts=[mount]), Host({}, files={"/srv": HostPath("/srv")}))


def test_a_device_is_compared_with_the_rules_of_its_own_number() -> None:
    minors = range(250)
    devices = [device(f"/dev/a{minor}", minor) for minor in minors]
    whole = linux(devices, [rule(True, minor, "rw") for minor in minors])
    nodes = {one.path: node(one.path, one.minor) for one in devices}
    budget = Budget()
    permit = Permit(policy_of(1, "{devices: [/dev/**]}"), POD, CONTAINER, "10-injector", budget)
    assert permit.filter(whole, Host(nodes, budget=budget)) == whole
    assert budget.spent < MAX_STEPS // 5


def test_a_rule_for_many_numbers_concerns_each_device() -> None:
    permit = permit_of(policy_of(1, "{devices: [{path: /dev/a, access: r}]}"))
    for minor in (1, -1):
        whole = linux([device("/dev/a", 1)], [rule(True, minor, "rw")])
        with pytest.raises(RequestError, match="access"):
            permit.filter(whole, Host({"/dev/a": node("/dev/a", 1)}))


def test_a_look_costs_a_comparison_with_each_pattern_of_what_containers_may_write() -> None:
    sources = ", ".join(f"{{source: '/srv/{number}-*', access: rw}}" for number in range(300))
    budget = Budget()
    permit = Permit(policy_of(1, f"{{mounts: [{sources}]}}"), POD, CONTAINER, "10-a", budget)
    host = Host({}, files={"/srv/a": HostPath("/srv/a")}, budget=budget)
    assert permit.guarded(host).files["/srv/a"].doubt is None
    assert permit.guarded(host).devices.get("/dev/a") is None
    assert budget.spent == 600


@pytest.mark.parametrize(("count", "expected"), [(32, 32), (33, 33), (1000, 33)])
def test_the_log_has_33_lines_at_most_of_what_passed_or_was_left_out(
    count: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    environment = Environment((), Options(idx="10", name="injector"), Config(audit="off"))
    permit = permit_of(policy_of(1, "{hooks: [a]}", mode="warn"))
    permit.filter_names("sysctl", [f"net.a{number}" for number in range(count)], "sysctl")
    environment.record(permit, POD, CONTAINER, "injected")
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(lines) == expected
    if count > 32:
        assert lines[-1] == f"pod ci/p, container main: and {count - 32} more"


# --- what is left out ---------------------------------------------------------------------------


def rule(allow: bool, minor: int, access: str) -> api.LinuxDeviceCgroup:
    return api.LinuxDeviceCgroup(
        allow=allow,
        type="c",
        major=api.OptionalInt64(value=10),
        minor=api.OptionalInt64(value=minor),
        access=access,
    )


def device(path: str, minor: int) -> api.LinuxDevice:
    return api.LinuxDevice(path=path, type="c", major=10, minor=minor)


def node(path: str, minor: int) -> DeviceNode:
    return DeviceNode(path, "c", 10, minor, 0o600, 0, 0, path)


def linux(devices: list[api.LinuxDevice], rules: list[api.LinuxDeviceCgroup]) -> Adjustment:
    resources = api.LinuxResources(devices=rules)
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=devices, resources=resources))


def item(key: str) -> Item[object]:
    return named("devices", key, "device")


def test_the_rules_of_a_device_go_with_it() -> None:
    whole = linux(
        [device("/dev/a", 1), device("/dev/b", 2)], [rule(True, 1, "m"), rule(True, 2, "m")]
    )
    assert without(whole, [item("/dev/a")]) == linux([device("/dev/b", 2)], [rule(True, 2, "m")])


def test_a_rule_that_takes_access_away_stays_for_another_device_of_its_number() -> None:
    whole = linux([device("/dev/a", 1), device("/other", 1)], [rule(False, 1, "w")])
    left = without(whole, [item("/other")])
    assert left == linux([device("/dev/a", 1)], [rule(False, 1, "w")])


def test_a_rule_that_came_without_a_device_is_left_out_too() -> None:
    policy = policy_of(1, "{hooks: [a]}", on_deny="skip")
    whole = linux([], [rule(True, 7, "rwm"), rule(False, 7, "w")])
    assert permit_of(policy).filter(whole, Host({})) == linux([], [rule(False, 7, "w")])


def test_a_thousand_things_are_left_out_together() -> None:
    whole = Adjustment()
    for number in range(1000):
        whole.mounts.add(source="/", destination=f"/in/{number}")
        whole.linux.sysctl[f"net.a{number}"] = "1"
        whole.linux.net_devices[f"e{number}"].name = "in"
    whole.rlimits.add(type="RLIMIT_NOFILE", hard=1)
    whole.linux.scheduler.policy = api.LinuxSchedulerPolicy.SCHED_FIFO
    setattr(whole.linux.io_priority, "class", api.IOPrioClass.IOPRIO_CLASS_RT)
    whole.linux.memory_policy.mode = api.MpolMode.MPOL_BIND
    left = permit_of(policy_of(1, "{hooks: [a]}", on_deny="skip")).filter(whole, Host({}))
    assert left == Adjustment(linux=api.LinuxContainerAdjustment())

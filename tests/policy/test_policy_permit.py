"""What a policy grants one container, and the sentences about what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy
from nri_inject.policy.source import DENY_ALL

POD = Pod(namespace="ci", name="build", labels={"app": "web"})
CONTAINER = Container(name="main")
NODES = [
    DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0, "/dev/fuse"),
    DeviceNode("/dev/mem", "c", 1, 1, 0o640, 0, 0, "/dev/mem"),
]
HOST = Host(
    {node.path: node for node in NODES},
    numbers={node.number: (node.path,) for node in NODES},
    files={"/srv": HostPath("/srv")},
)
FUSE, MEM = (
    api.LinuxDevice(path=node.path, type=node.type, major=node.major, minor=node.minor)
    for node in NODES
)


def permit(policy: str | Policy) -> Permit:
    rules = document.read(policy, "policy.yaml") if isinstance(policy, str) else policy
    return Permit(rules, POD, CONTAINER, "10-injector")


def access(minor: int, letters: str, *, allow: bool = True) -> api.LinuxDeviceCgroup:
    number = api.OptionalInt64(value=10 if minor == 229 else 1)
    return api.LinuxDeviceCgroup(
        allow=allow,
        type="c",
        major=number,
        minor=api.OptionalInt64(value=minor),
        access=letters,
    )


def asked(*devices: api.LinuxDevice, rules: tuple[api.LinuxDeviceCgroup, ...] = ()) -> Adjustment:
    resources = api.LinuxResources(devices=rules)
    linux = api.LinuxContainerAdjustment(devices=devices, resources=resources if rules else None)
    return Adjustment(linux=linux)


def faults(policy: str | Policy, adjustment: Adjustment, **origins: str) -> list[str]:
    with pytest.raises(RequestError) as caught:
        permit(policy).filter(adjustment, HOST, origins)
    assert caught.value.where == "pod ci/build, container main"
    assert caught.value.denied
    return list(caught.value.faults)


def test_what_is_allowed_is_returned_as_it_is() -> None:
    adjustment = asked(FUSE)
    granting = permit("rules: [{name: fuse, allow: {devices: [/dev/fuse]}}]")
    assert granting.filter(adjustment, HOST) is adjustment
    assert [(d.verdict, d.rule) for d in granting.decisions] == [("allow", "fuse")]


def test_everything_that_is_denied_is_told_with_the_annotation_that_asked() -> None:
    adjustment = asked(FUSE, MEM)
    adjustment.linux.sysctl["net.core.x"] = "1"
    policy = "rules: [{name: fuse, allow: {devices: [/dev/fuse]}}]"
    assert faults(policy, adjustment, devices="devices.example.com/pod") == [
        (
            "annotation devices.example.com/pod: device '/dev/mem' (c 1:1): no rule of policy.yaml"
            " allows it; a rule that allows it:"
            " {who: {namespaces: [ci]}, allow: {devices: [/dev/mem]}}"
        ),
        (
            "sysctl 'net.core.x': no rule of policy.yaml allows it; a rule that allows it:"
            " {who: {namespaces: [ci]}, allow: {sysctl: [net.core.x]}}"
        ),
    ]


def test_the_rule_that_is_suggested_allows_it() -> None:
    adjustment = asked(FUSE, MEM)
    adjustment.linux.sysctl["net/core/x"] = "1"
    adjustment.linux.net_devices["e*"].name = "in"
    adjustment.linux.scheduler.policy = api.LinuxSchedulerPolicy.SCHED_RR
    adjustment.linux.scheduler.nice = -1
    adjustment.mounts.add(source="/srv", destination="/proc/x", type="bind", options=["rw"])
    adjustment.rlimits.add(type="RLIMIT_CORE", hard=2**64 - 1, soft=1)
    policy = ""
    # What no rule could allow is not looked at, so its rule comes at the second attempt.
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            permit(f"rules: [{policy}]").filter(adjustment, HOST)
        policy += (
            ",".join(s.partition("a rule that allows it: ")[2] for s in caught.value.faults) + ","
        )
        try:
            assert permit(f"rules: [{policy}]").filter(adjustment, HOST) is adjustment
        except RequestError:
            continue
        return
    pytest.fail(policy)


def test_what_a_rule_denies_comes_with_no_advice_to_allow_it() -> None:
    policy = "rules: [{name: never, deny: {devices: [/dev/mem]}}, {allow: {devices: [/dev/*]}}]"
    assert faults(policy, asked(FUSE, MEM)) == [
        "device '/dev/mem' (c 1:1): rule 'never' of policy.yaml denies it"
    ]


def test_nothing_is_allowed_by_a_policy_that_could_not_be_read() -> None:
    allowing = document.read("rules: [{allow: {devices: ['/dev/**']}}]", "policy.yaml")
    broken = Policy(allowing.rules, trouble="the policy cannot be used: it is cut off")
    assert faults(broken, asked(FUSE)) == [
        "device '/dev/fuse' (c 10:229): the policy cannot be used: it is cut off"
    ]


def test_without_a_policy_nothing_of_the_host_is_looked_at() -> None:
    assert faults(DENY_ALL, asked(FUSE)) == [
        (
            "device '/dev/fuse': no rule of this node's policy (none configured) allows it;"
            " a rule that allows it:"
            " {who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
        )
    ]
    denying = permit(DENY_ALL)
    assert not denying.reaches_device("/dev/fuse")
    assert not denying.reaches_source("/srv")


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/dev/snd", True),
        ("/dev/snd/x", True),
        ("/dev/fuse", True),
        ("//dev/./fuse", True),
        ("/dev/../home/x", False),
        ("/home/x", False),
        ("/srv/x", False),
    ],
)
def test_paths_are_looked_at_where_a_rule_could_allow_something(path: str, reached: bool) -> None:
    rules = "rules: [{allow: {devices: [/dev/snd/*]}}, {deny: {devices: [/srv/*]}}]"
    assert permit(rules).reaches_device(path) is reached


# --- skipping -----------------------------------------------------------------------------------

SKIP = "on_deny: skip\nrules: [{allow: {devices: [/dev/fuse]}}]"


def test_what_is_skipped_takes_its_rules_with_it() -> None:
    adjustment = asked(FUSE, MEM, rules=(access(1, "m"), access(1, "w", allow=False)))
    left = permit(SKIP).filter(adjustment, HOST)
    assert [device.path for device in left.linux.devices] == ["/dev/fuse"]
    assert not left.linux.resources.devices


def test_a_rule_without_its_device_is_skipped_alone() -> None:
    adjustment = asked(FUSE, rules=(access(1, "rw"), access(229, "w", allow=False)))
    left = permit(SKIP).filter(adjustment, HOST)
    assert left == asked(FUSE, rules=(access(229, "w", allow=False),))


def test_a_device_with_too_much_access_is_skipped_and_not_trimmed() -> None:
    left = permit(SKIP).filter(asked(FUSE, rules=(access(229, "m"),)), HOST)
    assert not left.linux.devices
    assert not left.linux.resources.devices


def test_a_second_name_of_a_device_keeps_the_rules_that_take_something_away() -> None:
    other = api.LinuxDevice(path="/dev/mem", type="c", major=10, minor=229)
    limiting = access(229, "w", allow=False)
    left = permit(SKIP).filter(asked(FUSE, other, rules=(limiting,)), HOST)
    assert left == asked(FUSE, rules=(limiting,))


def test_the_one_given_stays_as_it_was() -> None:
    adjustment = asked(FUSE, MEM)
    permit(SKIP).filter(adjustment, HOST)
    assert adjustment == asked(FUSE, MEM)


def test_in_warn_mode_everything_is_returned_and_noted() -> None:
    adjustment = asked(FUSE, MEM)
    warning = permit("mode: warn\nrules: [{allow: {devices: [/dev/fuse]}}]")
    assert warning.filter(adjustment, HOST) is adjustment
    assert [decision.verdict for decision in warning.decisions] == ["allow", "warn"]


# --- what is what it is called ------------------------------------------------------------------


def test_names_are_granted_one_by_one() -> None:
    rules = "on_deny: skip\nrules: [{allow: {cdi_devices: [vendor.com/gpu=*]}}]"
    granting = permit(rules)
    names = ["vendor.com/gpu=0", "vendor.com/net=0", "vendor.com/gpu=all"]
    assert granting.filter_names("cdi_devices", names, "CDI device") == [names[0], names[2]]
    with pytest.raises(RequestError, match=r"CDI device 'vendor\.com/net=0': no rule of"):
        permit(rules.removeprefix("on_deny: skip\n")).filter_names(
            "cdi_devices", names, "CDI device"
        )


HANDED = "CDI device"


def test_devices_of_the_kubelet_need_no_rule_and_a_deny_fails_the_container() -> None:
    tolerating = permit("rules: [{name: never, deny: {cdi_devices: [v.com/*=*]}}]")
    assert tolerating.filter_admin_names("cdi_devices", ["w.com/d=0"], HANDED) == ["w.com/d=0"]
    assert [d.reason for d in tolerating.decisions] == ["the node's own files add it"]
    with pytest.raises(RequestError, match=r"v\.com/d=0': rule 'never' of policy\.yaml"):
        tolerating.filter_admin_names("cdi_devices", ["v.com/d=0"], HANDED)
    skipping = permit("on_deny: skip\nrules: [{deny: {cdi_devices: [v.com/*=*]}}]")
    names = ["w.com/d=0", "v.com/d=0"]
    assert skipping.filter_admin_names("cdi_devices", names, HANDED) == ["w.com/d=0"]


@pytest.mark.parametrize("on_deny", ["fail", "skip"])
def test_a_hook_that_a_rule_denies_is_left_out_since_nobody_requested_it(on_deny: str) -> None:
    leaving_out = permit(f"on_deny: {on_deny}\nrules: [{{name: never, deny: {{hooks: [99-*]}}}}]")
    names = ["10-a.json", "99-b.json"]
    assert leaving_out.filter_unrequested_names("hooks", names, "hook") == ["10-a.json"]
    assert [(d.verdict, d.rule, d.reason) for d in leaving_out.decisions] == [
        ("allow", None, "the node's own files add it"),
        ("skip", "never", "rule 'never' of policy.yaml denies it"),
    ]


def test_in_warn_mode_a_hook_that_a_rule_denies_is_returned_and_noted() -> None:
    warning = permit("mode: warn\nrules: [{deny: {hooks: [99-*]}}]")
    assert warning.filter_unrequested_names("hooks", ["99-b"], "hook") == ["99-b"]
    assert [decision.verdict for decision in warning.decisions] == ["warn"]


@pytest.mark.parametrize("on_deny", ["fail", "skip"])
def test_a_hook_is_not_lost_where_no_rule_can_be_consulted(on_deny: Any) -> None:
    broken = permit(Policy(on_deny=on_deny, trouble="it is cut off"))
    with pytest.raises(RequestError, match="hook '10-a': it is cut off"):
        broken.filter_unrequested_names("hooks", ["10-a"], "hook")
    assert [decision.verdict for decision in broken.decisions] == ["deny"]


def test_a_path_of_more_than_64_slashes_is_not_looked_at() -> None:
    allowing = permit("rules: [{allow: {devices: ['/dev/**']}}]")
    assert allowing.reaches_device("/dev" + "/a" * 63)
    assert not allowing.reaches_device("/dev" + "/a" * 64)

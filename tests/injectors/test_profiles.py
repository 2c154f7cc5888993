"""Profiles: sets of things with a name, requested by a pod or given by a rule."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import Faulty, RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors import device
from nri_inject.injectors.device.giving import GIVERS
from nri_inject.injectors.giving import giving, read_gifts
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy

FUSE = DeviceNode("/dev/fuse", "c", 10, 229, 0o600, 0, 0, real="/dev/fuse")
HOST = Host({"/dev/fuse": FUSE}, numbers={("c", 10, 229): ("/dev/fuse",)})
MAIN = Container(name="main")
INJECT = giving(device.inject, GIVERS)
KEY = "profiles.noderesource.dev"
ZIGBEE = """
    profiles:
      zigbee:
        devices: [{device: /dev/fuse, as: /dev/stick}]
        env: {TZ: UTC}
      home: {profiles: [zigbee], ulimits: [{type: memlock, hard: 9, soft: 9}]}
      broken: {devices: [/dev/none]}
    rules: RULES
"""


def read(text: str) -> Policy:
    return document.read(textwrap.dedent(text), "policy", read_gifts)


def asking(text: str | None) -> Pod:
    return Pod(namespace="ci", name="p", annotations={} if text is None else {KEY: text})


def permit_of(rules: str, pod: Pod) -> Permit:
    return Permit(read(ZIGBEE.replace("RULES", rules)), pod, MAIN, "10-device-injector")


def got(rules: str, text: str | None = "[zigbee]") -> Adjustment:
    pod = asking(text)
    return INJECT(pod, MAIN, replace(HOST, permit=permit_of(rules, pod)))


def faults(rules: str, text: str = "[zigbee]") -> tuple[str, ...]:
    with pytest.raises(RequestError) as error:
        got(rules, text)
    return error.value.faults


ALLOWED = "[{name: r, allow: {profiles: [zigbee, home, broken, none]}}]"


def test_a_pod_gets_all_of_a_profile_that_a_rule_allows_by_name() -> None:
    found = got(ALLOWED)
    assert [one.path for one in found.linux.devices] == ["/dev/stick"]
    assert [(one.key, one.value) for one in found.env] == [("TZ", "UTC")]
    pod = asking("[zigbee]")
    permit = permit_of(ALLOWED, pod)
    INJECT(pod, MAIN, replace(HOST, permit=permit))
    assert [(one.item.kind, one.verdict, one.rule, one.reason) for one in permit.decisions] == [
        ("profiles", "allow", "r", ""),
        ("devices", "allow", "r", "of profile 'zigbee'"),
        ("env", "allow", "r", "of profile 'zigbee'"),
    ]


def test_a_profile_has_what_the_profiles_that_it_uses_have() -> None:
    found = got(ALLOWED, "[home]")
    assert [one.path for one in found.linux.devices] == ["/dev/stick"]
    assert [limit.hard for limit in found.rlimits] == [9]


def test_a_rule_gives_a_profile_by_name() -> None:
    found = got("[{give: {profiles: [home], env: {A: x}}}]", None)
    assert {one.key for one in found.env} == {"A", "TZ"}
    assert [one.path for one in found.linux.devices] == ["/dev/stick"]


def test_a_profile_needs_a_rule() -> None:
    (sentence,) = faults("[]")
    assert sentence == (
        "annotation profiles.noderesource.dev: profile 'zigbee': no rule of policy allows it; a"
        " rule that allows it: {who: {namespaces: [ci]}, allow: {profiles: [zigbee]}}"
    )


def test_what_is_in_a_profile_may_be_denied() -> None:
    rules = f"[{{deny: {{devices: [/dev/fuse]}}}}, {ALLOWED[1:]}"
    (sentence,) = faults(rules)
    assert sentence == (
        "annotation profiles.noderesource.dev: profile 'zigbee': device {device: /dev/fuse, as:"
        " /dev/stick}: rule '#1' of policy denies it"
    )


def test_a_denied_profile_is_not_given_within_another_one() -> None:
    rules = "[{deny: {profiles: [zigbee]}}, {give: {profiles: [home]}}]"
    found = got(rules, None)
    assert [limit.hard for limit in found.rlimits] == [9]
    assert not found.linux.devices
    assert not found.env


def test_with_on_deny_skip_what_is_denied_of_a_profile_is_left_out() -> None:
    pod = asking("[zigbee]")
    rules = f"[{{deny: {{devices: [/dev/fuse]}}}}, {ALLOWED[1:]}\n    on_deny: skip"
    found = INJECT(pod, MAIN, replace(HOST, permit=permit_of(rules, pod)))
    assert not found.linux.devices
    assert [one.key for one in found.env] == ["TZ"]


def test_with_on_deny_skip_a_profile_without_a_rule_is_left_out() -> None:
    assert got("[]\n    on_deny: skip") == Adjustment()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[none]", "policy has no profile 'none'"),
        ("zigbee", "'zigbee' must be a list of profiles, such as [zigbee]"),
        ("[broken]", "profile 'broken': device /dev/none: '/dev/none' does not exist on the host"),
    ],
)
def test_a_request_that_cannot_be_met_fails_the_container(text: str, sentence: str) -> None:
    assert faults(ALLOWED, text) == (f"annotation profiles.noderesource.dev: {sentence}",)


def test_an_unrestricted_policy_has_no_profiles() -> None:
    with pytest.raises(RequestError, match="is not known: the policy is unrestricted"):
        INJECT(asking("[zigbee]"), MAIN, HOST)


def test_a_request_in_conflict_with_a_profile_fails_the_container() -> None:
    pod = asking("[home]")
    pod.annotations["ulimits.noderesource.dev"] = "[{type: memlock, hard: 5, soft: 5}]"
    rules = "[{allow: {profiles: [home], ulimits: [memlock]}}]"
    with pytest.raises(RequestError, match="the container has another rlimits 'RLIMIT_MEMLOCK'"):
        INJECT(pod, MAIN, replace(HOST, permit=permit_of(rules, pod)))


@pytest.mark.parametrize(
    ("profiles", "sentence"),
    [
        ("{a: {profiles: [b]}, b: {profiles: [a]}}", "in a circle: a -> b -> a"),
        ("{a: {profiles: [a]}}", "in a circle: a -> a"),
        ("{a: {profiles: [c]}}", "no profile 'c'; known: a"),
        ("{a: {devices: [{path: 1}]}}", "profiles: a: devices: item 1: "),
        ("{Big: {env: {A: x}}}", "'Big' is no name of a profile"),
        ("[a]", "profiles: a list is not a map of name to profile"),
        (
            "{" + ", ".join(f"a{n}: {{profiles: [a{n + 1}]}}" for n in range(20)) + "}",
            "profiles use each other more than 8 deep",
        ),
    ],
)
def test_a_mistake_in_profiles_is_a_fault_of_the_policy(profiles: str, sentence: str) -> None:
    with pytest.raises(Faulty) as error:
        read(f"profiles: {profiles}")
    assert sentence in str(error.value)


def test_what_a_profile_lets_containers_write_is_not_trusted() -> None:
    mount = "{source: /srv, destination: /a, type: bind, options: [bind, rw]}"
    assert read(f"profiles: {{a: {{mounts: [{mount}]}}}}").lent.at("/srv/x") == "/srv"

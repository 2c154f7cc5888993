"""The policy and a naive evaluation of the same document agree on everything that is requested."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st
from support import naive_policy
from support.policy_strategies import (
    HOST,
    MOUNTS,
    adjustments,
    claimed_devices,
    containers,
    entries,
    pods,
    policies,
    removals,
    true_devices,
)
from support.properties import examples

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.policy import document
from nri_inject.policy.permit import Permit


@examples(300)
@given(policies, pods, containers, adjustments(), removals)
def test_what_is_allowed_is_what_the_naive_evaluation_allows(
    policy: dict[str, Any],
    pod: Pod,
    container: Container,
    adjustment: Adjustment,
    removed: list[str],
) -> None:
    adjustment.mounts.extend(api.Mount(destination=f"-{place}") for place in removed)
    asker = naive_policy.Asker(pod, container, "10-injector", HOST, MOUNTS)
    expected = naive_policy.allowed(policy, asker, adjustment)
    permit = Permit(document.checked(policy, "policy"), pod, container, "10-injector")
    try:
        granted = permit.filter(adjustment, HOST)
        denied = False
        handed = {mount.destination: mount.source for mount in granted.mounts}
        assert handed == {
            m.destination: naive_policy.handed_on(asker, m) for m in adjustment.mounts
        }
    except RequestError:
        denied = True
    found = {(d.item.kind, d.item.key): d.verdict == "allow" for d in permit.decisions}
    assert found == expected
    assert denied == (not all(expected.values()))
    for (kind, _), is_allowed in expected.items():
        event(f"{kind} {'allowed' if is_allowed else 'denied'}")


# --- few rules about few things, so that they are in each other's way ---------------------------


def only_mount(mount: api.Mount) -> Adjustment:
    return Adjustment(mounts=[mount])


def only_device(device: api.LinuxDevice) -> Adjustment:
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[device]))


def only_sysctl(key: str) -> Adjustment:
    return Adjustment(linux=api.LinuxContainerAdjustment(sysctl={key: "1"}))


CONTESTED: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Adjustment]]] = {
    "sources": (
        entries(
            "source",
            *("/", "/srv", "/srv/a", "/mnt", "/opt/disk", "/etc"),
            access=st.just("rw"),
        ),
        st.builds(
            lambda source, options: only_mount(
                api.Mount(source=source, destination="/in", type="bind", options=options)
            ),
            st.sampled_from(["/mnt", "/mnt/a", "/srv/a", "/opt", "/opt/disk/root/etc"]),
            st.sampled_from([["ro"], ["ro"], ["rbind", "rro"], ["rw"]]),
        ),
    ),
    "options": (
        st.lists(
            st.builds(
                lambda texts: {"type": "tmpfs", "access": "rw", "options": texts},
                st.lists(
                    st.sampled_from(["size=*", "mode=*", "dir=/a", "**"]), min_size=1, max_size=2
                ),
            ),
            min_size=1,
            max_size=1,
        ),
        st.lists(
            st.sampled_from(["size=1k", "size=1k,mode=7", "size=1k,rw", "dir=/a", "ro", "x,bind"]),
            min_size=1,
            max_size=2,
        ).map(
            lambda given: only_mount(
                api.Mount(source="tmpfs", destination="/in", type="tmpfs", options=given)
            )
        ),
    ),
    "devices": (
        entries("path", "/dev/fuse", "/dev/*", "/srv/*", "/opt/new"),
        st.one_of(true_devices, claimed_devices).map(only_device),
    ),
    "terminals": (
        st.one_of(
            st.just([{"type": "c", "major": 136}]),
            st.just([{"type": "c", "major": 136, "minor": 3}]),
            entries("path", "/dev/**", "/dev/pts/*", "/dev/pts/3", "/opt/new"),
        ),
        st.builds(
            lambda path, minor: only_device(
                api.LinuxDevice(path=path, type="c", major=136, minor=minor)
            ),
            st.sampled_from(["/dev/pts/3", "/opt/new"]),
            st.sampled_from([3, 4]),
        ),
    ),
    "sysctl": (
        entries(
            "name",
            *("net.ipv4.ip_forward", "net.ipv4.conf.eth?.forwarding", "net.ipv4.conf.all.*"),
            *("net.*.eth0.forwarding", "net.*"),
        ),
        st.sampled_from(
            [
                *("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"),
                *("net.ipv4.conf.default.forwarding", "net/ipv4/conf/eth0/forwarding"),
            ]
        ).map(only_sysctl),
    ),
}
KIND_OF = {"sources": "mounts", "options": "mounts", "terminals": "devices"}
# Who else may have something, and where containers may write, matters for what is believed.
others = st.lists(
    st.sampled_from(
        [
            {"who": {"containers": ["other"]}, "allow": {"devices": ["/srv/*", "/dev/*"]}},
            {"who": {"containers": ["other"]}, "allow": {"mounts": ["/"]}},
            {"allow": {"mounts": [{"source": "/dev", "access": "rw", "destination": "/out"}]}},
            {"allow": {"mounts": [{"source": "/srv", "access": "rw", "destination": "/out"}]}},
        ]
    ),
    max_size=1,
)


@pytest.mark.parametrize("what", CONTESTED)
@given(st.data())
def test_a_contested_thing_is_allowed_as_the_naive_evaluation_allows_it(
    what: str, data: st.DataObject
) -> None:
    named, asked = CONTESTED[what]
    kind = KIND_OF.get(what, what)
    effects = st.sampled_from(["allow", "allow", "deny"])
    rule = st.builds(lambda effect, listed: {effect: {kind: listed}}, effects, named)
    own = data.draw(st.lists(rule, min_size=1, max_size=3), label="rules")
    policy: dict[str, Any] = {"rules": [*data.draw(others, label="others"), *own]}
    adjustment = data.draw(asked, label="asked")
    asker = naive_policy.Asker(Pod(namespace="ci"), Container(name="main"), "x", HOST, MOUNTS)
    expected = naive_policy.allowed(policy, asker, adjustment)
    permit = Permit(document.checked(policy, "policy"), asker.pod, asker.container, asker.plugin)
    with contextlib.suppress(RequestError):
        permit.filter(adjustment, HOST)
    assert {(d.item.kind, d.item.key): d.verdict == "allow" for d in permit.decisions} == expected


@pytest.mark.slow
@examples(300)
@given(policies, pods, containers, adjustments())
def test_what_is_left_of_a_request_is_what_the_naive_evaluation_allows(
    policy: dict[str, Any], pod: Pod, container: Container, adjustment: Adjustment
) -> None:
    """With on_deny: skip nothing is left that is denied, and what is allowed is left as it was."""
    skipping = dataclasses.replace(document.checked(policy, "policy"), on_deny="skip")
    asker = naive_policy.Asker(pod, container, "10-injector", HOST, MOUNTS)
    expected = naive_policy.allowed(policy, asker, adjustment)
    left = Permit(skipping, pod, container, "10-injector").filter(adjustment, HOST)
    kept = {key for key, is_allowed in naive_policy.allowed(policy, asker, left).items()}
    assert kept == {key for key, is_allowed in expected.items() if is_allowed}
    assert all(naive_policy.allowed(policy, asker, left).values())


@examples(300)
@given(adjustments())
def test_an_admin_who_takes_each_advice_gets_to_a_policy_that_allows_it(
    adjustment: Adjustment,
) -> None:
    """What no rule could allow was not looked at, so its whole rule may come at a later attempt."""
    policy: dict[str, Any] = {"rules": []}
    for _ in range(5):
        permit = Permit(document.checked(policy, "policy"), Pod(namespace="ci"), Container(), "")
        with contextlib.suppress(RequestError):
            permit.filter(adjustment, HOST)
        advice = [
            permit.sentence(decision).partition("; a rule that allows it: ")[2]
            for decision in permit.decisions
            if decision.verdict == "deny"
        ]
        if not any(advice):
            return
        policy["rules"] += [yaml.safe_load(rule) for rule in advice if rule]
    raise AssertionError(f"advice without end: {policy}")

"""What rules give, and what a naive evaluation of the same rules gives, agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from hypothesis import event, given
from hypothesis import strategies as st
from support import naive_gifts, naive_policy
from support.policy_strategies import HOST, MOUNTS, adjustments, pods, rules, who
from support.properties import FACTOR, examples

from nri_inject import api
from nri_inject.api import Adjustment, Container, Image, Mount, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.device.giving import GIVERS
from nri_inject.injectors.giving import giving, read_gifts
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit


def some(*values: Any, most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique_by=repr)


mounts = st.builds(
    lambda source, destination, options: {
        "source": source,
        "destination": destination,
        "type": "bind",
        "options": options,
    },
    st.sampled_from(["/srv", "/srv/a", "/srv/link", "/srv/none", "/mnt/a", "/srv/tmp/x"]),
    st.sampled_from(["/in", "/data", "/etc/passwd"]),
    st.sampled_from([["bind", "ro"], ["bind", "ro"], ["bind", "rw"]]),
)
limits = st.builds(
    lambda name, hard: {"type": name, "hard": hard, "soft": 0},
    st.sampled_from(["NOFILE", "MEMLOCK"]),
    st.sampled_from([0, 100, 5000]),
)
GIFTS: dict[str, st.SearchStrategy[Any]] = {
    "devices": some(*("/dev/fuse", "/dev/sda", "/dev/none", "/srv/fuse", "/dev/dir", "/dev/shm/x")),
    "mounts": st.lists(mounts, min_size=1, max_size=2),
    "ulimits": st.lists(limits, min_size=1, max_size=2),
    "sysctl": st.dictionaries(
        st.sampled_from(["net.core.x", "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"]),
        st.sampled_from(["0", "1"]),
        min_size=1,
        max_size=2,
    ),
    "env": st.dictionaries(st.sampled_from("AB"), st.sampled_from("xw"), min_size=1, max_size=2),
}
gives = some(*GIFTS, most=3).flatmap(
    lambda kinds: st.fixed_dictionaries({kind: GIFTS[kind] for kind in kinds})
)
ANYWHERE = {"any_namespace": True}
whom: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({}),
    st.sampled_from([{"namespaces": ["kube-*"]}, {"namespaces": ["ci", "kube-system"]}]),
    st.builds(
        lambda one, more: {**one, **more, **({} if "namespaces" in one else ANYWHERE)},
        who,
        st.fixed_dictionaries(
            {},
            optional={
                "images": st.sampled_from([["ghcr.io/a/*"], ["ghcr.io/a/b"], ["ghcr.io/c"]]),
                "pod_names": st.sampled_from([["web-*"], ["web-1"], ["db"]]),
            },
        ),
    ),
)
giving_rules = st.builds(
    lambda asked, give, required, allow: {
        **({"who": asked} if asked else {}),
        "give": give,
        **({"required": True} if required else {}),
        **({"allow": allow["allow"]} if "allow" in allow else {}),
    },
    whom,
    gives,
    st.sampled_from([False, False, False, True]),
    st.one_of(st.just({}), rules),
)
denying_rules = st.sampled_from(
    [
        {"deny": {"devices": ["/dev/fuse"]}},
        {"deny": {"devices": [{"path": "/dev/*", "type": "b"}]}},
        {"deny": {"mounts": ["/srv/a"], "ulimits": ["MEMLOCK"]}},
        {"who": {"containers": ["main"]}, "deny": {"sysctl": ["net.ipv4.ip_forward"]}},
    ]
)
profile_rules = st.sampled_from(
    [
        {"give": {"profiles": ["b"]}},
        {"who": {"namespaces": ["ci"]}, "give": {"profiles": ["a"], "env": {"A": "x"}}},
        {"give": {"profiles": ["a", "b"]}, "required": True},
        {"allow": {"profiles": ["*"]}},
        {"allow": {"profiles": ["a", "c"]}},
        {"deny": {"profiles": ["a"]}},
        {"deny": {"profiles": [{"name": "b"}]}},
    ]
)
profiles = st.builds(
    lambda a, b, uses: {"a": a, "b": {**b, "profiles": ["a"]} if uses else b},
    gives,
    gives,
    st.booleans(),
)
some_rules = st.one_of(
    *(giving_rules, giving_rules, giving_rules, denying_rules, profile_rules, rules)
)
LAST = {"allow": {"ulimits": ["NOFILE"], "sysctl": ["net.*"], "profiles": ["b"]}}
policies = st.builds(
    lambda listed, named: {"profiles": named, "rules": [*listed, LAST]},
    st.lists(some_rules, min_size=1, max_size=6),
    profiles,
)
containers = st.builds(
    lambda name, env, own: Container(
        name=name, env=env, image=Image(name="ghcr.io/a/b:1"), mounts=own
    ),
    st.sampled_from(["main", "side-1"]),
    st.sampled_from([[], [], ["A=x"]]),
    st.sampled_from(
        [[], [], [], [Mount(destination="/in")], [Mount(source="/run/nri", destination="/x")]]
    ),
)
requests = st.one_of(
    st.just(Adjustment()),
    st.just(Adjustment()),
    st.just(Adjustment(rlimits=[api.POSIXRlimit(type="RLIMIT_NOFILE", hard=100, soft=0)])),
    st.just(Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"net/core/x": "1"}))),
    adjustments(),
)
systems = st.sampled_from([False, False, False, True])
wanted = st.sampled_from([[], [], ["b"], ["a"], ["c"]])
refusals = st.sampled_from([None, None, ["devices"], ["env", "mounts"], "all"])


def asked_for(pod: Pod, name: str, system: bool, refusal: Any, wants: list[str]) -> Pod:
    one = Pod()
    one.CopyFrom(pod)
    one.name = name
    one.namespace = "kube-system" if system else pod.namespace
    if refusal is not None:
        one.annotations["refuse.noderesource.dev/pod"] = yaml.safe_dump(refusal)
    if wants:
        one.annotations["profiles.noderesource.dev/pod"] = yaml.safe_dump(wants)
    return one


def engine(
    policy: dict[str, Any], pod: Pod, container: Container, requested: Adjustment
) -> tuple[naive_gifts.Things | None, Permit]:
    """Return what a container has in the end, None if it fails, and the permit."""

    def requesting(_pod: Pod, _container: Container, host: Host) -> Adjustment:
        assert host.permit is not None
        return host.permit.filter(requested, host)

    read = document.checked(policy, "policy", read_gifts=read_gifts)
    permit = Permit(read, pod, container, "10-injector")
    inject = giving(requesting, GIVERS)
    try:
        return naive_gifts.things_of(inject(pod, container, replace(HOST, permit=permit))), permit
    except RequestError:
        return None, permit


@examples(1000 if FACTOR > 1 else 400)  # 20,000 in a soak
@given(
    policies,
    st.builds(asked_for, pods, st.sampled_from(["web-1", "db"]), systems, refusals, wanted),
    containers,
    requests,
)
def test_what_a_container_gets_is_what_the_naive_evaluation_gives(
    policy: dict[str, Any], pod: Pod, container: Container, requested: Adjustment
) -> None:
    asker = naive_policy.Asker(pod, container, "10-injector", HOST, MOUNTS)
    text = pod.annotations.get("refuse.noderesource.dev/pod", "[]")
    wants = yaml.safe_load(pod.annotations.get("profiles.noderesource.dev/pod", "[]"))
    refused = yaml.safe_load(text)
    kinds = ["devices", "mounts", "ulimits", "sysctl", "env"] if refused == "all" else refused
    try:
        expected = naive_gifts.outcome(policy, asker, requested, kinds, wants)
    except naive_gifts.Fails:
        expected = None
    found, permit = engine(policy, pod, container, requested)
    assert found == expected
    reasons = [decision.reason for decision in permit.decisions]
    event("fails" if expected is None else "is created")
    for word in (
        "given, not requested",
        "denies it",
        "refuses it",
        "of its own",
        "the container has",
    ):
        if any(word in reason for reason in reasons):
            event(word)

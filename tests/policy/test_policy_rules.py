"""Which rule decides, and what is said of those that do not."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.policy import document
from nri_inject.policy.device_entries import DeviceFacts
from nri_inject.policy.kinds import Scheduling
from nri_inject.policy.mount_entries import MountFacts
from nri_inject.policy.naming import named
from nri_inject.policy.rules import Decision, Item, Policy, Rule
from nri_inject.policy.who import Subject
from nri_inject.text.yamltext import Value

SUBJECT = Subject("ci", {"app": "web"}, "runc", "main", "10-injector")


def decide(text: str, item: Item[object], subject: Subject = SUBJECT) -> Decision:
    policy = document.read(text, "policy.yaml")
    return policy.decide(subject, item, policy.local(subject.namespace).candidates(item))


def device(
    *names: str, kind: str = "c", major: int = 10, minor: int = 1, access: str = "rw"
) -> Item[DeviceFacts]:
    facts = DeviceFacts(kind, major, minor, frozenset(access))
    return Item("devices", names[0] if names else "", "device", names, facts)


def mount(source: str, destination: str = "/in", *options: str, why: str = "") -> Item[MountFacts]:
    facts = MountFacts("bind", "rw" in options, why, destination, frozenset(options))
    return Item("mounts", destination, "mount", (source,), facts)


def test_what_no_rule_speaks_of_is_denied() -> None:
    item = named("hooks", "a", "hook")
    assert decide("", item) == Decision(item, "deny", None, "no rule of policy.yaml allows it")


def test_the_first_rule_that_speaks_of_both_decides() -> None:
    text = """rules:
      - {name: others, who: {namespaces: [lab]}, deny: {sysctl: ['**']}}
      - {name: exception, deny: {sysctl: [net.core.x]}}
      - {name: net, allow: {sysctl: ['net.*']}}
      - {name: late, deny: {sysctl: ['**']}}
    """
    denied = decide(text, named("sysctl", "net.core.x", "sysctl"))
    assert (denied.verdict, denied.rule) == ("deny", "exception")
    assert denied.reason == "rule 'exception' of policy.yaml denies it"
    allowed = decide(text, named("sysctl", "net.core.y", "sysctl"))
    assert (allowed.verdict, allowed.rule, allowed.reason) == ("allow", "net", "")
    last = decide(text, named("sysctl", "kernel.x", "sysctl"))
    assert (last.verdict, last.rule) == ("deny", "late")


@pytest.mark.parametrize(
    ("mode", "on_deny", "verdict"),
    [
        ("enforce", "fail", "deny"),
        ("enforce", "skip", "skip"),
        ("warn", "fail", "warn"),
        ("warn", "skip", "warn"),
    ],
)
def test_what_becomes_of_what_is_denied(mode: str, on_deny: str, verdict: str) -> None:
    text = f"{{mode: {mode}, on_deny: {on_deny}, rules: [{{allow: {{hooks: [b]}}}}]}}"
    assert decide(text, named("hooks", "a", "hook")).verdict == verdict
    assert decide(text, named("hooks", "b", "hook")).verdict == "allow"


NEAR = "; the nearest is rule '#1', but "


@pytest.mark.parametrize(
    ("entry", "item", "reason"),
    [
        ("{devices: [/dev/x]}", device("/dev/y"), ""),
        (
            "{devices: [/dev/*]}",
            device("/dev/sda", kind="b", access="rwm"),
            NEAR + "it is for type c, and the type is b",
        ),
        (
            "{devices: [{path: /dev/x, access: r}]}",
            device("/dev/x"),
            NEAR + "its access is r, and rw is requested",
        ),
        (
            "{mounts: [/srv]}",
            mount("/srv", "/in", "rw"),
            NEAR + "it allows only reading (access: ro)",
        ),
        (
            "{mounts: [/srv]}",
            mount("/srv/a", "/in", "rw", why="it contains both ro and rw"),
            NEAR + "it contains both ro and rw",
        ),
        (
            "{mounts: [{source: /srv, destination: /d*}]}",
            mount("/srv"),
            NEAR + "its destination is /d*",
        ),
        (
            "{mounts: [/srv]}",
            mount("/srv", "/etc/passwd"),
            NEAR + "it does not allow a destination at /etc/passwd",
        ),
        (
            "{mounts: [/srv]}",
            mount("/srv", "/in", "a", "b", "c", "d", "e", "ro"),
            NEAR + "it does not allow the options 'a', 'b', 'c' and 2 more",
        ),
        (
            "{mounts: [{source: /srv, type: ext4}]}",
            mount("/srv"),
            NEAR + "it is for type ext4, and the type is 'bind'",
        ),
        (
            "{scheduling_policy: [SCHED_RR]}",
            Item("scheduling_policy", "", "", ("SCHED_RR",), Scheduling(-1, 0)),
            NEAR + "its min_nice is 0, and -1 is requested",
        ),
        (
            "{scheduling_policy: [{policy: SCHED_RR, max_priority: 5}]}",
            Item("scheduling_policy", "", "", ("SCHED_RR",), Scheduling(0, 9)),
            NEAR + "its max_priority is 5, and 9 is requested",
        ),
        (
            "{io_priority: [{class: IOPRIO_CLASS_BE, priority: 4}]}",
            Item("io_priority", "", "", ("IOPRIO_CLASS_BE",), 2),
            NEAR + "its priority is 4, and 2, a higher one, is requested",
        ),
        (
            "{ulimits: [{type: MEMLOCK, hard: 5}]}",
            Item("ulimits", "", "", ("RLIMIT_MEMLOCK",), 6),
            NEAR + "its hard limit is 5, and 6 is requested",
        ),
    ],
)
def test_a_rule_that_comes_near_is_told_with_what_is_in_the_way(
    entry: str, item: Item[object], reason: str
) -> None:
    decision = decide(f"rules: [{{allow: {entry}}}]", item)
    assert (decision.verdict, decision.rule) == ("deny", None)
    assert decision.reason == f"no rule of policy.yaml allows it{reason}"


def test_what_is_asked_for_must_lie_within_what_is_allowed_and_not_touch_what_is_denied() -> None:
    readable = "{devices: [{path: /dev/x, access: r}]}"
    assert decide(f"rules: [{{allow: {readable}}}]", device("/dev/x")).verdict == "deny"
    both = f"rules: [{{name: stop, deny: {readable}}}, {{allow: {{devices: [/dev/x]}}}}]"
    assert decide(both, device("/dev/x")).rule == "stop"
    assert decide(both, device("/dev/x", access="w")).verdict == "allow"


def test_a_denied_mount_stops_what_has_it_inside_and_what_lies_in_it() -> None:
    text = "rules: [{name: stop, deny: {mounts: [/home/*/.ssh]}}, {allow: {mounts: [/]}}]"
    for source in ("/", "/home", "/home/bob", "/home/bob/.ssh", "/home/bob/.ssh/id"):
        assert decide(text, mount(source, "/in", "ro")).rule == "stop"
    for source in ("/srv", "/home/bob/.config", "/homes"):
        assert decide(text, mount(source, "/in", "ro")).verdict == "allow"


def test_a_denied_destination_is_also_what_covers_it_and_what_lies_in_it() -> None:
    text = (
        "rules: [{name: stop, deny: {mounts: [{source: /**, destination: /run/secrets}]}},"
        " {allow: {mounts: [/srv]}}]"
    )
    for destination in ("/run/secrets", "/run/secrets/token", "/run"):
        assert decide(text, mount("/srv", destination, "ro")).rule == "stop"
    assert decide(text, mount("/srv", "/run/other", "ro")).verdict == "allow"


def test_a_rule_for_a_file_system_without_a_source_is_not_for_paths() -> None:
    tmpfs = Item("mounts", "", "", ("tmpfs",), mount("x").facts._replace(type="tmpfs"))
    disk = Item("mounts", "", "", ("/dev/sda",), mount("x").facts._replace(type="tmpfs"))
    text = "rules: [{allow: {mounts: [{type: tmpfs}]}}]"
    assert (decide(text, tmpfs).verdict, decide(text, disk).verdict) == ("allow", "deny")
    both = f"rules: [{{name: stop, deny: {{mounts: [{{type: tmpfs}}]}}}}, {text[8:]}"
    assert {decide(both, item).rule for item in (tmpfs, disk)} == {"stop"}


def test_a_rule_by_number_is_for_these_numbers() -> None:
    text = "rules: [{allow: {devices: [{type: c, major: 10}]}}]"
    assert decide(text, device(minor=7)).verdict == "allow"
    assert decide(text, device(major=11)).verdict == "deny"
    assert decide(text, device(kind="b")).verdict == "deny"


def test_every_minor_number_touches_what_denies_one_of_them() -> None:
    every = device(major=1, minor=-1)
    for denied in ("/dev/mem", "{type: c, major: 1, minor: 1}", "{path: /dev/mem, major: 1}"):
        text = (
            f"rules: [{{name: stop, deny: {{devices: [{denied}]}}}},"
            " {allow: {devices: [{type: c, major: 1}]}}]"
        )
        assert decide(text, every).rule == "stop"
    elsewhere = (
        "rules: [{deny: {devices: [{type: c, major: 2, minor: 1}]}},"
        " {allow: {devices: [{type: c, major: 1}]}}]"
    )
    assert decide(elsewhere, every).verdict == "allow"


@pytest.mark.parametrize(
    ("removed", "entry", "allowed"),
    [
        ("/data", "/data", True),
        ("/data", "/**", True),
        ("/data/x", "/data", False),
        ("net.core.x", "net.*", True),
        ("/proc", "/proc", True),
        ("/proc", "/**", False),
        ("/proc/acpi", "/p*/**", False),
        ("/sys/fs/cgroup", "/sys/**", True),
        ("/dev/shm", "/*/shm", False),
        ("/var/run/secrets/kubernetes.io/serviceaccount", "/var/**", False),
        ("/run/secrets/x", "/run/secrets/*", True),
        ("/processes", "/p*", True),
    ],
)
def test_a_removal_of_what_protects_must_be_named(removed: str, entry: str, allowed: bool) -> None:
    item = named("removals", removed, "removal of mount at")
    decision = decide(f"rules: [{{allow: {{removals: ['{entry}']}}}}]", item)
    assert (decision.verdict == "allow") is allowed
    denying = (
        f"rules: [{{deny: {{removals: ['{entry}']}}}}, {{allow: {{removals: ['{removed}']}}}}]"
    )
    matches = allowed or "does not allow removals at" in decision.reason
    assert (decide(denying, item).rule == "#1") is matches


# --- who ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("{}", True),
        ("{namespaces: [ci]}", True),
        ("{namespaces: [lab, c*]}", True),
        ("{namespaces: [c]}", False),
        ("{namespaces: [lab]}", False),
        ("{runtime_handlers: [runc]}", True),
        ("{runtime_handlers: [kata*]}", False),
        ("{containers: [main]}", True),
        ("{containers: [ma]}", False),
        ("{plugins: ['10-*']}", True),
        ("{plugins: ['20-*']}", False),
        ("{pods: {matchLabels: {app: web}}}", True),
        ("{pods: {matchLabels: {app: db}}}", False),
        ("{namespaces: [ci], containers: [other]}", False),
        ("{namespaces: [lab], containers: [main]}", False),
    ],
)
def test_all_that_is_given_of_who_must_hold(who: str, expected: bool) -> None:
    decision = decide(
        f"rules: [{{who: {who}, allow: {{hooks: [a]}}}}]", named("hooks", "a", "hook")
    )
    assert (decision.verdict == "allow") is expected


# --- the index ----------------------------------------------------------------------------------

WORDS = ["a", "ab", "abc", "b", "*", "a*", "?b", "a[bc]", "**"]
some_rules = st.lists(
    st.tuples(
        st.sampled_from(["allow", "deny"]),
        st.sampled_from([["ci"], ["c*"], ["lab"], ["*", "ci"], ["lab", "c?"], []]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    ),
    max_size=12,
)


def _is_in(rule: Rule, namespace: str) -> bool:
    listed = rule.who.namespaces
    return listed is None or any(pattern.matches(namespace) for pattern in listed)


def searched(policy: Policy, item: Item[object]) -> str | None:
    """Return the name of the rule that decides, found by going through all of them."""
    for rule in policy.rules:
        for entry in rule.what["hooks"]:
            speaks = _is_in(rule, SUBJECT.namespace) and rule.who.includes(SUBJECT)
            if speaks and entry.pattern is not None and entry.pattern.matches(item.names[0]):
                return rule.name
    return None


@given(some_rules)
def test_the_index_finds_what_going_through_all_rules_finds(
    listed: list[tuple[str, list[str], list[str]]],
) -> None:
    rules: list[Value] = [
        {
            **({"who": {"namespaces": [*namespaces]}} if namespaces else {}),
            effect: {"hooks": [*patterns]},
        }
        for effect, namespaces, patterns in listed
    ]
    policy = document.checked({"rules": rules}, "policy")
    for letters in product("abc", repeat=2):
        for name in ("a", "".join(letters), "abc"):
            item = named("hooks", name, "hook")
            candidates = policy.local(SUBJECT.namespace).candidates(item)
            decision = policy.decide(SUBJECT, item, candidates)
            assert decision.rule == searched(policy, item)

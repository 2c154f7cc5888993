"""What a policy's text may be, and each fault's sentence."""

from __future__ import annotations

import pytest

from nri_inject.errors import ConfigError
from nri_inject.policy import document
from nri_inject.policy.device_entries import DeviceEntry
from nri_inject.policy.kinds import READERS
from nri_inject.policy.who import Who
from nri_inject.text.glob import pattern

WHAT = ", ".join(READERS)


def faults(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        document.read(text, "policy.yaml")
    return str(caught.value).removeprefix("policy.yaml: ")


def test_a_policy_is_read_whole() -> None:
    policy = document.read(
        """
        mode: warn
        on_deny: skip
        rules:
          - name: serial
            who: {namespaces: [iot-*], pods: {matchLabels: {app: zigbee}}, runtime_handlers: [''x],
                  containers: [main], plugins: ['10-*']}
            allow: {devices: [/dev/ttyUSB*, {path: /dev/sda, type: b, access: r}]}
          - deny: {mounts: [/etc]}
        """.replace("''x", "kata"),
        "policy.yaml",
    )
    assert (policy.mode, policy.on_deny, policy.origin) == ("warn", "skip", "policy.yaml")
    first, second = policy.rules
    assert (first.name, first.effect) == ("serial", "allow")
    assert [entry.pattern.text for entry in first.what["devices"] if entry.pattern] == [
        "/dev/ttyUSB*",
        "/dev/sda",
    ]
    disk = DeviceEntry(pattern("/dev/sda"), type="b", access=frozenset("r"))
    assert first.what["devices"][1] == disk
    assert (second.name, second.effect, second.who) == ("#2", "deny", Who())


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "{}", "rules: []", "---\n"])
def test_an_empty_policy_has_no_rules(text: str) -> None:
    policy = document.read(text, "policy.yaml")
    assert (policy.rules, policy.mode, policy.on_deny) == ((), "enforce", "fail")


RULE = "rule 1: "


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "a list is not a map with mode, on_deny, profiles, rules"),
        ("unrestricted", "'unrestricted' is not a map with mode, on_deny, profiles, rules"),
        ("{", "line 2, column 1: did not find expected node content while parsing a flow node"),
        (
            "rules: []\n---\nrules: []",
            "line 2, column 1: a second document begins here; only one is allowed",
        ),
        ("rules: []\nrules: []", "line 2, column 1: duplicate key 'rules'"),
        ("modes: warn", "unknown key 'modes'; did you mean 'mode'?"),
        ("mode: warning", "mode: 'warning' must be one of enforce, warn; did you mean 'warn'?"),
        ("mode: off", "mode: false is a boolean, not text; put the value in quotes"),
        ("on_deny: allow", "on_deny: 'allow' must be one of fail, skip"),
        ("rules: {}", "rules: a map is not a list of rules"),
        (
            "rules: [a]",
            "rules: rule 1: 'a' is not a map with name, who, allow, deny, give, required",
        ),
        ("rules: [{}]", "rules: rule 1: one of allow, deny, give is required"),
        ("rules: [{name: x}]", "rules: rule 1: one of allow, deny, give is required"),
        (
            "rules: [{allow: {sysctl: [a]}, deny: {sysctl: [b]}}]",
            "rules: rule 1: both allow and deny",
        ),
        ("rules: [{allow: {}}]", f"rules: rule 1: allow: at least one of {WHAT} is required"),
        ("rules: [{allow: []}]", f"rules: rule 1: allow: a list is not a map with {WHAT}"),
        (
            "rules: [{allow: {devices: []}}]",
            (
                "rules: rule 1: allow: devices: an empty list matches nothing;"
                " omit the key to match everything"
            ),
        ),
        (
            "rules: [{who: {namespaces: []}, allow: {sysctl: [a]}}]",
            (
                "rules: rule 1: who: namespaces: an empty list matches nothing;"
                " omit the key to match everything"
            ),
        ),
        (
            "rules: [{who: {namespace: [a]}, allow: {sysctl: [a]}}]",
            "rules: rule 1: who: unknown key 'namespace'; did you mean 'namespaces'?",
        ),
        (
            "rules: [{allow: {device: [/dev/x]}}]",
            "rules: rule 1: allow: unknown key 'device'; did you mean 'devices'?",
        ),
        (
            "rules: [{allow: {devices: [dev/x, /dev/../x, /dev//x, /dev/x/.]}}]",
            "; ".join(
                f"rules: rule 1: allow: devices: item {number}: {path!r}"
                " is not an absolute path without '.', '..' and doubled slashes"
                for number, path in enumerate(["dev/x", "/dev/../x", "/dev//x", "/dev/x/."], 1)
            ),
        ),
        (
            "rules: [{allow: {devices: [{type: c}, {path: /dev/x, minor: 3}, {}]}}]",
            (
                "rules: rule 1: allow: devices: item 1: path, device, or type and major"
                " are missing;"
                " rules: rule 1: allow: devices: item 2: minor needs major;"
                " rules: rule 1: allow: devices: item 3: path is missing"
            ),
        ),
        (
            "rules: [{allow: {devices: [{path: /dev/x, access: rwx}]}}]",
            (
                "rules: rule 1: allow: devices: item 1: access:"
                " 'rwx' must be some of the letters r, w and m"
            ),
        ),
        (
            "rules: [{allow: {devices: [{type: c, major: 4096}]}}]",
            "rules: rule 1: allow: devices: item 1: major: 4096 is not between 0 and 4095",
        ),
        (
            "rules: [{allow: {mounts: [{access: rw}]}}]",
            (
                "rules: rule 1: allow: mounts: item 1:"
                " source is missing; only a mount with a type that needs no source may omit it"
            ),
        ),
        (
            "rules: [{allow: {mounts: [{type: bind}]}}]",
            (
                "rules: rule 1: allow: mounts: item 1:"
                " source is missing; only a mount with a type that needs no source may omit it"
            ),
        ),
        (
            "rules: [{allow: {ulimits: [MEMLOK]}}]",
            (
                "rules: rule 1: allow: ulimits: item 1: 'MEMLOK' must be one of AS, CORE, CPU,"
                " DATA, FSIZE, LOCKS, MEMLOCK, MSGQUEUE, NICE, NOFILE, NPROC, RSS, RTPRIO, RTTIME,"
                " SIGPENDING, STACK; did you mean 'MEMLOCK'?"
            ),
        ),
        (
            "rules: [{allow: {fields: [OomScore]}}]",
            (
                "rules: rule 1: allow: fields: item 1:"
                " 'OomScore' is not a field of NRI; did you mean 'OomScoreAdj'?"
            ),
        ),
        (
            "rules: [{allow: {scheduling_policy: [SCHED_*]}}]",
            (
                "rules: rule 1: allow: scheduling_policy: item 1: 'SCHED_*' must be one of"
                " SCHED_NONE, SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO,"
                " SCHED_IDLE, SCHED_DEADLINE"
            ),
        ),
        (
            "rules: [{allow: {hooks: ['[']}}]",
            "rules: rule 1: allow: hooks: item 1: '[': a '[' has no ']'",
        ),
        (
            'rules: [{name: "a\\nb", allow: {hooks: [a]}}]',
            r"rules: rule 1: name: 'a\nb' contains a control character",
        ),
        (
            "mode: x\nrules: [{}, {allow: {x: [1]}}]",
            (
                "mode: 'x' must be one of enforce, warn; rules: rule 1: one of allow, deny, give is"
                f" required; rules: rule 2: allow: unknown key 'x'; known: {WHAT}"
            ),
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, sentence: str) -> None:
    assert faults(text) == sentence


# A value that somebody deleted must not widen a rule.
def test_rules_that_are_all_comments_are_none() -> None:
    assert document.read("rules:\n#- {}\n", "policy.yaml").rules == ()


WHOLE = {
    "mode": "{mode: }",
    "on_deny": "{on_deny: }",
    "name": "{rules: [{name: , allow: {hooks: [a]}}]}",
    "who": "{rules: [{who: , allow: {hooks: [a]}}]}",
    "namespaces": "{rules: [{who: {namespaces: }, allow: {hooks: [a]}}]}",
    "pods": "{rules: [{who: {pods: }, allow: {hooks: [a]}}]}",
    "runtime_handlers": "{rules: [{who: {runtime_handlers: }, allow: {hooks: [a]}}]}",
    "containers": "{rules: [{who: {containers: }, allow: {hooks: [a]}}]}",
    "plugins": "{rules: [{who: {plugins: }, allow: {hooks: [a]}}]}",
    "matchLabels": "{rules: [{who: {pods: {matchLabels: }}, allow: {hooks: [a]}}]}",
    "matchExpressions": "{rules: [{who: {pods: {matchExpressions: }}, allow: {hooks: [a]}}]}",
    "allow": "{rules: [{allow: }]}",
    "deny": "{rules: [{deny: }]}",
    **{kind: f"{{rules: [{{allow: {{{kind}: }}}}]}}" for kind in READERS},
    "path": "{rules: [{allow: {devices: [{path: , type: c, major: 1}]}}]}",
    "type": "{rules: [{allow: {devices: [{path: /dev/x, type: }]}}]}",
    "major": "{rules: [{allow: {devices: [{path: /dev/x, major: }]}}]}",
    "minor": "{rules: [{allow: {devices: [{path: /dev/x, major: 1, minor: }]}}]}",
    "access": "{rules: [{allow: {devices: [{path: /dev/x, access: }]}}]}",
    "source": "{rules: [{allow: {mounts: [{source: , type: tmpfs}]}}]}",
    "destination": "{rules: [{allow: {mounts: [{source: /x, destination: }]}}]}",
    "options": "{rules: [{allow: {mounts: [{source: /x, options: }]}}]}",
    "hard": "{rules: [{allow: {ulimits: [{type: NOFILE, hard: }]}}]}",
    "min_nice": "{rules: [{allow: {scheduling_policy: [{policy: SCHED_RR, min_nice: }]}}]}",
    "max_priority": "{rules: [{allow: {scheduling_policy: [{policy: SCHED_RR, max_priority: }]}}]}",
    "priority": "{rules: [{allow: {io_priority: [{class: IOPRIO_CLASS_BE, priority: }]}}]}",
}


@pytest.mark.parametrize("key", WHOLE)
def test_a_key_without_a_value_is_a_fault(key: str) -> None:
    assert faults(WHOLE[key]).endswith(f"{key}: null where a value is expected")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("item", ["null", "[]", "{}", "''", "true", '"a\\nb"'])
def test_an_item_that_says_nothing_is_a_fault_in_every_kind(kind: str, item: str) -> None:
    assert faults(f"rules: [{{allow: {{{kind}: [{item}]}}}}]").startswith(
        f"rules: rule 1: allow: {kind}: item 1: "
    )


@pytest.mark.slow
def test_a_policy_has_10_000_rules_at_most() -> None:
    rules = "\n".join(["- deny: {hooks: [a]}"] * 10_001)
    assert faults(f"rules:\n{rules}") == "rules: 10001 rules, at most 10000 allowed"

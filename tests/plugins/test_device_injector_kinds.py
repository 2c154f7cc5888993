"""Mounts, network devices, sysctls, policies, limits: those that can be, and those that cannot."""

import pytest
from support.annotating import faults, pod_wide

from nri_inject import api

# --- mounts -------------------------------------------------------------------------------------


def test_a_mount_need_not_be_a_bind_mount() -> None:
    (mount,) = pod_wide("mounts", "[{destination: /t, type: tmpfs, source: tmpfs}]").mounts
    assert mount == api.Mount(destination="/t", type="tmpfs", source="tmpfs")


def test_one_mount_written_in_two_ways_is_one_mount() -> None:
    assert len(pod_wide("mounts", "[{destination: /a}, {destination: /a/}]").mounts) == 1


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("source: /a", "destination is missing"),
        ("destination: a", "destination: 'a' is not an absolute path"),
        ("destination: /./, type: tmpfs", "destination: '/./' is the root directory"),
        (
            "destination: /a, type: overlay, options: ['lowerdir=/x y:/z']",
            ("options: item 1: 'lowerdir=/x y:/z' contains white space; an option must not"),
        ),
        ("destination: /a/../b", "destination: '/a/../b' contains '..'"),
        ("destination: /a, type: bind", "source is missing; a bind mount must have one"),
        ("destination: /a, options: [ro, rbind]", "source is missing; a bind mount must have one"),
        (
            "destination: /a, source: a, options: [bind]",
            "source: 'a' is not an absolute path",
        ),
        ("destination: /a, options: [a, ~]", "options: item 2: null where text is expected"),
        ("destination: /a, options: ['']", "options: item 1: an option is empty"),
        (
            "destination: /a, type: tmpfs, options: ['size=1m,mode=755']",
            (
                "options: item 1: 'size=1m,mode=755' contains a comma;"
                " list each option as a separate item"
            ),
        ),
        (
            "destination: /a, options: ['a\\b']",
            "options: item 1: 'a\\\\b' contains a quote or a backslash; an option must not",
        ),
        (
            "destination: /a, options: [true]",
            "options: item 1: true is a boolean, not text; put the value in quotes",
        ),
        ('destination: /a, source: "/\\0"', "source: '/\\x00' contains a control character"),
    ],
)
def test_a_mount_that_cannot_be(item: str, fault: str) -> None:
    assert faults("mounts", f"- {{{item}}}") == [f"item 1: {fault}"]


def test_two_mounts_at_one_place_are_an_error() -> None:
    text = "[{destination: /a}, {destination: /a/, options: [ro]}]"
    assert faults("mounts", text) == ["'/a' is requested twice with different values"]


# --- network devices ----------------------------------------------------------------------------


def test_one_network_device_asked_for_twice_is_one() -> None:
    text = "[{hostIf: e0, name: n0}, {hostIf: e0, name: n0}]"
    assert pod_wide("network-devices", text).linux.net_devices["e0"].name == "n0"


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("hostIf: ''", "hostIf: '' must have 1 to 15 bytes"),
        ("hostIf: -e0", "hostIf: '-e0' begins with '-', which NRI reads as a removal"),
        ("hostIf: e0, name: 0123456789abcdef", None),
        ("hostIf: e0, name: a/b", "name: 'a/b' is not a name that a network interface can have"),
        ("hostIf: e0, name: 'a:b'", "name: 'a:b' is not a name that a network interface can have"),
        ("hostIf: e0, name: a b", "name: 'a b' is not a name that a network interface can have"),
        ("hostIf: ..", "hostIf: '..' is not a name that a network interface can have"),
    ],
)
def test_an_interface_has_a_name_that_linux_allows(item: str, fault: str | None) -> None:
    expected = fault or "name: '0123456789abcdef' must have 1 to 15 bytes"
    assert faults("network-devices", f"- {{{item}}}") == [f"item 1: {expected}"]


@pytest.mark.parametrize("other", ["{hostIf: e1, name: n0}", "{hostIf: n0}"])
def test_two_interfaces_cannot_have_one_name_in_the_container(other: str) -> None:
    (fault,) = faults("network-devices", f"[{{hostIf: e0, name: n0}}, {other}]")
    assert fault.startswith("'e0' and ")
    assert fault.endswith(" would both be 'n0' in the container")


# --- sysctl -------------------------------------------------------------------------------------


def test_sysctl_values_may_be_numbers_tabs_and_empty() -> None:
    text = 'a.b: 256\nc/d: "1\\t2"\ne: ""\nf: 010\n'
    assert pod_wide("sysctl", text).linux.sysctl == {"a.b": "256", "c/d": "1\t2", "e": "", "f": "8"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("'': a", "'' is not a name that a sysctl can have"),
        ("a..b: c", "'a..b' is not a name that a sysctl can have"),
        ("a b: c", "'a b' is not a name that a sysctl can have"),
        ("é: c", "'é' is not a name that a sysctl can have"),
        ("a:", "a: null where text is expected; write '' for empty text"),
        ('a: "1\\n2"', "a: '1\\n2' contains a control character"),
        ("a: 1.10", "a: 1.1 is a fraction, not text; put the value in quotes"),
        ("a: [1]", "a: a list is not text"),
    ],
)
def test_a_sysctl_that_cannot_be(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


# --- policies and priorities --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("scheduling-policy", "{policy: SCHED_RR, nice: 20}", "nice: 20 is not between -20 and 19"),
        (
            "scheduling-policy",
            "{policy: SCHED_RR, priority: 100}",
            "priority: 100 is not between 0 and 99",
        ),
        (
            "scheduling-policy",
            "{policy: SCHED_DEADLINE, period: 1.5}",
            "period: 1.5 is not an integer",
        ),
        (
            "io-priority",
            "{class: IOPRIO_CLASS_BE, priority: 8}",
            "priority: 8 is not between 0 and 7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: 3-1}",
            "nodes: '3-1' is not a list of nodes such as 0-3,7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: all}",
            "nodes: 'all' is not a list of nodes such as 0-3,7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: '1,'}",
            "nodes: '1,' is not a list of nodes such as 0-3,7",
        ),
    ],
)
def test_a_policy_that_cannot_be(kind: str, text: str, fault: str) -> None:
    assert faults(kind, text) == [fault]


def test_a_policy_whose_number_is_zero_is_still_sent() -> None:
    assert pod_wide("scheduling-policy", "policy: SCHED_NONE").linux.HasField("scheduler")
    assert pod_wide("io-priority", "class: IOPRIO_CLASS_NONE").linux.HasField("io_priority")
    assert pod_wide("memory-policy", "mode: MPOL_DEFAULT").linux.HasField("memory_policy")


# --- ulimits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["locks", "RLIMIT_MSGQUEUE", "Rlimit_SigPending", "RTTIME"])
def test_a_limit_is_known_in_any_letter_case_with_or_without_rlimit(name: str) -> None:
    (limit,) = pod_wide("ulimits", f"[{{type: {name}, hard: 2, soft: 1}}]").rlimits
    assert limit == api.POSIXRlimit(
        type=f"RLIMIT_{name.upper().removeprefix('RLIMIT_')}", hard=2, soft=1
    )


def test_unlimited_is_the_greatest_number() -> None:
    (limit,) = pod_wide("ulimits", "[{type: core, hard: 18446744073709551615}]").rlimits
    assert limit.hard == 2**64 - 1


@pytest.mark.parametrize("value", ["unlimited", "Unlimited", "infinity", "'-1'"])
def test_unlimited_as_a_word_says_how_to_write_it(value: str) -> None:
    assert faults("ulimits", f"[{{type: core, hard: {value}}}]") == [
        (
            f"item 1: hard: {value if value == repr('-1') else repr(value)} is not a limit; "
            "write 18446744073709551615 for unlimited"
        )
    ]


@pytest.mark.parametrize("name", ["r\u00df", "n\u0131ce", "\ufb06ack"])
def test_the_type_of_a_limit_is_in_ascii(name: str) -> None:
    (fault,) = faults("ulimits", f"[{{type: {name}, hard: 1}}]")
    assert fault.startswith(f"item 1: type: '{name}' must be one of RLIMIT_AS, ")


def test_equal_limits_become_one() -> None:
    assert (
        len(pod_wide("ulimits", "[{type: core, hard: 0}, {type: RLIMIT_CORE, hard: 0x0}]").rlimits)
        == 1
    )

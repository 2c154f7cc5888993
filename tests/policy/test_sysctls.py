"""The names of sysctls: one way of writing each, and what else a name sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.policy import sysctls
from nri_inject.policy.kinds import READERS
from nri_inject.text.fields import Fault
from nri_inject.text.glob import pattern


@pytest.mark.parametrize(
    ("denied", "asked"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"),
        ("net.ipv4.ip_forward", "net.ipv4.conf.default.forwarding"),
        ("net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding"),
        ("net.ipv4.ip_forward", "net.ipv4.conf.eth0.100.forwarding"),
        ("net.ipv4.conf.all.forwarding", "net.ipv4.ip_forward"),
        ("net.ipv4.conf.eth0.forwarding", "net.ipv4.ip_forward"),
        ("net.ipv4.conf.eth0.forwarding", "net.ipv4.conf.all.forwarding"),
        ("net.ipv4.conf.eth*.forwarding", "net.ipv4.conf.default.forwarding"),
        ("net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.forwarding"),
        ("net.ipv6.conf.eth0.forwarding", "net.ipv6.conf.all.forwarding"),
        ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.lo.rp_filter"),
        ("net.ipv4.conf.[a-e]*.rp_*", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv?.conf.eth0.rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net.*.eth0.rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.neigh.eth0.base_reachable_time", "net.ipv4.neigh.eth0.base_reachable_time_ms"),
        ("net.ipv6.neigh.eth0.retrans_time_ms", "net.ipv6.neigh.default.retrans_time"),
        ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max"),
        ("net.ipv4.route.gc_min_interval", "net.ipv4.route.gc_min_interval_ms"),
    ],
)
def test_a_deny_touches_every_name_of_the_same_setting(denied: str, asked: str) -> None:
    assert sysctls.touches(pattern(denied), asked)


@pytest.mark.parametrize(
    ("denied", "asked"),
    [
        ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        ("net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.eth1.rp_filter"),
        ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.all.accept_local"),
        ("net.ipv4.neigh.default.gc_thresh1", "net.ipv4.neigh.default.gc_thresh2"),
        ("net.ipv4.confused.all.x", "net.ipv4.conf.all.x"),
        ("net.ipv4.conf.x", "net.ipv4.conf.all.x"),
    ],
)
def test_a_deny_touches_no_other_setting(denied: str, asked: str) -> None:
    assert not sysctls.touches(pattern(denied), asked)


def test_a_rules_sysctl_is_written_with_dots() -> None:
    with pytest.raises(
        Fault, match="'net/ipv4/ip_forward' contains a slash; write the name with dots"
    ):
        READERS["sysctl"]("net/ipv4/ip_forward")


def test_a_name_of_any_length_and_depth_is_read_to_its_end() -> None:
    name = "net.ipv4.conf.all" + ".all" * 2000
    assert not sysctls.touches(pattern("net.ipv4.conf.eth0.x"), name)
    assert sysctls.setting_of("net.ipv4.conf.all." + "x" * 300).families == ()


WORDS = st.text(alphabet="ab.", min_size=1, max_size=3)


@given(st.text(alphabet="ab.*?", min_size=1, max_size=6), WORDS, WORDS)
def test_a_pattern_meets_a_family_if_it_stands_for_a_member_of_it(
    text: str, head: str, tail: str
) -> None:
    """What is between the two ends need not be longer than the pattern."""
    if "**" in text.rstrip("*") or text.endswith("***"):
        return
    wanted = pattern(text)
    found = wanted.meets(head, tail)
    between = ["".join(part) for part in _all_of("ab.", min(4, len(text)))]
    stands = any(wanted.matches(f"{head}{part}{tail}") for part in between)
    assert found or not stands
    if found and len(text) <= 4:
        assert stands


def _all_of(letters: str, length: int) -> list[str]:
    texts = [""]
    for _ in range(length):
        texts += [text + letter for text in texts for letter in letters]
    return texts

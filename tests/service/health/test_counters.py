"""Counts for metrics: what is counted, within which bounds, and that workers share it."""

from __future__ import annotations

import mmap

import pytest

from nri_inject import api
from nri_inject.policy.naming import named
from nri_inject.policy.rules import Decision, Verdict
from nri_inject.service.health import counters
from nri_inject.service.health.counters import BUCKETS, INJECTED_KINDS, Counters, Denied
from nri_inject.service.health.life import Life
from nri_inject.service.health.notes import Notes


def fresh() -> Counters:
    return Counters(mmap.mmap(-1, mmap.PAGESIZE))


def test_an_answer_is_in_the_bucket_of_the_next_bound() -> None:
    one = fresh()
    for seconds in (0.0, 0.00025, 0.0003, 0.002, 2.0, 2.1):
        one.observe(seconds)
    counts, total = one.histogram()
    by_bound = dict(zip([*BUCKETS, "more"], counts, strict=True))
    assert {bound: count for bound, count in by_bound.items() if count} == {
        0.00025: 2,
        0.0005: 1,
        0.0025: 1,
        2.0: 1,
        "more": 1,
    }
    assert total == pytest.approx(4.10255)


def test_things_are_counted_by_the_kinds_of_a_policy() -> None:
    adjustment = api.Adjustment(
        annotations={"served.noderesource.dev/a": "c"},
        env=[api.KeyValue(key="A"), api.KeyValue(key="B")],
        mounts=[api.Mount()],
        hooks=api.Hooks(prestart=[api.Hook(), api.Hook()], poststop=[api.Hook()]),
        CDI_devices=[api.CDIDevice(name="a.com/b=c")],
        rlimits=[api.POSIXRlimit(type="RLIMIT_CORE")],
        args=["sh", "-c"],
    )
    adjustment.linux.devices.add(path="/dev/fuse")
    adjustment.linux.sysctl["net.ipv4.ip_forward"] = "1"
    adjustment.linux.io_priority.priority = 3
    one = fresh()
    one.add_injected(adjustment)
    assert {kind: one[kind] for kind in INJECTED_KINDS if one[kind]} == {
        "devices": 1,
        "cdi_devices": 1,
        "mounts": 1,
        "env": 2,
        "hooks": 3,
        "sysctl": 1,
        "io_priority": 1,
        "ulimits": 1,
        "other": 2,
    }


def decision(verdict: Verdict, rule: str | None, kind: str = "devices") -> Decision:
    return Decision(named(kind, "/dev/x", ""), verdict, rule)


def test_decisions_are_counted_by_verdict_kind_and_rule() -> None:
    one = fresh()
    one.add_decisions([decision("allow", "usb"), decision("deny", None), decision("deny", None)])
    one.add_decisions([decision("skip", "no disks"), decision("warn", "2", "mounts")])
    assert one.denials == {
        Denied("deny", "devices", ""): 2,
        Denied("skip", "devices", "no disks"): 1,
        Denied("warn", "mounts", "2"): 1,
    }


def test_the_number_of_counts_is_bounded_whatever_rules_are_called() -> None:
    one = fresh()
    for number in range(10_000):
        one.add_decisions([decision("deny", f"rule {number} {'x' * 1000}")])
    assert len(one.denials) == counters.MAX_DENIALS + 1
    assert one.denials[Denied("deny", "devices", "(others)")] == 10_000 - counters.MAX_DENIALS
    assert max(len(denied.rule) for denied in one.denials) == counters.MAX_RULE


def test_the_next_worker_goes_on_counting() -> None:
    life = Life(notes=Notes())
    before = life.state("20", "tested").counters
    before.add("connections", 3)
    before.observe(0.001)
    before.add_decisions([decision("deny", 'say "no"')])
    assert life.notes is not None
    life.notes.inherit()
    after = life.state("20", "tested").counters
    assert after["connections"] == 3
    assert sum(after.histogram()[0]) == 1
    assert after.denials == {Denied("deny", "devices", 'say "no"'): 1}

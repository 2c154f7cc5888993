"""The text of the metrics, read by Prometheus' own parser, and their table in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nri_inject.policy.naming import named
from nri_inject.policy.rules import Decision
from nri_inject.policy.source import Standing
from nri_inject.service.health.life import Life
from nri_inject.service.health.metrics import METRICS, exposition
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import Missed, State, document
from nri_inject.version import VERSION

PAGE = Path(__file__).parents[3] / "docs" / "watch.md"


def samples(state: State, phase: str = "synchronized") -> dict[str, float]:
    """Return the samples of the text, by name and labels as they are in it."""
    text = exposition(document(state, phase, launched=False), state)
    return {
        f"{one.name}{{{','.join(f'{k}={v}' for k, v in one.labels.items())}}}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.fixture
def state() -> State:
    return Life(notes=Notes(), started=17.5).state("20", "tested")


def test_a_plugin_that_has_just_started(state: State) -> None:
    said = samples(state, "disconnected")
    assert said[f"nri_inject_build_info{{plugin=20-tested,version={VERSION}}}"] == 1
    assert said["process_start_time_seconds{}"] == 17.5
    assert said["nri_inject_ready{}"] == 0
    assert {name: value for name, value in said.items() if value} == {
        name: said[name]
        for name in (
            f"nri_inject_build_info{{plugin=20-tested,version={VERSION}}}",
            "process_start_time_seconds{}",
        )
    }
    assert not any(name.startswith("nri_inject_policy") for name in said)


def test_a_plugin_with_a_past(state: State) -> None:
    state.asked, state.changed, state.failed, state.denied, state.late = 20, 9, 5, 3, 2
    state.counters.add("unchanged", 4)
    state.counters.add("connections", 3)
    state.counters.add("devices", 12)
    state.counters.observe(0.0004)
    state.counters.observe(0.004)
    state.restarts |= {"stopped": 2}
    state.missed.add("c1", Missed("ns/web", "main", ("device /dev/fuse",)))
    state.drifted.add("c2", Missed("ns/web", "main", ("device /dev/fuse",)))
    state.failures, state.upgrades, state.uncompared = 1, 2, 6
    state.policy = Standing("/etc/policy.yaml", "before", 0.0, "it has a fault")
    state.policy_generation = 4
    state.files_in_error = {"config": 0, "policy": 1, "cdi": 2}
    said = samples(state)
    name = "nri_inject_requests_total"
    assert {key: value for key, value in said.items() if key.startswith(name)} == {
        f"{name}{{result=injected}}": 9,
        f"{name}{{result=unchanged}}": 4,
        f"{name}{{result=denied}}": 3,
        f"{name}{{result=failed}}": 2,
        f"{name}{{result=late}}": 2,
    }
    name = "nri_inject_request_duration_seconds"
    found = {key.removeprefix(name): value for key, value in said.items() if key.startswith(name)}
    assert found == {
        "_bucket{le=0.00025}": 0, "_bucket{le=0.0005}": 1, "_bucket{le=0.001}": 1,
        "_bucket{le=0.0025}": 1, "_bucket{le=0.005}": 2, "_bucket{le=0.01}": 2,
        "_bucket{le=0.025}": 2, "_bucket{le=0.05}": 2, "_bucket{le=0.1}": 2,
        "_bucket{le=0.25}": 2, "_bucket{le=0.5}": 2, "_bucket{le=1}": 2, "_bucket{le=2}": 2,
        "_bucket{le=+Inf}": 2, "_sum{}": pytest.approx(0.0044), "_count{}": 2,
    }  # fmt: skip
    for text, value in {
        "ready{}": 0,
        "synchronized{}": 1,
        "injections_total{kind=devices}": 12,
        "injections_total{kind=env}": 0,
        "missed_containers{}": 1,
        "drifted_containers{}": 1,
        "uncompared_containers{}": 6,
        "restarts_total{outcome=stopped}": 2,
        "reconnects_total{}": 2,
        "worker_failures_total{}": 1,
        "upgrades_total{}": 2,
        "files_in_error{kind=config}": 0,
        "files_in_error{kind=policy}": 1,
        "files_in_error{kind=cdi}": 2,
        "policy_generation{}": 4,
    }.items():
        assert said[f"nri_inject_{text}"] == value, text
    assert said["nri_inject_policy_age_seconds{}"] > 1e9
    assert not any("waiting" in name for name in said)


def test_a_rule_may_have_any_name(state: State) -> None:
    name = 'a "b" \\n c\\\nd ü }'
    state.counters.add_decisions([Decision(named("mounts", "/x", ""), "deny", name)])
    said = samples(state)
    assert said[f"nri_inject_denials_total{{verdict=deny,kind=mounts,rule={name}}}"] == 1


def test_the_text_has_each_metric_once_and_in_order(state: State) -> None:
    text = exposition(document(state, "synchronized", launched=False), state)
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert types == [(metric.name, metric.type) for metric in METRICS]
    assert re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE) == [
        (metric.name, metric.help) for metric in METRICS
    ]


def test_the_page_has_the_table_of_all_metrics() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `(nri|proc)", line)]
    assert rows == [
        f"| `{one.name}{labels}` | {one.type} | {one.help.removesuffix('.')} |"
        for one in METRICS
        for labels in [f"{{{', '.join(one.labels)}}}" if one.labels else ""]
    ]

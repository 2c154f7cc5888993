"""Metrics for Prometheus: the state of a plugin as text, in the exposition format 0.0.4.

docs/watch.md has the table of METRICS. A label's value is never the text of a pod's author.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from nri_inject.service.health.counters import BUCKETS, INJECTED_KINDS
from nri_inject.service.health.http_server import Page
from nri_inject.service.health.state import State, StatusDocument

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels: TypeAlias = tuple[str, ...]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


class Metric(NamedTuple):
    """A metric; `samples` are by the values of its labels."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels
    samples: Callable[[StatusDocument, State], Samples]


def _one(
    value: Callable[[StatusDocument, State], float | None],
) -> Callable[[StatusDocument, State], Samples]:
    """Return the samples of a metric without labels; None stands for no sample."""

    def samples(said: StatusDocument, state: State) -> Samples:
        number = value(said, state)
        return () if number is None else (((), number),)

    return samples


def _requests(said: StatusDocument, state: State) -> Samples:
    counts = said["containers"]
    yield ("injected",), counts["changed"]
    yield ("unchanged",), state.counters["unchanged"]
    yield ("denied",), counts["denied"]
    yield ("failed",), counts["failed"] - counts["denied"]
    yield ("late",), counts["late"]


def _durations(_: StatusDocument, state: State) -> Samples:
    counts, total = state.counters.histogram()
    seen = 0
    for bound, count in zip((*map(_number, BUCKETS), "+Inf"), counts, strict=True):
        seen += count
        yield ("bucket", bound), seen
    yield ("sum",), total
    yield ("count",), seen


METRICS: Final = (
    Metric(
        "nri_inject_build_info",
        "gauge",
        "1, with the plugin's index and name and the version of nri-inject.",
        ("plugin", "version"),
        lambda said, _: [((said["plugin"], said["version"]), 1)],
    ),
    Metric(
        "process_start_time_seconds",
        "gauge",
        "When the plugin started, in seconds since 1970. An upgrade or a new worker does not change"
        " it.",
        (),
        _one(lambda _, state: state.started),
    ),
    Metric(
        "nri_inject_ready",
        "gauge",
        "1 while /readyz answers with status 200.",
        (),
        _one(lambda said, _: said["ready"]),
    ),
    Metric(
        "nri_inject_synchronized",
        "gauge",
        "1 while the plugin is registered with a runtime and synchronized.",
        (),
        _one(lambda said, _: said["phase"] == "synchronized"),
    ),
    Metric(
        "nri_inject_requests_total",
        "counter",
        "Requests of the runtime to create a container, by result: injected, unchanged, denied by"
        " the policy, failed for another reason, or answered too late.",
        ("result",),
        _requests,
    ),
    Metric(
        "nri_inject_request_duration_seconds",
        "histogram",
        "Time from reading a request to create a container until its answer is sent.",
        (),
        _durations,
    ),
    Metric(
        "nri_inject_injections_total",
        "counter",
        "Things that containers got, by kind; the kinds are called as in a policy, and env.",
        ("kind",),
        lambda _, state: [((kind,), state.counters[kind]) for kind in INJECTED_KINDS],
    ),
    Metric(
        "nri_inject_denials_total",
        "counter",
        "Requested things that the policy denied (deny), left out (skip) or would have denied"
        " (warn), by kind and by the rule's name; the rule is empty if no rule allows the thing.",
        ("verdict", "kind", "rule"),
        lambda _, state: state.counters.denials.items(),
    ),
    Metric(
        "nri_inject_missed_containers",
        "gauge",
        "Running containers that were created without the plugin and lack what they request.",
        (),
        _one(lambda said, _: said["missed"]["count"]),
    ),
    Metric(
        "nri_inject_drifted_containers",
        "gauge",
        "Running containers that were served and would get something else now.",
        (),
        _one(lambda said, _: said["drifted"]["count"]),
    ),
    Metric(
        "nri_inject_stale_containers",
        "gauge",
        "Running containers with a device that is gone or has another number.",
        (),
        _one(lambda said, _: said["stale"]["count"]),
    ),
    Metric(
        "nri_inject_uncompared_containers",
        "gauge",
        "Running containers that were not compared, so they may lack something.",
        (),
        _one(lambda said, _: said["uncompared"]),
    ),
    Metric(
        "nri_inject_restarts_total",
        "counter",
        "Missed and stale containers that were stopped for a restart, or why not: failed, excluded,"
        " over_budget, repeated, useless (a restart would no longer help), left_out (too many"
        " waited).",
        ("outcome",),
        lambda said, _: [((k,), n) for k, n in said["restarts"].items() if k != "waiting"],
    ),
    Metric(
        "nri_inject_reconnects_total",
        "counter",
        "Registrations with a runtime after the first one.",
        (),
        _one(lambda _, state: max(state.counters["connections"] - 1, 0)),
    ),
    Metric(
        "nri_inject_worker_failures_total",
        "counter",
        "Workers that died or hung, and were replaced.",
        (),
        _one(lambda said, _: said["worker"]["failures"]),
    ),
    Metric(
        "nri_inject_upgrades_total",
        "counter",
        "Upgrades in place, including those that failed.",
        (),
        _one(lambda said, _: said["upgrades"] and said["upgrades"]["count"]),
    ),
    Metric(
        "nri_inject_files_in_error",
        "gauge",
        "Files and directories whose newest version is not in use, by kind: config, policy, cdi,"
        " hooks.",
        ("kind",),
        lambda _, state: [((kind,), count) for kind, count in state.files_in_error.items()],
    ),
    Metric(
        "nri_inject_policy_generation",
        "gauge",
        "How many versions of the policy file have been in force since the plugin started.",
        (),
        _one(lambda said, state: state.policy_generation if said["policy"] else None),
    ),
    Metric(
        "nri_inject_policy_age_seconds",
        "gauge",
        "Age of the version of the policy file that is in force.",
        (),
        _one(lambda said, _: said["policy"] and said["policy"]["age"]),
    ),
)
"""All metrics, in the order of the text."""


def exposition(said: StatusDocument, state: State) -> str:
    """Return the metrics of a plugin with this document and this state."""
    return "".join(f"{line}\n" for metric in METRICS for line in _lines(metric, said, state))


def page(said: StatusDocument, state: State) -> Page:
    """Return the page of the metrics."""
    return Page(200, exposition(said, state), CONTENT_TYPE)


def _lines(metric: Metric, said: StatusDocument, state: State) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.type}"
    for values, number in metric.samples(said, state):
        name, labels = metric.name, metric.labels
        if metric.type == "histogram":
            name, labels, values = f"{name}_{values[0]}", ("le",), values[1:]
        pairs = ",".join(f'{k}="{_escaped(v)}"' for k, v in zip(labels, values, strict=False))
        yield f"{name}{f'{{{pairs}}}' if pairs else ''} {_number(number)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    r"""Write a label's value: `\`, `"` and the line feed have a backslash in front."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

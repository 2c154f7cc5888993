"""What the figures must come to, each held against one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from latency import DEVICES, SUITE
from measure import Measure
from process import EARLY, LATE, REQUESTS


@dataclass(frozen=True)
class Target:
    """The most that a peer's ratio to its neighbour may be, or a figure of its own."""

    measure: str
    peer: str
    figure: str
    most: float
    is_ratio: bool = True


TARGETS: Final = (
    Target("suite: all asked, in new words", SUITE, "p50", 0.20),
    Target("devices: 3 devices, in new words", DEVICES, "own", 0.9),
    Target("devices: no annotation", DEVICES, "own", 0.45),
    Target("hooks: 1 of 20, 21, 1,000", "hook-injector (ours) 21", "p50", 0.10),
    Target("policy: 1, 100, 1,000 rules", "suite (ours), rules: 1,000", "own", 1.3),
    Target("giving: 1, 1,000 rules", "suite (ours), giving rules: 1,000", "own", 1.3),
    Target("CDI load 8 GPUs, JSON", "registry (ours)", "p50", 2.5),
    Target("CDI load 8 GPUs, YAML", "registry (ours)", "p50", 2.5),
    Target("CDI load 10,000, JSON", "registry (ours)", "p50", 1.0),
    Target("CDI load 10,000, YAML", "registry (ours)", "p50", 3.0),
    Target(f"memory: after {REQUESTS:,}", SUITE, "rss", 0.95),
    Target(f"memory: after {REQUESTS:,}", DEVICES, "rss", 1.55),
    Target("launch until synchronized", DEVICES, "p50", 12),
    Target("Synchronize: 2,000 pods", DEVICES, "p50", 1.0),
    Target(f"growth: {EARLY:,} to {LATE:,}", SUITE, "grown", 1024, is_ratio=False),
)


def report(measures: Sequence[Measure]) -> Iterable[str]:
    """Yield a line for each target: what is allowed, what was measured, and whether it is met."""
    by_title = {measure.title: measure for measure in measures}
    yield f"{'target':30}{'peer':29}{'figure':>12}{'at most':>9}  measured"
    for target in TARGETS:
        measure = by_title.get(target.measure)
        if measure is not None:
            head = f"{target.measure:30}{target.peer:29}{target.figure:>12}{target.most:>9}"
            yield f"{head}  {_outcome(measure, target)}"


def _outcome(measure: Measure, target: Target) -> str:
    if not target.is_ratio:
        value = measure.median(target.peer, target.figure)
        if value is None:
            return "not measured"
        return f"{value:.2f}, {_verdict(value, target)}"
    ratio = measure.ratio(target.peer, target.figure)
    if ratio is None:
        return "not measured"
    return f"{ratio} to {measure.against[target.peer]}, {_verdict(ratio.median, target)}"


def _verdict(value: float, target: Target) -> str:
    return "met" if value <= target.most else "not met"

"""What was measured: figures of peers by round, ratios to a neighbour, and the table of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

Figures: TypeAlias = dict[str, float]

COLUMNS: Final = {
    "p50": "p50 µs",
    "p90": "p90 µs",
    "p99": "p99 µs",
    "own": "own µs",
    "rss": "RSS kB",
    "grown": "grown kB",
}
"""Figure -> head of its column."""

RATIOS: Final = ("p50", "p99", "own", "rss")


class Ratio(NamedTuple):
    """The median of some rounds' ratios, and their spread."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        """Write the spread in brackets."""
        return f"{self.median:.2f} [{self.least:.2f}-{self.greatest:.2f}]"


@dataclass
class Measure:
    """The figures of each peer in each round, who is held against whom, and who is missing."""

    title: str
    against: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, figures: Figures) -> None:
        """Note what a peer did in one more round."""
        self.rounds.setdefault(peer, []).append(figures)

    def median(self, peer: str, figure: str) -> float | None:
        """Return the median of a peer's rounds; None if this is not measured."""
        values = [one[figure] for one in self.rounds.get(peer, ()) if figure in one]
        return statistics.median(values) if values else None

    def ratio(self, peer: str, figure: str) -> Ratio | None:
        """Return the rounds' ratios to the neighbour; None if there are none."""
        pairs = [
            (ours[figure], theirs[figure])
            for ours, theirs in zip(
                self.rounds.get(peer, ()),
                self.rounds.get(self.against.get(peer, ""), ()),
                strict=False,
            )
            if figure in ours and figure in theirs
        ]
        # A cost of its own that drowns in the floor's noise divides nothing.
        if not pairs or any(theirs <= 0 for _, theirs in pairs):
            return None
        ratios = [ours / theirs for ours, theirs in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def table(measures: Iterable[Measure]) -> Iterable[str]:
    """Yield the lines of the table, each with the ratios to its neighbour where it has one."""
    heads = "".join(f"{head:>10}" for head in COLUMNS.values())
    ratios = "".join(f"{figure + ' ratio':>20}" for figure in RATIOS)
    yield f"{'measure':30}{'peer':29}{heads}{ratios}  to; what it gives"
    for measure in measures:
        for peer in measure.rounds:
            yield _line(measure, peer).rstrip()
        for peer, why in measure.missing.items():
            yield f"{measure.title:30}{peer:29}not measured: {why}"


def _line(measure: Measure, peer: str) -> str:
    figures = "".join(_figure(measure.median(peer, figure)) for figure in COLUMNS)
    ratios = [measure.ratio(peer, figure) for figure in RATIOS]
    shown = "".join(f"{ratio or '':>20}" for ratio in map(_text, ratios))
    to = measure.against.get(peer, "") if any(ratios) else ""
    gives = measure.gives.get(peer, "")
    return f"{measure.title:30}{peer:29}{figures}{shown}  {to}{gives and f'; {gives}'}"


def _figure(value: float | None) -> str:
    return f"{'-' if value is None else round(value):>10}"


def _text(ratio: Ratio | None) -> str:
    return "" if ratio is None else str(ratio)


def as_json(measures: Iterable[Measure]) -> str:
    """Return all rounds of all peers, and the ratios, as JSON."""
    return json.dumps([_as_json(measure) for measure in measures], indent=2)


def _as_json(measure: Measure) -> dict[str, object]:
    return {
        "measure": measure.title,
        "rounds": measure.rounds,
        "gives": measure.gives,
        "ratios": {
            peer: {"to": to} | {figure: measure.ratio(peer, figure) for figure in RATIOS}
            for peer, to in measure.against.items()
            if to in measure.rounds
        },
        "missing": dict(measure.missing),
    }

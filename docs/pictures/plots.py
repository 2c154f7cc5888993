"""Draw the figures of the benchmarks: `python docs/pictures/plots.py FILE` writes three plots.

FILE is what `benchmarks/compare.py --json` writes; `make bench` runs both. The bars of one measure
have one scale. A bar is the median of the rounds, and the line through its end goes from the least
to the greatest round.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from drawing import STYLE, document

HERE = Path(__file__).parent
WIDTH, BAR, ROW, HEAD, MARGIN = 760, 16, 24, 34, 10
LEFT, RIGHT = 226, 620  # where bars begin, and where the longest round ends
LOOKS = (
    "rect{stroke:none;rx:2}.ours{fill:#4f46e5}.theirs{fill:#9ca3af}"
    ".spread{stroke:#1f2937;marker-end:none}"
    "@media (prefers-color-scheme:dark){.ours{fill:#818cf8}.theirs{fill:#6b7280}"
    ".spread{stroke:#e5e7eb}}"
)


@dataclass(frozen=True)
class Plot:
    """A picture of one figure in some measures; `scale` is its unit in those of the benchmark."""

    label: str
    figure: str
    unit: str
    scale: float
    measures: Sequence[str]


PLOTS = {
    "wait": Plot(
        "How long a container waits, beside the cost of the runtime and the kernel (floor)",
        *("p50", "µs", 1),
        (
            "devices: no annotation",
            "devices: 2 devices, a mount",
            "suite: nothing asked",
            "suite: all asked, in new words",
        ),
    ),
    "memory": Plot(
        "Resident memory; what parent and worker share counts twice",
        *("rss", "MB", 1000),
        ("memory: idle", "memory: after 10,000"),
    ),
    "cdi": Plot(
        "How long the CDI specs of a node take to load",
        *("p50", "ms", 1000),
        (
            "CDI load 8 GPUs, JSON",
            "CDI load 8 GPUs, YAML",
            "CDI load 1,000, JSON",
            "CDI load 1,000, YAML",
            "CDI load 10,000, JSON",
        ),
    ),
}


def picture(plot: Plot, measures: Sequence[dict[str, Any]]) -> str:
    """Return the plot of what has been measured; a peer that is missing has no bar."""
    known = {measure["measure"]: measure["rounds"] for measure in measures}
    parts = [f'<text class="name" x="{MARGIN}" y="26">{escape(plot.label)}</text>']
    top = HEAD + MARGIN
    for title in plot.measures:
        if title in known:
            parts += group(plot, title, known[title], top)
            top += HEAD + ROW * len(known[title])
    label = f"{plot.label}: the figures are in the tables of the page"
    return document(WIDTH, top, label, parts, style=STYLE + LOOKS)


def group(
    plot: Plot, title: str, rounds: dict[str, list[dict[str, float]]], top: int
) -> Iterator[str]:
    """Yield the bars of one measure."""
    yield f'<text class="words" x="{MARGIN}" y="{top + 16}">{escape(title)}</text>'
    values = {
        peer: [one[plot.figure] / plot.scale for one in all_] for peer, all_ in rounds.items()
    }
    longest = max(max(one) for one in values.values())
    for number, (peer, one) in enumerate(values.items()):
        yield from bar(
            peer, one, top + HEAD - 8 + ROW * number, (RIGHT - LEFT) / longest, plot.unit
        )


def bar(peer: str, values: Sequence[float], top: int, scale: float, unit: str) -> Iterator[str]:
    """Yield a bar with its name, its spread and its figure."""
    middle, median = top + BAR / 2, statistics.median(values)
    look = "ours" if "ours" in peer or "our " in peer else "theirs"
    least, most = (LEFT + one * scale for one in (min(values), max(values)))
    yield f'<text class="words" x="{MARGIN + 12}" y="{top + 13}">{escape(peer)}</text>'
    yield f'<rect class="{look}" x="{LEFT}" y="{top}" width="{median * scale:.0f}" height="{BAR}"/>'
    yield f'<path class="spread" d="M{least:.0f} {middle:.0f}H{most:.0f}"/>'
    shown = f"{median:,.1f}" if median < 10 else f"{median:,.0f}"
    yield f'<text class="words" x="{most + 8:.0f}" y="{top + 13}">{shown} {unit}</text>'


if __name__ == "__main__":
    measured = json.loads(Path(sys.argv[1]).read_text())
    for name, plot in PLOTS.items():
        (HERE / f"{name}.svg").write_text(picture(plot, measured))

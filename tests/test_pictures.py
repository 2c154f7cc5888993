"""The drawings of the documentation are current."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[1] / "docs/pictures"


@pytest.mark.parametrize(
    "name",
    [
        *("away", "connection", "policy", "request", "rooms", "stale", "trust"),
        pytest.param("recording", marks=pytest.mark.slow),
    ],
)
def test_a_drawing_is_what_its_script_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PICTURES)
    drawn = runpy.run_path(str(PICTURES / f"{name}.py"))["picture"]()
    assert (PICTURES / f"{name}.svg").read_text() == drawn


MEASURED = [
    {
        "measure": "memory: idle",
        "rounds": {
            "suite (ours)": [{"rss": 10_000}, {"rss": 40_000}, {"rss": 20_000}],
            "Go plugin": [{"rss": 5_000}],
        },
    }
]


def test_a_plot_has_the_median_and_the_spread_of_each_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PICTURES)
    plots = runpy.run_path(str(PICTURES / "plots.py"))
    drawn = plots["picture"](plots["PLOTS"]["memory"], MEASURED)
    bars = re.findall(r'<rect class="(\w+)" x="(\d+)" y="\d+" width="(\d+)"', drawn)
    assert bars == [("ours", "226", "197"), ("theirs", "226", "49")]
    assert re.findall(r'"spread" d="M(\d+) \d+H(\d+)"', drawn) == [("324", "620"), ("275", "275")]
    assert re.findall(r">([\d.,]+ MB)<", drawn) == ["20 MB", "5.0 MB"]
    assert "memory: after 10,000" not in drawn

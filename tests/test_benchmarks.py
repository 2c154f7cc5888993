"""The benchmarks run without Go, and say what their figures are held against."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from measure import Measure, Ratio, table

ROOT = Path(__file__).parent.parent


def measure_of(ours: list[float], theirs: list[float]) -> Measure:
    measure = Measure("what", against={"ours": "theirs"}, missing={"other": "there is none"})
    for figure in ours:
        measure.add("ours", {"p50": figure})
    for figure in theirs:
        measure.add("theirs", {"p50": figure})
    return measure


def test_a_ratio_is_taken_round_by_round() -> None:
    measure = measure_of([10, 30, 20], [20, 20, 20])
    assert measure.median("ours", "p50") == 20
    assert measure.ratio("ours", "p50") == Ratio(1.0, 0.5, 1.5)


def test_nothing_is_divided_by_nothing() -> None:
    assert measure_of([10, 30], [20, 0]).ratio("ours", "p50") is None
    assert measure_of([10], []).ratio("ours", "p50") is None
    assert measure_of([10], [20]).ratio("ours", "own") is None


def test_the_table_names_the_neighbour_and_who_is_missing() -> None:
    _, ours, theirs, other = table([measure_of([10, 30, 20], [20, 20, 20])])
    assert "1.00 [0.50-1.50]" in ours
    assert ours.endswith("  theirs")
    assert "[" not in theirs
    assert other.endswith("not measured: there is none")


@pytest.mark.slow
def test_plugins_are_measured_without_go(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks/compare.py"), "--without-go"]
    options = ["--rounds", "1", "--only", "devices", "--json", str(out)]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "Go device-injector           not measured: without Go" in ran.stdout
    nothing, annotated, devices = json.loads(out.read_text())
    assert nothing["gives"]["device-injector (ours)"] == "nothing"
    assert annotated["gives"]["device-injector (ours)"] == "2 devices, 1 mounts"
    assert devices["gives"]["device-injector (ours)"] == "3 devices"
    assert annotated["rounds"]["device-injector (ours)"][0]["p50"] > 0

"""What the chart has for those who watch: alerts and a dashboard with metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from manifests.render import CHART

from nri_inject.service.health.metrics import METRICS

LABELS = {metric.name: {*metric.labels} for metric in METRICS}
OF_THE_SCRAPE = {"node", "le"}
USED = re.compile(
    r"(?P<name>nri_inject_\w+?)(?:_(?:bucket|sum|count))?(?:\{(?P<labels>[^}]*)\})?(?!\w)"
)


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    found: list[dict[str, Any]] = dashboard["panels"]
    return found


def expressions() -> Iterator[str]:
    yield from (alert["expr"] for alert in alerts())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


@pytest.mark.parametrize("expression", [*expressions()])
def test_each_metric_and_each_label_exists(expression: str) -> None:
    used = [*USED.finditer(expression)]
    assert used
    for match in used:
        assert match["name"] in LABELS, expression
        labels = {*re.findall(r"(\w+)=", match["labels"] or "")}
        assert labels <= LABELS[match["name"]] | OF_THE_SCRAPE, expression
    known = {label for match in used for label in LABELS[match["name"]]} | OF_THE_SCRAPE
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {*grouped.split(", ")} <= known, expression


def test_each_alert_says_where_and_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert "$labels.node" in alert["annotations"]["summary"]
        assert alert["annotations"]["description"]


def test_the_panels_of_the_dashboard_fill_a_grid_without_overlaps() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own

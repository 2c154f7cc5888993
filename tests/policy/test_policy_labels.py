"""Label selectors mean what they mean to Kubernetes."""

from __future__ import annotations

import pytest

from nri_inject.policy.labels import read_selector
from nri_inject.text.fields import Fault
from nri_inject.text.yamltext import Value

LABELS = {"app": "web", "tier": "front", "empty": ""}


def expression(key: str, operator: str, *values: str) -> Value:
    listed: dict[str, Value] = {"values": [*values]} if values else {}
    return {"matchExpressions": [{"key": key, "operator": operator, **listed}]}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {}}, True),
        ({"matchExpressions": []}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "front"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchLabels": {"app": "Web"}}, False),
        ({"matchLabels": {"App": "web"}}, False),
        ({"matchLabels": {"none": "web"}}, False),
        ({"matchLabels": {"empty": ""}}, True),
        ({"matchLabels": {"none": ""}}, False),
        ({"matchLabels": {"app": "w*"}}, False),
        (expression("app", "In", "db", "web"), True),
        (expression("app", "In", "db"), False),
        (expression("none", "In", "web"), False),
        (expression("app", "NotIn", "db"), True),
        (expression("app", "NotIn", "db", "web"), False),
        (expression("none", "NotIn", "web"), True),
        (expression("app", "Exists"), True),
        (expression("empty", "Exists"), True),
        (expression("none", "Exists"), False),
        (expression("app", "DoesNotExist"), False),
        (expression("none", "DoesNotExist"), True),
        ({"matchLabels": {"app": "web"}, **expression("tier", "In", "back")}, False),  # type: ignore[dict-item]  # a map
        ({"matchLabels": {"app": "web"}, **expression("tier", "In", "front")}, True),  # type: ignore[dict-item]  # a map
    ],
)
def test_who_is_selected(selector: Value, selected: bool) -> None:
    assert read_selector(selector).matches(LABELS) is selected


@pytest.mark.parametrize(
    ("selector", "sentences"),
    [
        (None, ["null where a map with matchLabels, matchExpressions is expected"]),
        ("app=web", ["'app=web' is not a map with matchLabels, matchExpressions"]),
        ({"app": "web"}, ["unknown key 'app'; known: matchLabels, matchExpressions"]),
        ({"matchLabels": None}, ["matchLabels: null where a value is expected"]),
        ({"matchLabels": ["app"]}, ["matchLabels: a list is not a map of label to value"]),
        ({"matchLabels": {"app": None}}, ["matchLabels: app: null where text is expected"]),
        (
            {"matchLabels": {"app": True}},
            ["matchLabels: app: true is a boolean, not text; put the value in quotes"],
        ),
        ({"matchExpressions": None}, ["matchExpressions: null where a value is expected"]),
        (
            {"matchExpressions": [{"key": "a"}]},
            ["matchExpressions: item 1: operator is missing"],
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": None}]},
            ["matchExpressions: item 1: values: null where a value is expected"],
        ),
        (
            expression("a", "In"),
            ["matchExpressions: item 1: operator In must have values"],
        ),
        (
            expression("a", "Exists", "b"),
            ["matchExpressions: item 1: operator Exists has no values"],
        ),
        (
            expression("a", "in", "b"),
            [
                (
                    "matchExpressions: item 1: operator: 'in' must be one of"
                    " In, NotIn, Exists, DoesNotExist; did you mean 'In'?"
                )
            ],
        ),
        (
            expression("a", "Gt", "1"),
            [
                (
                    "matchExpressions: item 1: operator: 'Gt' must be one of"
                    " In, NotIn, Exists, DoesNotExist"
                )
            ],
        ),
    ],
)
def test_what_is_no_selector_is_told(selector: Value, sentences: list[str]) -> None:
    with pytest.raises(Fault) as caught:
        read_selector(selector)
    assert [*caught.value.sentences] == sentences

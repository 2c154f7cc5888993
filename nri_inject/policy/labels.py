"""Label selectors in Kubernetes' own form: matchLabels and matchExpressions.

The meaning is that of LabelSelector in the API of Kubernetes (meta/v1, 1.34): everything that is
listed must hold, and an empty selector selects every pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    Findings,
    list_of,
    map_of,
    one_of,
    read_line,
    wrong_type,
)
from nri_inject.text.yamltext import Value


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; `values` is empty for Exists and DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it; one that is missing is not in any set."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
        return value is None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that must all hold."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a pod with these labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)


_WITH_VALUES: Final = frozenset({"In", "NotIn"})


def read_selector(value: Value) -> LabelSelector:
    """Read a selector; Fault with all that is wrong."""
    given = _SELECTOR(value)
    equal = [Requirement(key, "In", (text,)) for key, text in given.get("matchLabels", ())]
    return LabelSelector((*equal, *given.get("matchExpressions", ())))


def _labels(value: Value) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        raise wrong_type(value, "a map of label to value")
    found = Findings(MAX_FAULTS)
    labels = [(key, found.read(key, read_line, item)) for key, item in value.items()]
    found.check()
    return labels  # type: ignore[return-value]  # None stands where there was a fault


_EXPRESSION: Final = map_of(
    (
        Field("key", read_line, required=True),
        Field("operator", one_of("In", "NotIn", "Exists", "DoesNotExist"), required=True),
        Field("values", list_of(read_line)),
    ),
    strict=True,
)


def _requirement(value: Value) -> Requirement:
    given = _EXPRESSION(value)
    operator, values = given["operator"], tuple(given.get("values", ()))
    if (operator in _WITH_VALUES) != bool(values):
        must = "must have values" if operator in _WITH_VALUES else "has no values"
        raise Fault(f"operator {operator} {must}")
    return Requirement(given["key"], operator, values)


_SELECTOR: Final = map_of(
    (Field("matchLabels", _labels), Field("matchExpressions", list_of(_requirement))), strict=True
)

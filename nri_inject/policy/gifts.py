"""What rules give without a request, and the rules that give something to one container. Pure.

A rule is found by one thing that it asks of its containers, so that a policy of many giving rules
is as fast as one of a single rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from nri_inject.policy.who import Subject, Who, image_names
from nri_inject.text.glob import Pattern, Stems
from nri_inject.text.yamltext import Value

KINDS: Final = (
    *("devices", "cdi_devices", "mounts", "ulimits", "sysctl", "network_devices"),
    *("scheduling_policy", "io_priority", "memory_policy", "hooks", "env"),
)
"""What can be given, in the order of giving."""

PROFILES: Final = "profiles"
"""The word for sets of gifts that have a name, beside KINDS."""

SYSTEM_NAMESPACE: Final = "kube-system"
"""The namespace that only a rule with this very name gives something to."""


@dataclass(frozen=True, slots=True, eq=False)
class Gift:
    """One thing that a rule gives.

    `words` name it in sentences. `value` is the parsed request, which the injector of the kind
    understands. `lends` are the paths of the host that it lets containers write, and `profiles`
    those that it is a part of, the outermost first.
    """

    kind: str
    words: str
    value: object
    lends: tuple[Pattern, ...] = ()
    profiles: tuple[str, ...] = ()


ReadGifts: TypeAlias = Callable[[str, Value], Sequence[Gift]]
"""Reads the value of one of KINDS, in the words of its annotation; raises Fault."""


class Giver(Protocol):
    """A rule that gives; `who` are its containers."""

    @property
    def who(self) -> Who:
        """The containers that get it."""


R = TypeVar("R", bound=Giver)


class _OrderedRule(NamedTuple, Generic[R]):
    order: int
    rule: R


class _Near(Generic[R]):
    """The giving rules of the same namespaces, each by one thing that it asks for."""

    def __init__(self, rules: Iterable[_OrderedRule[R]]) -> None:
        self._others: list[_OrderedRule[R]] = []
        self._by_label: dict[tuple[str, str], list[_OrderedRule[R]]] = {}
        by_text: dict[str, list[tuple[Pattern, _OrderedRule[R]]]] = {}
        for one in rules:
            who = one.rule.who
            labels = [*_labels(who)]
            patterns = {"container": who.containers, "pod": who.pod_names, "image": who.images}
            of, listed = next(((of, p) for of, p in patterns.items() if p), ("", ()))
            for label in labels:
                self._by_label.setdefault(label, []).append(one)
            if not labels and not listed:
                self._others.append(one)
            elif not labels:
                by_text.setdefault(of, []).extend((pattern, one) for pattern in listed)
        self._by_text = {of: Stems(pairs) for of, pairs in by_text.items()}

    def of(self, subject: Subject) -> Iterator[_OrderedRule[R]]:
        """Yield the rules that may speak of a container; some may come twice."""
        yield from self._others
        if self._by_label:
            for label in subject.labels.items():
                yield from self._by_label.get(label, ())
        for of, stems in self._by_text.items():
            names = {"container": (subject.container,), "pod": (subject.pod,)}.get(of)
            yield from stems.near(image_names(subject.image) if names is None else names)


def _labels(who: Who) -> Iterator[tuple[str, str]]:
    """Yield labels of which each container of a rule has at least one, none if it asks for none."""
    for requirement in who.pods.requirements if who.pods else ():
        if requirement.operator == "In":
            yield from ((requirement.key, value) for value in requirement.values)
            return


class Givers(Generic[R]):
    """The rules of a policy that give something."""

    def __init__(self, rules: Iterable[R]) -> None:
        grouped: dict[tuple[Pattern, ...] | None, list[_OrderedRule[R]]] = {}
        for order, rule in enumerate(rules):
            grouped.setdefault(rule.who.namespaces, []).append(_OrderedRule(order, rule))
        everywhere = grouped.pop(None, None)
        self._everywhere = None if everywhere is None else _Near(everywhere)
        named = ((patterns, _Near(of_them)) for patterns, of_them in grouped.items())
        self._by_namespace = Stems(
            (pattern, (pattern, near)) for patterns, near in named for pattern in patterns or ()
        )
        self._is_empty = not grouped and everywhere is None

    def __bool__(self) -> bool:
        return not self._is_empty

    def candidates(self, subject: Subject) -> list[R]:
        """Return the rules to compare with a container, in the order of the policy."""
        found: list[_OrderedRule[R]] = []
        is_system = subject.namespace == SYSTEM_NAMESPACE
        if self._everywhere is not None and not is_system:
            found += self._everywhere.of(subject)
        for pattern, near in self._by_namespace.near([subject.namespace]):
            if pattern.matches(subject.namespace) and not (is_system and pattern.literal is None):
                found += near.of(subject)
        return [rule for _, rule in sorted({one.order: one.rule for one in found}.items())]

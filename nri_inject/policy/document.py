"""Read a policy: the text of an admin, checked as a whole, with every fault and its place.

docs/allow-a-device.md explains the keys, and editors read them in schema.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from nri_inject.errors import Faulty
from nri_inject.policy import impossible
from nri_inject.policy.kinds import READERS
from nri_inject.policy.labels import read_selector
from nri_inject.policy.rules import Effect, Entry, Policy, Rule, Who
from nri_inject.text import yamltext
from nri_inject.text.fields import (
    Fault,
    Field,
    Findings,
    Reader,
    check_count,
    choice,
    list_of,
    map_of,
    read_line,
    wrong_type,
)
from nri_inject.text.glob import Pattern
from nri_inject.text.yamltext import Value

LIMITS: Final = dataclasses.replace(yamltext.OUR_FILE, size=2 * 1024 * 1024, nodes=200_000)
"""What a policy's text may cost; one document, since nobody would read a second.

A container may have to wait while a new version is read: ten thousand rules take a second.
"""

_MAX_RULES: Final = 10_000


def read(text: str | bytes, origin: str) -> Policy:
    """Return the policy that a text is; Faulty with everything that is wrong in it.

    An empty text is an empty policy, which denies everything.
    """
    try:
        document = yamltext.load(text, LIMITS)
    except yamltext.YamlError as error:
        raise Faulty(f"{origin}: {error}") from error
    return checked({} if document is None else document, origin)


def checked(document: Value, place: str, origin: str = "") -> Policy:
    """Return the policy that a document is; Faulty with everything that is wrong in it.

    `place` begins its text, `origin` names the policy in sentences if that is not the same.
    """
    try:
        return read_rules(document, origin or place)
    except Fault as fault:
        raise Faulty(f"{place}: {'; '.join(fault.sentences)}") from fault


def read_rules(document: Value, origin: str) -> Policy:
    """Return the policy that a document is; Fault with everything that is wrong in it."""
    if isinstance(document, dict) and document.get("rules", ()) is None:
        # All rules of a new file are comments.
        document = {key: value for key, value in document.items() if key != "rules"}
    given = _POLICY(document)
    return Policy(**{**given, "rules": tuple(given.get("rules", ()))}, origin=origin)


def _patterns(check: Callable[[Pattern], None]) -> Reader[tuple[Pattern, ...]]:
    read_one = impossible.checked(check)
    return lambda value: _some(list_of(read_one)(value))


def _some(items: list[Any]) -> tuple[Any, ...]:
    if not items:
        raise Fault("an empty list matches nothing; omit the key to match everything")
    return tuple(items)


_WHO: Final = map_of(
    (
        Field("namespaces", _patterns(impossible.check_namespace)),
        Field("pods", read_selector),
        Field("runtime_handlers", _patterns(impossible.check_handler)),
        Field("containers", _patterns(impossible.check_container)),
        Field("plugins", _patterns(impossible.check_plugin)),
    ),
    strict=True,
)


def read_who(value: Value) -> Who:
    """Return the containers that a rule applies to; Fault with everything that is wrong."""
    return Who(**_WHO(value))


def _what(value: Value) -> Mapping[str, tuple[Entry[Any], ...]]:
    what: dict[str, tuple[Entry[Any], ...]] = _WHAT(value)
    if not what:
        raise Fault(f"at least one of {', '.join(READERS)} is required")
    return what


def _entries_of(kind: str) -> Field:
    read = list_of(READERS[kind])
    return Field(kind, lambda value: _some(read(value)))


_WHAT: Final = map_of([_entries_of(kind) for kind in READERS], strict=True)

_RULE: Final = map_of(
    (
        Field("name", read_line),
        Field("who", read_who),
        Field("allow", _what),
        Field("deny", _what),
    ),
    strict=True,
)


_EFFECTS: Final[tuple[Effect, ...]] = ("allow", "deny")


def _rule(number: int, value: Value) -> Rule:
    given = _RULE(value)
    effects = [effect for effect in _EFFECTS if effect in given]
    if len(effects) != 1:
        raise Fault("both allow and deny" if effects else "neither allow nor deny")
    name = given.get("name") or f"#{number}"
    return Rule(name, effects[0], given.get("who", Who()), given[effects[0]])


def _rules(value: Value) -> list[Rule]:
    if not isinstance(value, list):
        raise wrong_type(value, "a list of rules")
    check_count(len(value), "rules", _MAX_RULES)
    found = Findings()
    rules = [
        found.read(f"rule {number}", partial(_rule, number), item)
        for number, item in enumerate(value, 1)
    ]
    found.check()
    return rules  # type: ignore[return-value]  # None stands where there was a fault


_POLICY: Final = map_of(
    (
        Field("mode", choice({word: word for word in ("enforce", "warn")})),
        Field("on_deny", choice({word: word for word in ("fail", "skip")})),
        Field("rules", _rules),
    ),
    strict=True,
)

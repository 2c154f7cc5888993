"""Read a policy: the text of an admin, checked as a whole, with every fault and its place.

docs/allow-a-device.md explains the keys, and editors read them in schema.json.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from nri_inject.errors import Faulty
from nri_inject.policy import impossible
from nri_inject.policy.gifts import KINDS, PROFILES, Gift, ReadGifts
from nri_inject.policy.kinds import READERS
from nri_inject.policy.labels import read_selector
from nri_inject.policy.rules import Effect, Entry, Policy, Rule
from nri_inject.policy.who import Who
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
    read_flag,
    read_line,
    wrong_type,
)
from nri_inject.text.glob import Pattern
from nri_inject.text.words import quoted, suggestion
from nri_inject.text.yamltext import Value

LIMITS: Final = dataclasses.replace(yamltext.OUR_FILE, size=2 * 1024 * 1024, nodes=200_000)
"""What a policy's text may cost; one document, since nobody would read a second.

A container may have to wait while a new version is read: ten thousand rules take a second.
"""

_MAX_RULES: Final = 10_000


def no_gifts(_kind: str, _value: Value) -> Sequence[Gift]:
    """Refuse what a rule gives, in a program without injectors; Fault."""
    raise Fault("this program gives nothing")


def read(text: str | bytes, origin: str, read_gifts: ReadGifts = no_gifts) -> Policy:
    """Return the policy that a text is; Faulty with everything that is wrong in it.

    `read_gifts` reads what its rules give. An empty text is an empty policy, which denies
    everything.
    """
    try:
        document = yamltext.load(text, LIMITS)
    except yamltext.YamlError as error:
        raise Faulty(f"{origin}: {error}") from error
    return checked({} if document is None else document, origin, read_gifts=read_gifts)


def checked(
    document: Value, place: str, origin: str = "", read_gifts: ReadGifts = no_gifts
) -> Policy:
    """Return the policy that a document is; Faulty with everything that is wrong in it.

    `place` begins its text, `origin` names the policy in sentences if that is not the same.
    """
    try:
        return read_rules(document, origin or place, read_gifts)
    except Fault as fault:
        raise Faulty(f"{place}: {'; '.join(fault.sentences)}") from fault


def read_rules(document: Value, origin: str, read_gifts: ReadGifts = no_gifts) -> Policy:
    """Return the policy that a document is; Fault with everything that is wrong in it."""
    if isinstance(document, dict) and document.get("rules", ()) is None:
        # All rules of a new file are comments.
        document = {key: value for key, value in document.items() if key != "rules"}
    texts = document.get(PROFILES) if isinstance(document, dict) else None
    profiles = _Profiles(texts, read_gifts)
    given = _policy_reader(profiles)(document)
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
        Field("pod_names", _patterns(impossible.check_pod)),
        Field("images", _patterns(impossible.check_image)),
        Field("any_namespace", read_flag),
    ),
    strict=True,
)


def read_who(value: Value) -> Who:
    """Return the containers that a rule applies to; Fault with everything that is wrong."""
    who = Who(**_WHO(value))
    if who.any_namespace and who.namespaces is not None:
        raise Fault("namespaces and any_namespace are mutually exclusive")
    return who


def _what(value: Value) -> Mapping[str, tuple[Entry[Any], ...]]:
    what: dict[str, tuple[Entry[Any], ...]] = _WHAT(value)
    if not what:
        raise Fault(f"at least one of {', '.join(READERS)} is required")
    return what


def _entries_of(kind: str) -> Field:
    read = list_of(READERS[kind])
    return Field(kind, lambda value: _some(read(value)))


_WHAT: Final = map_of([_entries_of(kind) for kind in READERS], strict=True)

_EFFECTS: Final[tuple[Effect, ...]] = ("allow", "deny")
MAX_GIFTS: Final = 256
"""How many things one rule may give, or one profile have."""
_MAX_PROFILES: Final = 1000
_MAX_DEPTH: Final = 8
_PROFILE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def _gifts(read_gifts: ReadGifts) -> Reader[tuple[Gift, ...]]:
    """Return a reader of what a rule gives."""
    words = (*KINDS, PROFILES)
    read_kinds = map_of([Field(kind, partial(read_gifts, kind)) for kind in words], strict=True)

    def read_all(value: Value) -> tuple[Gift, ...]:
        of_kinds = read_kinds(value)
        if not of_kinds:
            raise Fault(f"at least one of {', '.join(words)} is required")
        found = tuple(gift for kind in words for gift in of_kinds.get(kind, ()))
        check_count(len(found), "things", MAX_GIFTS)
        return found

    return read_all


class _Profiles:
    """The profiles of a policy, read before its rules, which use them."""

    def __init__(self, value: Value, read_gifts: ReadGifts) -> None:
        self._texts = value if isinstance(value, dict) else {}
        self._read_gifts = read_gifts
        self._read_one = _gifts(self.gifts)
        self._open: list[str] = []
        self._known: dict[str, tuple[Gift, ...]] = {}

    def read(self, value: Value) -> Mapping[str, tuple[Gift, ...]]:
        """Return the gifts of each profile; Fault with everything that is wrong."""
        if not isinstance(value, dict):
            raise wrong_type(value, "a map of name to profile")
        check_count(len(value), "profiles", _MAX_PROFILES)
        found = Findings()
        for name in value:
            found.read(name, self._of, name)
        found.check()
        return self._known

    def gifts(self, kind: str, value: Value) -> Sequence[Gift]:
        """Read the gifts of one kind, or those of profiles by name; Fault."""
        if kind != PROFILES:
            return self._read_gifts(kind, value)
        names = _some(list_of(read_line)(value))
        return [gift for name in dict.fromkeys(names) for gift in self._of(name)]

    def _of(self, name: str) -> tuple[Gift, ...]:
        if name in self._known:
            return self._known[name]
        if not _PROFILE_NAME.fullmatch(name):
            raise Fault(f"{quoted(name)} is no name of a profile: small letters, digits, '-', '.'")
        if name not in self._texts:
            raise Fault(f"no profile {quoted(name)}; {suggestion(name, [*self._texts])}")
        if name in self._open:
            raise Fault(f"profiles use each other in a circle: {' -> '.join([*self._open, name])}")
        if len(self._open) >= _MAX_DEPTH:
            raise Fault(f"profiles use each other more than {_MAX_DEPTH} deep")
        self._open.append(name)
        try:
            gifts = self._read_one(self._texts[name])
        finally:
            self._open.pop()
        parts = (dataclasses.replace(one, profiles=(name, *one.profiles)) for one in gifts)
        return self._known.setdefault(name, tuple(parts))


def _rule_reader(read_gifts: ReadGifts) -> Callable[[int, Value], Rule]:
    read_map = map_of(
        (
            Field("name", read_line),
            Field("who", read_who),
            Field("allow", _what),
            Field("deny", _what),
            Field("give", _gifts(read_gifts)),
            Field("required", read_flag),
        ),
        strict=True,
    )

    def read_rule(number: int, value: Value) -> Rule:
        given = read_map(value)
        effects = [effect for effect in _EFFECTS if effect in given]
        name, who = given.get("name") or f"#{number}", given.get("who", Who())
        if len(effects) == 2:
            raise Fault("both allow and deny")
        if "give" not in given:
            if not effects:
                raise Fault("one of allow, deny, give is required")
            if "required" in given:
                raise Fault("required is for what a rule gives; it has no give")
            return Rule(name, effects[0], who, given[effects[0]])
        if "deny" in given:
            raise Fault("both deny and give; write two rules")
        _check_giving(who)
        return Rule(
            name, "allow", who, given.get("allow", {}), given["give"], given.get("required", False)
        )

    return read_rule


def _check_giving(who: Who) -> None:
    """Raise Fault for a rule that gives to whoever chooses a name that the rule asks for."""
    chosen = {
        "pods": who.pods,
        "pod_names": who.pod_names,
        "containers": who.containers,
        "images": who.images,
        "runtime_handlers": who.runtime_handlers,
    }
    named = [name for name, value in chosen.items() if value is not None]
    if named and who.namespaces is None and not who.any_namespace:
        raise Fault(
            f"a pod's author chooses what {' and '.join(named)} compare, so a rule that gives needs"
            " namespaces in who; write any_namespace: true to give in every namespace"
        )


def _rules(read_rule: Callable[[int, Value], Rule], value: Value) -> list[Rule]:
    if not isinstance(value, list):
        raise wrong_type(value, "a list of rules")
    check_count(len(value), "rules", _MAX_RULES)
    found = Findings()
    rules = [
        found.read(f"rule {number}", partial(read_rule, number), item)
        for number, item in enumerate(value, 1)
    ]
    found.check()
    return rules  # type: ignore[return-value]  # None stands where there was a fault


def _policy_reader(profiles: _Profiles) -> Reader[dict[str, Any]]:
    return map_of(
        (
            Field("mode", choice({word: word for word in ("enforce", "warn")})),
            Field("on_deny", choice({word: word for word in ("fail", "skip")})),
            Field("profiles", profiles.read),
            Field("rules", partial(_rules, _rule_reader(profiles.gifts))),
        ),
        strict=True,
    )

"""Rules, and the decision about one item that a container requests. Pure.

Rules are read from the top, and the first one that applies to both the container and the item
decides. So the order of a policy's lines is the order of its decisions, each decision has exactly
one reason, and an exception precedes its rule. An item without a rule is denied.

An `allow` applies to an item that lies wholly within its entry; a `deny` to one that overlaps its
entry. So a rule for reading does not allow a request to write, and a rule against a part of a
directory denies the whole of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from nri_inject.policy.gifts import Gift, Givers
from nri_inject.policy.lent import Lent
from nri_inject.policy.who import Subject, Who
from nri_inject.text.glob import Pattern, Stems

Effect: TypeAlias = Literal["allow", "deny"]
Verdict: TypeAlias = Literal["allow", "deny", "skip", "warn"]
F_contra = TypeVar("F_contra", contravariant=True)
F_co = TypeVar("F_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Item(Generic[F_co]):
    """One thing that a container requests, as it is on the host.

    `asked` is it in the container's words, `resolved` in the host's. `names` are what patterns
    are held against: every name that the host itself has for it. `facts` are held against what
    else a rule says of the kind, and `length` is that of their texts. `key` finds it in the
    adjustment. `trouble` says why no rule whatever can allow it. `suggestion` is the entry of a
    rule that would. `real` is the path without links of a mount's source, which the runtime gets
    in place of the one that was asked for.
    """

    kind: str
    key: str
    asked: str
    names: tuple[str, ...]
    facts: F_co
    resolved: str = ""
    trouble: str = ""
    suggestion: str = ""
    real: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Entry(Generic[F_contra]):
    """One thing that a rule names, by a pattern of its names; a kind can add what else must hold.

    Without a pattern the rest alone tells.
    """

    pattern: Pattern | None = None

    def within(self, item: Item[F_contra]) -> str | None:
        """Return None if an item lies in what the entry names, or else what is in the way.

        That is an empty text if the entry does not name it at all.
        """
        return None if self.names(item) else ""

    def touches(self, item: Item[F_contra]) -> bool:
        """Tell whether an item meets what the entry names."""
        return self.names(item)

    def names(self, item: Item[F_contra]) -> bool:
        """Tell whether the pattern stands for one of the item's names."""
        return self.pattern is None or any(map(self.pattern.matches, item.names))

    def lends(self) -> Iterable[Pattern]:
        """Yield the host's paths that the entry lets containers write."""
        return ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; `what` has its entries by kind. `name` is its own, or its position.

    `gifts` are what it gives to each of its containers. They are `required` if a container fails
    without them; its pod cannot refuse them.
    """

    name: str
    effect: Effect
    who: Who
    what: Mapping[str, tuple[Entry[Any], ...]]
    gifts: tuple[Gift, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an item, by which rule, and why if it is not allowed."""

    item: Item[object]
    verdict: Verdict
    rule: str | None
    reason: str = ""


class Reference(NamedTuple):
    """An entry, and the place of its rule in the order."""

    order: int
    rule: Rule
    entry: Entry[Any]


class _Index(NamedTuple):
    """The entries of one kind, of rules that speak of the same namespaces.

    Most are found by their pattern's stem, the others are gone through. That is what keeps a
    policy of many rules as fast as a short one. `allowing` has each entry of a rule that allows:
    its rule, and the directory at or below which the thing is, empty if any directory will do.
    """

    by_stem: Stems[Reference]
    others: Sequence[Reference]
    allowing: Sequence[tuple[Rule, str]]


def _indexed(kind: str, references: Iterable[Reference]) -> _Index:
    by_stem: list[tuple[Pattern, Reference]] = []
    others: list[Reference] = []
    allowing: list[tuple[Rule, str]] = []
    for reference in references:
        pattern, rule = reference.entry.pattern, reference.rule
        is_allowing = rule.effect == "allow"
        # A mount is also stopped by a rule against something inside it, access to every minor
        # number by one against a single device, and a sysctl by one against another name of it.
        by_more_than_name = kind in ("mounts", "devices", "sysctl")
        if pattern is None or (by_more_than_name and not is_allowing):
            others.append(reference)
        else:
            by_stem.append((pattern, reference))
        if is_allowing:
            allowing.append((rule, "" if pattern is None else pattern.directory))
    return _Index(Stems(by_stem), others, allowing)


_Scope: TypeAlias = Mapping[str, _Index]
"""The rules that speak of the same namespaces, by kind."""


class _Scopes(NamedTuple):
    """All rules of a policy, by the namespaces that they speak of.

    Each rule is in one scope, so the size is that of the policy, however many namespaces ask.
    """

    everywhere: Sequence[_Scope]
    by_namespace: Stems[tuple[Pattern, _Scope]]

    def of(self, namespace: str) -> list[_Scope]:
        """Return the scopes that a namespace is in, each once."""
        near = self.by_namespace.near([namespace])
        found = [*self.everywhere, *(scope for one, scope in near if one.matches(namespace))]
        return [*{id(scope): scope for scope in found}.values()]


def _scopes(rules: Iterable[Rule]) -> _Scopes:
    grouped: dict[tuple[Pattern, ...] | None, dict[str, list[Reference]]] = {}
    for order, rule in enumerate(rules):
        if not rule.what:  # it only gives
            continue
        of_kinds = grouped.setdefault(rule.who.namespaces, {})
        for kind, entries in rule.what.items():
            known = of_kinds.setdefault(kind, [])
            known += (Reference(order, rule, entry) for entry in entries)
    everywhere: list[_Scope] = []
    by_namespace: list[tuple[Pattern, tuple[Pattern, _Scope]]] = []
    for namespaces, of_kinds in grouped.items():
        scope = {kind: _indexed(kind, of_kind) for kind, of_kind in of_kinds.items()}
        if namespaces is None:
            everywhere.append(scope)
        by_namespace += ((pattern, (pattern, scope)) for pattern in namespaces or ())
    return _Scopes(everywhere, Stems(by_namespace))


class Reach(NamedTuple):
    """The directories at or below which a rule may allow something, and whether any rule allows."""

    directories: AbstractSet[str]
    allows: bool


class Local:
    """The rules of a policy that may speak of a container in one namespace."""

    def __init__(self, scopes: Sequence[_Scope]) -> None:
        self._scopes = scopes

    @property
    def lookups(self) -> int:
        """How many places `candidates` looks at, each for about the time of a comparison."""
        return len(self._scopes)

    def candidates(self, item: Item[object]) -> list[Reference]:
        """Return the entries that `Policy.decide` has to compare with an item, in rules' order."""
        found: list[Reference] = []
        for index in self._of(item.kind):
            found += index.others
            found += index.by_stem.near(item.names)
        found.sort(key=lambda reference: reference.order)
        return found

    def reach(self, kind: str, subject: Subject) -> Reach:
        """Return where something of a kind may be that some rule allows to a container."""
        directories: set[str] = set()
        for index in self._of(kind):
            last, speaks = None, False
            for rule, directory in index.allowing:
                if rule is not last:
                    last, speaks = rule, rule.who.includes(subject)
                if speaks:
                    directories.add(directory)
        return Reach(frozenset(directories - {""}), bool(directories))

    def _of(self, kind: str) -> Iterator[_Index]:
        return (scope[kind] for scope in self._scopes if kind in scope)


def _lent(rules: Sequence[Rule], profiles: Iterable[Sequence[Gift]]) -> Lent:
    entries = [e for rule in rules if rule.effect == "allow" for e in rule.what.get("mounts", ())]
    places = [place for entry in entries for place in entry.lends()]
    gifts = [one for listed in (*(rule.gifts for rule in rules), *profiles) for one in listed]
    return Lent([*places, *(place for one in gifts for place in one.lends)])


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """An admin's rules, in order.

    In `mode` warn, a request that enforce would deny passes with a warning; `on_deny` skip creates
    the container without the denied items, and fail does not create it. `origin` names the policy
    in sentences. `newer_fault` is the fault of a newer version, which is not in force. `lent` are
    the places where its rules let containers write, `givers` the rules that give something.
    `profiles` are sets of gifts by name.
    """

    rules: tuple[Rule, ...] = ()
    mode: Literal["enforce", "warn"] = "enforce"
    on_deny: Literal["fail", "skip"] = "fail"
    origin: str = "the policy"
    trouble: str = ""
    newer_fault: str = ""
    profiles: Mapping[str, tuple[Gift, ...]] = field(default_factory=dict)
    _scopes: _Scopes = field(init=False)
    lent: Lent = field(init=False)
    givers: Givers[Rule] = field(init=False)

    def __post_init__(self) -> None:
        """Index the rules, and find out where containers may write."""
        object.__setattr__(self, "_scopes", _scopes(self.rules))
        object.__setattr__(self, "lent", _lent(self.rules, self.profiles.values()))
        object.__setattr__(self, "givers", Givers(rule for rule in self.rules if rule.gifts))

    def outdated(self, newer_fault: str) -> Policy:
        """Return the same rules, with what is wrong with the version that should replace them."""
        policy: Policy = copy.copy(self)  # its index of the rules, too
        object.__setattr__(policy, "newer_fault", newer_fault)
        return policy

    def texts(self, kind: str) -> Iterable[str]:
        """Yield the names and patterns that all rules have for a kind of thing."""
        for rule in self.rules:
            for entry in rule.what.get(kind, ()):
                if entry.pattern is not None:
                    yield entry.pattern.text

    def local(self, namespace: str) -> Local:
        """Return the rules that may speak of a container in a namespace."""
        return Local(self._scopes.of(namespace))

    def steps(self, item: Item[object], candidates: int) -> int:
        """Return what deciding on an item costs, by the number of its candidates.

        A comparison takes some microseconds, and longer for long texts.
        """
        length = sum(map(len, item.names)) + item.length
        return 1 + candidates * (3 + length // 64)

    def decide(
        self, subject: Subject, item: Item[object], candidates: Iterable[Reference]
    ) -> Decision:
        """Return what becomes of an item that a container requests."""
        rule, reason = self._first(subject, item, candidates)
        if rule is not None and rule.effect == "allow":
            return Decision(item, "allow", rule.name)
        verdict: Verdict = "deny" if self.on_deny == "fail" else "skip"
        if self.mode == "warn":
            verdict = "warn"
        return Decision(item, verdict, rule.name if rule else None, reason)

    def _first(
        self, subject: Subject, item: Item[object], candidates: Iterable[Reference]
    ) -> tuple[Rule | None, str]:
        """Return the first rule that speaks of the item, and why it is not allowed."""
        if self.trouble:
            return None, self.trouble
        if item.trouble:
            return None, item.trouble
        near = ""
        for _, rule, entry in candidates:
            if not rule.who.includes(subject):
                if not near and rule.effect == "allow" and entry.within(item) is None:
                    near = f"; the nearest is rule {rule.name!r}, but {rule.who.differs(subject)}"
                continue
            if rule.effect == "deny":
                if entry.touches(item):
                    return rule, f"rule {rule.name!r} of {self.origin} denies it"
                continue
            missing = entry.within(item)
            if missing is None:
                return rule, ""
            near = near or (
                f"; the nearest is rule {rule.name!r}, but {missing}" if missing else ""
            )
        return None, f"no rule of {self.origin} allows it{near}"

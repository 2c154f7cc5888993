"""Rules, and the decision about one thing that a container asks for. Pure.

Rules are read from the top, and the first one that speaks of both the container and the thing
decides. So a policy is read the way it acts, each decision has exactly one reason, and an
exception stands above the rule that it is an exception to. What no rule speaks of is denied.

An `allow` speaks of a thing that lies wholly within what it names; a `deny` of one that touches
what it names. So a container that asks to write is not served by a rule for reading, and one that
asks for the whole of a directory is stopped by a rule against a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from nri_inject.policy.labels import LabelSelector
from nri_inject.policy.patterns import Pattern, above

Effect: TypeAlias = Literal["allow", "deny"]
Verdict: TypeAlias = Literal["allow", "deny", "skip", "warn"]


class Subject(NamedTuple):
    """The container that asks, and the plugin that asks for it.

    Namespace and handler are the cluster's word; labels and names the pod author's own.
    """

    namespace: str
    labels: Mapping[str, str]
    runtime_handler: str
    container: str
    plugin: str


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a rule speaks of; what is None speaks of all."""

    namespaces: tuple[Pattern, ...] | None = None
    pods: LabelSelector | None = None
    runtime_handlers: tuple[Pattern, ...] | None = None
    containers: tuple[Pattern, ...] | None = None
    plugins: tuple[Pattern, ...] | None = None

    def is_in(self, namespace: str) -> bool:
        """Tell whether the rule speaks of a namespace at all."""
        return _one_matches(self.namespaces, namespace)

    def includes(self, subject: Subject) -> bool:
        """Tell whether the rule speaks of a container in a namespace that `is_in` holds for."""
        return (
            _one_matches(self.runtime_handlers, subject.runtime_handler)
            and _one_matches(self.containers, subject.container)
            and _one_matches(self.plugins, subject.plugin)
            and (self.pods is None or self.pods.matches(subject.labels))
        )


def _one_matches(patterns: tuple[Pattern, ...] | None, text: str) -> bool:
    return patterns is None or any(pattern.matches(text) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a rule names: a pattern of its names, and what else must hold.

    Without a pattern the conditions alone tell.
    """

    pattern: Pattern | None
    conditions: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; `what` has its entries by kind. `name` is its own or tells its place."""

    name: str
    effect: Effect
    who: Who
    what: Mapping[str, tuple[Entry, ...]]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a container asks for, as it is on the host.

    `asked` is it in the container's words, `resolved` in the host's. `names` are what patterns
    are held against: every name that the host itself has for it. `facts` are held against the
    conditions of the kind. `key` finds it in the adjustment. `trouble` says why no rule whatever
    can allow it. `suggestion` is the entry of a rule that would. `real` is the path without links
    of a mount's source, which the runtime gets in place of the one that was asked for.
    """

    kind: str
    key: str
    asked: str
    names: tuple[str, ...]
    facts: Mapping[str, Any]
    resolved: str = ""
    trouble: str = ""
    suggestion: str = ""
    real: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an item, by which rule, and why if it is not allowed."""

    item: Item
    verdict: Verdict
    rule: str | None
    reason: str = ""


class Kind(NamedTuple):
    """How entries of one kind are held against an item; each says None, or what is in the way.

    `within` tells whether the item lies in what the entry names, `touches` whether it meets it.
    """

    within: Callable[[Entry, Item], str | None]
    touches: Callable[[Entry, Item], bool]


class Reference(NamedTuple):
    """An entry, and the place of its rule in the order."""

    order: int
    rule: Rule
    entry: Entry


class _Index(NamedTuple):
    """The entries of one kind that may concern one namespace.

    Most are found by the beginning of a name: the characters of their pattern in front of the
    first special one. `lengths` are those of all such beginnings. The others are gone through.
    That is what keeps a policy of many rules as fast as a short one. `directories` are the
    paths at or below which something may be allowed, `allows` tells whether anything is.
    """

    by_stem: Mapping[str, Sequence[Reference]]
    lengths: Sequence[int]
    others: Sequence[Reference]
    directories: AbstractSet[str]
    allows: bool

    def candidates(self, names: Iterable[str]) -> list[Reference]:
        """Return the entries that may speak of a thing with these names, in the rules' order."""
        found = [*self.others]
        for beginning in self._beginnings(names):
            found += self.by_stem.get(beginning, ())
        found.sort(key=lambda reference: reference.order)
        return found

    def _beginnings(self, names: Iterable[str]) -> Iterable[str]:
        """Return each once: what several names begin with is not to be compared several times."""
        lengths = self.lengths
        return {name[:length]: None for name in names for length in lengths if length <= len(name)}


_NO_ENTRIES: Final = _Index({}, (), (), frozenset(), allows=False)


def _indexed(kind: str, references: Iterable[Reference]) -> _Index:
    by_stem: dict[str, list[Reference]] = {}
    others: list[Reference] = []
    directories: set[str] = set()
    allows = False
    for reference in references:
        pattern = reference.entry.pattern
        is_allowing = reference.rule.effect == "allow"
        allows |= is_allowing
        # A mount is also stopped by a rule against something inside it, access to every minor
        # number by one against a single device, and a sysctl by one against another name of it.
        by_more_than_name = kind in ("mounts", "devices", "sysctl")
        if pattern is None or (by_more_than_name and not is_allowing):
            others.append(reference)
        else:
            by_stem.setdefault(pattern.stem, []).append(reference)
        if pattern is not None and is_allowing:
            directories.add(pattern.directory)
    lengths = sorted({len(stem) for stem in by_stem})
    return _Index(by_stem, lengths, others, directories, allows)


class _Lent(NamedTuple):
    """The sources of mounts that some rule gives to some container for writing.

    Such a container can put a link in the place of what lies inside while a runtime mounts that
    for another one. Its root is root on the host as well, so the file's owner does not tell.
    """

    literal: AbstractSet[str]
    others: Sequence[tuple[str, Pattern]]  # a pattern's stem, and the pattern

    def above(self, item: Item) -> str | None:
        """Return which of them an item's source lies inside of, None for none."""
        if item.kind != "mounts":
            return None
        for name in item.names:
            if not name.startswith("/") or name == "/":
                continue
            parent = name.rpartition("/")[0] or "/"
            if any(parent.startswith(stem) and p.covers(parent) for stem, p in self.others):
                return parent
            for place in above(parent):
                if place in self.literal:
                    return place
        return None


def _lent(rules: Iterable[Rule]) -> _Lent:
    entries = [e for rule in rules if rule.effect == "allow" for e in rule.what.get("mounts", ())]
    patterns = [e.pattern for e in entries if e.pattern and e.conditions.get("access")]
    literal = frozenset(pattern.text for pattern in patterns if pattern.literal)
    return _Lent(literal, [(p.stem, p) for p in patterns if not p.literal])


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """An admin's rules, in order.

    `mode` warn lets pass what enforce would deny, and says so; `on_deny` skip creates the
    container without what it may not have, where fail does not create it. `origin` names the
    policy in sentences.
    """

    rules: tuple[Rule, ...] = ()
    mode: Literal["enforce", "warn"] = "enforce"
    on_deny: Literal["fail", "skip"] = "fail"
    origin: str = "the policy"
    trouble: str = ""
    _indexes: Callable[[str], Mapping[str, _Index]] = field(init=False)
    _lent: _Lent = field(init=False)

    def __post_init__(self) -> None:
        """Remember what concerns the namespaces asked about last, and what all may write in."""
        remembered = lru_cache(maxsize=64)(self._indexed)
        object.__setattr__(self, "_indexes", remembered)
        object.__setattr__(self, "_lent", _lent(self.rules))

    def index(self, namespace: str, kind: str) -> _Index:
        """Return the entries of a kind that may concern a namespace."""
        return self._indexes(namespace).get(kind, _NO_ENTRIES)

    def _indexed(self, namespace: str) -> Mapping[str, _Index]:
        references: dict[str, list[Reference]] = {}
        for order, rule in enumerate(self.rules):
            if rule.who.is_in(namespace):
                for kind, entries in rule.what.items():
                    known = references.setdefault(kind, [])
                    known += (Reference(order, rule, entry) for entry in entries)
        return {kind: _indexed(kind, of_kind) for kind, of_kind in references.items()}

    def candidates(self, namespace: str, item: Item) -> Sequence[Reference]:
        """Return what `decide` has to compare an item with that is asked for in a namespace."""
        return self.index(namespace, item.kind).candidates(item.names)

    def decide(
        self, kind: Kind, subject: Subject, item: Item, candidates: Iterable[Reference]
    ) -> Decision:
        """Return what becomes of an item that a container asks for."""
        rule, reason = self._first(kind, subject, item, candidates)
        if rule is not None and rule.effect == "allow":
            place = self._lent.above(item)
            if place is None:
                return Decision(item, "allow", rule.name)
            reason = f"it lies in {place!r}, where containers may write and put a link in its place"
        verdict: Verdict = "deny" if self.on_deny == "fail" else "skip"
        if self.mode == "warn":
            verdict = "warn"
        return Decision(item, verdict, rule.name if rule else None, reason)

    def _first(
        self, kind: Kind, subject: Subject, item: Item, candidates: Iterable[Reference]
    ) -> tuple[Rule | None, str]:
        """Return the first rule that speaks of the item, and why it is not allowed."""
        if self.trouble:
            return None, self.trouble
        if item.trouble:
            return None, item.trouble
        near = ""
        for _, rule, entry in candidates:
            if not rule.who.includes(subject):
                continue
            if rule.effect == "deny":
                if kind.touches(entry, item):
                    return rule, f"rule {rule.name!r} of {self.origin} denies it"
                continue
            missing = kind.within(entry, item)
            if missing is None:
                return rule, ""
            near = near or (f"; rule {rule.name!r} comes near, but {missing}" if missing else "")
        return None, f"no rule of {self.origin} allows it{near}"

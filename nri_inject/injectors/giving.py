"""Add to a container what the policy's rules give it, whatever its pod requests.

A gift goes the way of a request: the injector of its kind looks it up on the host, and the policy
judges it. What the pod requests comes first, then the rules in their order. So a gift that is in
the way of something before it is left out, or fails the container if its rule requires it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.access import rule_number
from nri_inject.host.model import Number
from nri_inject.injectors import keys
from nri_inject.injectors.compose import Injector, Merger
from nri_inject.injectors.host import Host
from nri_inject.injectors.texts import read_text
from nri_inject.policy import gifts, sysctls
from nri_inject.policy.gifts import Gift
from nri_inject.policy.naming import named
from nri_inject.policy.permit import GivingPermit, Permit
from nri_inject.policy.rules import Decision, Item, Rule, Verdict
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.budget import OverBudget
from nri_inject.text.fields import (
    Fault,
    Reader,
    described,
    list_of,
    not_one_of,
    read_line,
    read_short_line,
)
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

Give: TypeAlias = Callable[[Gift, Pod, Container, Host], Adjustment]
"""Makes an adjustment of a gift that the host's permit allows. Raises Fault or RequestError."""

REFUSE: Final = "refuse.noderesource.dev"
"""The prefix of the annotation by which a pod refuses gifts."""
PROFILES: Final = "profiles.noderesource.dev"
"""The prefix of the annotation by which a pod requests profiles."""
ALL: Final = "all"

_STEPS_PER_GIFT: Final = 60
# The runtime's directory of the NRI socket: a pod that has it is a plugin, and root on the host.
_PLUGINS_ALONE: Final = ("/run/nri", "/var/run/nri")


def read_gifts(kind: str, value: Value) -> Sequence[Gift]:
    """Read what a rule gives of one kind; Fault with everything that is wrong."""
    # Imported at first use: few policies give, and a plugin of one kind has no reader of others.
    from nri_inject.injectors import gifts as readers

    return readers.read(kind, value)


def giving(injector: Injector, givers: Mapping[str, Give]) -> Injector:
    """Return an injector that gives, too; `givers` make the kinds of gifts that are its own."""

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        requested = injector(pod, container, host)
        permit = host.permit
        asked = requested_profiles(pod, container, host)
        if permit is None:
            _check_profiles(asked, pod, container)
            return requested
        rules = permit.giving_rules() if permit.policy.givers else []
        rules = [] if rules and is_plugin(container) else rules
        if not rules and not asked:
            return requested
        recipient = _Recipient(requested, pod, container, host, permit)
        for profile, key in asked.items():
            recipient.grant(profile, key, givers)
        for rule in rules:
            recipient.give(rule, givers)
        if recipient.faults:
            raise RequestError(
                recipient.faults, where=where(pod, container), denied=recipient.denied
            )
        return recipient.adjustment

    return inject


def is_plugin(container: Container) -> bool:
    """Tell whether a container can connect as an NRI plugin, as our own: rules give it nothing."""
    sources = (clean(mount.source) for mount in container.mounts if "/nri" in mount.source)
    return any(is_below(source, place) for source in sources for place in _PLUGINS_ALONE)


class _GiftOutcome(NamedTuple):
    """What became of a gift: an adjustment, or why there is none; and the policy's decisions."""

    adjustment: Adjustment
    trouble: str
    decisions: Sequence[Decision]
    warnings: Sequence[str]

    @property
    def is_nothing(self) -> bool:
        """Whether it is an optional device that is not there."""
        return not (self.adjustment.ByteSize() or self.trouble or self.decisions)

    @property
    def is_denied(self) -> bool:
        """Whether the policy forbids all of it."""
        verdicts = {decision.verdict for decision in self.decisions}
        return bool(verdicts) and verdicts <= {"deny", "skip"}

    @property
    def is_skipped(self) -> bool:
        """Whether the policy leaves all of it out."""
        return {decision.verdict for decision in self.decisions} == {"skip"}


class _GiftOrigin(NamedTuple):
    """Where gifts come from; `front` and `end` are around the fault of a required one."""

    permit: GivingPermit
    required: bool
    front: str = ""
    end: str = ""


class _Recipient:
    """A container, and the adjustment that grows by what rules give it."""

    def __init__(
        self, requested: Adjustment, pod: Pod, container: Container, host: Host, permit: Permit
    ) -> None:
        self.faults: list[str] = []
        self.denied = False
        self._pod = pod
        self._container = container
        self._host = host
        self._permit = permit
        self._refused = refused(pod, container, host) if permit.policy.givers else {}
        self._sum = _Sum(requested)

    @property
    def adjustment(self) -> Adjustment:
        """What the container gets so far."""
        return self._sum.adjustment

    def give(self, rule: Rule, givers: Mapping[str, Give]) -> None:
        """Add the gifts of one rule."""
        end = f"; rule {rule.name!r} requires it"
        source = _GiftOrigin(self._permit.giving(rule), required=rule.required, end=end)
        self._add(rule.gifts, source, givers)

    def grant(self, profile: str, key: str, givers: Mapping[str, Give]) -> None:
        """Add what is in a profile that an annotation requests."""
        front = f"annotation {plain(key)}: "
        gifts_of_it = self._permit.policy.profiles.get(profile)
        before = len(self._permit.decisions)
        try:
            granted = self._permit.filter_names("profiles", [profile], "profile", {"profiles": key})
        except OverBudget:
            raise
        except RequestError as error:
            self.faults += error.faults
            self.denied = True
            return
        if not granted:
            return
        if gifts_of_it is None:
            name = self._permit.policy.origin
            self.faults.append(f"{front}{name} has no profile {quoted(profile)}")
            return
        own = self._permit.granting(profile, self._permit.decisions[before].rule)
        front = f"{front}profile {quoted(profile)}: "
        self._add(gifts_of_it, _GiftOrigin(own, required=True, front=front), givers)

    def _add(self, listed: Iterable[Gift], source: _GiftOrigin, givers: Mapping[str, Give]) -> None:
        for gift in listed:
            give = givers.get(gift.kind)
            if give is None:
                continue
            self._host.budget.spend("giving it what rules give", _STEPS_PER_GIFT)
            made = self._made(gift, give, source.permit)
            if made.is_nothing:
                continue
            why = self._left_out(gift, made, source)
            self._note(gift, made, why, source)

    def _made(self, gift: Gift, give: Give, own: GivingPermit) -> _GiftOutcome:
        before, warnings = len(own.decisions), list[str]()
        host = replace(self._host, permit=own, warn=warnings.append)
        found, trouble = Adjustment(), ""
        for profile in gift.profiles:
            if own.bars(profile):
                own.decide(named("profiles", profile, "profile"))
                return _GiftOutcome(found, "", own.decisions[before:], ())
        try:
            found = give(gift, self._pod, self._container, host)
        except OverBudget:
            raise
        except RequestError as error:
            trouble = "; ".join(error.faults)
        except Fault as fault:
            trouble = "; ".join(of_only_item(fault).sentences)
        return _GiftOutcome(found, trouble, own.decisions[before:], warnings)

    def _left_out(self, gift: Gift, made: _GiftOutcome, source: _GiftOrigin) -> str:
        """Add a gift, or say why it is left out: denied, refused, not there, in the way."""
        if made.is_denied:
            return made.decisions[0].reason
        if gift.kind in self._refused and not source.required:
            return f"the pod refuses it (annotation {plain(self._refused[gift.kind])})"
        found = made.adjustment
        if made.trouble:
            return made.trouble
        if own := _own_conflict(found, self._container):
            return f"the pod has {own} of its own"
        return self._sum.add(found)

    def _note(self, gift: Gift, made: _GiftOutcome, why: str, source: _GiftOrigin) -> None:
        """Note the decisions about a gift, and the fault if something required is left out."""
        decisions, own = made.decisions, source.permit
        if why and source.required and not made.is_skipped:
            self.faults.append(f"{source.front}{gift.words}: {why}{source.end}")
            self.denied |= made.is_denied
        if not made.is_denied and (why or not decisions):
            items = [decision.item for decision in decisions]
            verdict: Verdict = "allow" if not why else "deny" if source.required else "skip"
            decisions = [
                Decision(item, verdict, own.rule, f"{why}; {own.reason}" if why else own.reason)
                for item in items or [Item(gift.kind, gift.words, gift.words, (), None)]
            ]
        self._permit.decisions += decisions
        for warning in () if why else made.warnings:
            self._host.warn(f"{gift.words}, {own.reason}: {warning}")


class _Sum:
    """The requested adjustment with gifts. What is there first stays as it is."""

    def __init__(self, requested: Adjustment) -> None:
        self.adjustment = requested
        self._merger: Merger | None = None
        self._access: dict[Number, tuple[bytes, ...]] = {}
        self._spelled: dict[tuple[str, str], str] = {}

    def add(self, found: Adjustment) -> str:
        """Add a gift; say what is in its way, and then nothing of it is added."""
        merger = self._merger or self._begun()
        one, access = Adjustment(), _access(found)
        one.CopyFrom(found)  # which may be shared
        for number, rules in access.items():
            if self._access.get(number, rules) != rules:
                kind, major, minor = number
                return f"the container has {kind} {major}:{minor} already, with other access"
        _drop_repeated(one, self.adjustment, self._access)
        spelled = _spelled(found)
        for (what, name), spelling in spelled.items():
            if self._spelled.get((what, name), spelling) != spelling:
                return f"the container has {what} {quoted(name)} already"
        if conflicts := merger.join(self.adjustment, one):
            return conflicts[0].replace("conflicting requests for", "the container has another")
        self._access |= access
        self._spelled |= spelled
        return ""

    def _begun(self) -> Merger:
        """Claim all that the container has so far."""
        self._merger, merged = Merger(), Adjustment()
        self._merger.join(merged, self.adjustment)
        self._access, self._spelled = _access(merged), _spelled(merged)
        self.adjustment = merged
        return self._merger


def of_only_item(fault: Fault) -> Fault:
    """Return a fault of the only item of a list as one of the item."""
    own = (
        replace(one, path=one.path[1:]) if one.path[:1] == (0,) else one for one in fault.problems
    )
    return Fault(*own)


# --- the profiles that a pod requests -------------------------------------------------------------


def _read_profiles(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Fault(f"{described(value)} must be a list of profiles, such as [zigbee]")
    return tuple(dict.fromkeys(list_of(read_short_line)(value)))


def requested_profiles(pod: Pod, container: Container, host: Host) -> Mapping[str, str]:
    """Return the profiles that a pod requests, each with its annotation; RequestError."""
    if not any(key.startswith(PROFILES) for key in pod.annotations):
        return {}
    return _listed(PROFILES, _read_profiles, pod, container, host)


def _check_profiles(asked: Mapping[str, str], pod: Pod, container: Container) -> None:
    """Raise RequestError for a request of profiles where no policy defines one."""
    faults = [
        f"annotation {plain(key)}: profile {quoted(name)} is not known: the policy is unrestricted"
        for name, key in asked.items()
    ]
    if faults:
        raise RequestError(faults, where=where(pod, container))


def _listed(
    prefix: str, read: Reader[tuple[str, ...]], pod: Pod, container: Container, host: Host
) -> Mapping[str, str]:
    """Return the names in the annotation that counts, each with its key; RequestError."""
    found = find(pod.annotations, prefix, "", container_name(container))
    faults = keys.faults(pod.annotations, {prefix})
    names: Mapping[str, str] = {}
    if found is not None:
        key, text = found
        spend = partial(host.budget.spend, f"annotation {plain(key)}: reading it")
        listed = read_text(read, text, spend)
        if isinstance(listed, Fault):
            faults += (f"annotation {plain(key)}: {sentence}" for sentence in listed.sentences)
        else:
            names = dict.fromkeys(listed or (), key)
    if faults:
        raise RequestError(faults, where=where(pod, container))
    return names


# --- the pod's refusal ----------------------------------------------------------------------------


def _read_refused(value: Value) -> tuple[str, ...]:
    if value == ALL:
        return gifts.KINDS
    if not isinstance(value, list):
        raise Fault(f"{described(value)} must be {ALL} or a list of kinds, such as [devices]")
    return tuple(list_of(_kind)(value))


def _kind(value: Value) -> str:
    word = read_line(value)
    if word not in gifts.KINDS:
        raise Fault(not_one_of(word, gifts.KINDS))
    return word


def refused(pod: Pod, container: Container, host: Host) -> Mapping[str, str]:
    """Return the kinds of gifts that a pod refuses, each with its annotation; RequestError."""
    return _listed(REFUSE, _read_refused, pod, container, host)


# --- conflicts ------------------------------------------------------------------------------------


def _own_conflict(found: Adjustment, container: Container) -> str:
    """Name the variable, mount or device of the container's own that a gift would replace."""
    if found.env:
        own = dict(variable.split("=", 1) for variable in container.env if "=" in variable)
        if name := next((v.key for v in found.env if own.get(v.key, v.value) != v.value), ""):
            return f"another value of {quoted(name)}"
    if found.mounts:
        there = {clean(mount.destination) for mount in container.mounts}
        if path := next((m.destination for m in found.mounts if clean(m.destination) in there), ""):
            return f"a mount at {quoted(path)}"
    if found.linux.devices:
        nodes = {clean(one.path): (one.major, one.minor) for one in container.linux.devices}
        for one in found.linux.devices:
            if nodes.get(clean(one.path), (one.major, one.minor)) != (one.major, one.minor):
                return f"another device at {quoted(one.path)}"
    return ""


def _access(adjustment: Adjustment) -> dict[Number, tuple[bytes, ...]]:
    """Return the access rules of each device, by its number."""
    access: dict[Number, tuple[bytes, ...]] = {
        (one.type, one.major, one.minor): () for one in adjustment.linux.devices
    }
    for rule in adjustment.linux.resources.devices:
        number = rule_number(rule)
        access[number] = (*access.get(number, ()), rule.SerializeToString(deterministic=True))
    return access


def _spelled(adjustment: Adjustment) -> dict[tuple[str, str], str]:
    """Return how places and settings are written that can be written in several ways."""
    linux = adjustment.linux
    return {
        **{("a device at", clean(one.path)): one.path for one in linux.devices},
        **{("a mount at", clean(one.destination)): one.destination for one in adjustment.mounts},
        **{("the sysctl", sysctls.normal(key)): key for key in linux.sysctl},
    }


def _drop_repeated(one: Adjustment, there: Adjustment, access: Mapping[Number, object]) -> None:
    """Remove hooks and access rules that are there already, from lists that are joined."""
    rules = one.linux.resources.devices
    if rules:
        kept = [rule for rule in rules if rule_number(rule) not in access]
        del rules[:]
        rules.extend(kept)
    for descriptor, hooks in one.hooks.ListFields():
        before = getattr(there.hooks, descriptor.name)
        new = [hook for hook in hooks if hook not in before]
        del hooks[:]
        hooks.extend(new)

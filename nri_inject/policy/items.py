"""What an adjustment gives to a container, thing by thing, as each is on the host.

A thing is told by what the kernel will make of it, not by what somebody calls it: a device by
its number and the host's own names for that, a mount by its source with all links followed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
)
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from nri_inject import api
from nri_inject.api import Adjustment, Container
from nri_inject.host.access import letters, possible_access, rule_number
from nri_inject.host.model import DeviceNode, NotADevice, Number, HostPath
from nri_inject.policy import mount_options, sysctls
from nri_inject.policy.kinds import HARMLESS, PROTECTED
from nri_inject.policy.rules import Item
from nri_inject.text.budget import Budget
from nri_inject.text.glob import MAX_PARTS, literally
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import plain, quoted

if TYPE_CHECKING:
    from nri_inject.host.devices.device import Device
    from nri_inject.host.devices.inventory import Inventory

T = TypeVar("T")

Reach = Callable[[str], bool]
"""Tell whether a path of the host may be looked at: not before some rule could allow it."""

_MOST_DEVICES: Final = 512
_MOST_MOUNTS: Final = 1024

_STEPS_PER_ITEM: Final = 30


class HostView(Protocol):
    """The part of a host that the policy looks at."""

    @property
    def devices(self) -> Mapping[str, DeviceNode]:
        """The device nodes by path."""

    @property
    def numbers(self) -> Mapping[Number, tuple[str, ...]]:
        """The host's own names of a device, by its number."""

    @property
    def files(self) -> Mapping[str, HostPath]:
        """The files and directories by path."""

    @property
    def inventory(self) -> Callable[[], Inventory] | None:
        """Looks at all devices of the host, if that is possible."""

    @property
    def budget(self) -> Budget:
        """Bounds what the request may cost."""


class Guarded(NamedTuple):
    """A view of the host with doubts about what containers could have written."""

    devices: Mapping[str, DeviceNode]
    numbers: Mapping[Number, tuple[str, ...]]
    files: Mapping[str, HostPath]
    inventory: Callable[[], Inventory] | None
    budget: Budget


class Evaluation(NamedTuple):
    """What is known of host and container, and where the host may be looked at."""

    host: HostView
    container: Container
    reaches_device: Reach
    reaches_source: Reach


def items_of(adjustment: Adjustment, evaluation: Evaluation) -> list[Item]:
    """Return everything in an adjustment that a policy has a say in.

    Variables, arguments and annotations are the container's own affair and are not among it.
    """
    items: list[Item] = []
    for kind in _KINDS:
        for item in kind(adjustment, evaluation):
            evaluation.host.budget.spend("finding out what it asks for", _STEPS_PER_ITEM)
            items.append(item)
    return items


# --- devices ------------------------------------------------------------------------------------


def _devices(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item]:
    linux = adjustment.linux
    given = [device for device in linux.devices if not device.path.startswith("-")]
    rules = linux.resources.devices
    crowded = len(given) + len(rules) > _MOST_DEVICES
    numbers = {_device_number(device) for device in given}
    rules_of = _RulesOf(rules)
    for device in given:
        own = () if crowded else rules_of(_device_number(device))
        yield _too_many(device.path) if crowded else _device(device, own, evaluation)
    for rule in rules:
        if rule.allow and rule_number(rule) not in numbers:
            key = _rule_key(rule)
            yield _too_many(key) if crowded else _access_rule(key, rule, evaluation)


class _RulesOf:
    """The rules for the device cgroup by number: those for it alone, and those for many."""

    def __init__(self, rules: Iterable[api.LinuxDeviceCgroup]) -> None:
        self._exact: dict[Number, list[tuple[int, api.LinuxDeviceCgroup]]] = {}
        self._wide: list[tuple[int, api.LinuxDeviceCgroup]] = []
        for order, rule in enumerate(rules):
            kind, major, minor = number = rule_number(rule)
            is_exact = kind in ("b", "c") and major >= 0 and minor >= 0
            known = self._exact.setdefault(number, []) if is_exact else self._wide
            known.append((order, rule))

    def __call__(self, number: Number) -> list[api.LinuxDeviceCgroup]:
        """Return in their order the rules that may be for a number."""
        found = sorted(self._exact.get(number, []) + self._wide, key=itemgetter(0))
        return [rule for _, rule in found]


def _too_many(key: str) -> Item:
    sentence = f"more than {_MOST_DEVICES} devices and rules are asked for"
    return Item("devices", key, quoted(key), (), _NO_DEVICE, trouble=sentence)


_NO_DEVICE: Final[Mapping[str, object]] = {
    "type": "",
    "major": -1,
    "minor": -1,
    "access": frozenset(),
}


def _device(device: api.LinuxDevice, rules: Iterable[api.LinuxDeviceCgroup], evaluation: Evaluation) -> Item:
    path, number = device.path, _device_number(device)
    if not evaluation.reaches_device(path):
        return _unseen_device(path, number, evaluation)
    access = possible_access(number, rules)
    told = _told(number, evaluation)
    names, trouble = _names(path, number, told, evaluation)
    if "\0" in path:  # a runtime written in C would make the device at another path
        trouble = "its path has a NUL"
    resolved = _number(number)
    known = next(iter(names or told), "")
    return Item(
        "devices",
        path,
        _shown_device(path, resolved, known),
        names,
        _device_facts(number, access, evaluation),
        f"{resolved} {known}".strip(),
        trouble,
        _suggested_device(path, known, number, access) if names else _by_number(*number, access),
    )


def _unseen_device(path: str, number: Number, evaluation: Evaluation) -> Item:
    """Return a device at a path that may not be looked at.

    What the container would get there is not known, so no rule can allow it. Another plugin may
    have looked. What it found is for the audit; the pod's author reads the error, and may learn of
    the host's devices only if some rule allows one.
    """
    shown = number if _may_learn(evaluation) else ("", -1, -1)
    known = next(iter(_told(number, evaluation)), "")
    return Item(
        "devices",
        path,
        _shown_device(path, _number(shown), known),
        (),
        _NO_DEVICE,
        f"{_number(number)} {known}".strip(),
        "",
        _suggested_device(path, known, shown, ()),
    )


def _may_learn(evaluation: Evaluation) -> bool:
    """Tell whether a container may have any device, and so may learn which ones there are."""
    return evaluation.reaches_device("/dev")


def _told(number: Number, evaluation: Evaluation) -> tuple[str, ...]:
    """Return the names that the host has for a number."""
    return evaluation.host.numbers.get(number, ()) if _may_learn(evaluation) else ()


def _device_facts(number: Number, access: frozenset[str], evaluation: Evaluation) -> Mapping[str, object]:
    kind, major, minor = number
    look = Look(number, evaluation.host.inventory)
    return {"type": kind, "major": major, "minor": minor, "access": access, "device": look}


class Look:
    """Look at what the host has under a number, when a rule asks what it is.

    Looks at the same number are equal: they find the same device.
    """

    def __init__(self, number: Number, inventory: Callable[[], Inventory] | None) -> None:
        self._number = number
        self._inventory = inventory

    def __call__(self) -> Device | None:
        """Return the device, or None for a number that the host has nothing under."""
        if self._inventory is None:
            return None
        kind, major, minor = self._number
        return self._inventory().of_number(kind, major, minor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Look) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def _shown_device(path: str, resolved: str, known: str) -> str:
    other = plain(known) if known != path else ""
    aside = ", ".join(part for part in (resolved, other) if part)
    return f"device {quoted(path)}" + (f" ({aside})" if aside else "")


def _names(
    path: str, number: Number, told: tuple[str, ...], evaluation: Evaluation
) -> tuple[tuple[str, ...], str]:
    """Return the host's names of a device that a container wants at `path`; or what is wrong.

    `told` are those that it has by its number.

    In a user namespace runc mounts the host's node of that path and forgets the number. So where
    the host has a node there, it must be this very device.
    """
    if not path.startswith("/"):
        return (), "its path is not absolute"
    try:
        node = evaluation.host.devices[path]
    except NotADevice as error:
        return (), f"on the host {quoted(path)} {error.why}"
    except KeyError:
        return told, ""
    if node.number != number:
        return (), f"the host's {quoted(path)} is {_number(node.number)}, another device"
    if node.doubt is not None:
        return (), f"it is not sure what the host's {quoted(path)} is: {node.doubt}"
    # With `..` in it a path is no name: /dev/snd/../mem is nothing of /dev/snd.
    asked = () if ".." in path.split("/") else (clean(path),)
    real = (node.real,) if node.real else ()
    return tuple(dict.fromkeys((*told, *real, *asked))), ""


def _number(number: Number) -> str:
    kind, major, minor = number
    return f"{kind} {major}:{minor}" if kind else ""


def _access_rule(key: str, rule: api.LinuxDeviceCgroup, evaluation: Evaluation) -> Item:
    """Return what a rule for the device cgroup gives that comes without a node."""
    kind, major, minor = rule_number(rule)
    trouble = ""
    names: tuple[str, ...] = ()
    if kind not in ("b", "c") or major < 0:
        trouble = "it opens every device of a kind"
    elif minor >= 0:
        names = _told((kind, major, minor), evaluation)
    access = frozenset(rule.access)
    shown = _shown_rule(rule)
    facts = _device_facts((kind, major, minor), access, evaluation)
    asked = f"access {quoted(rule.access)} to devices {shown}"
    suggestion = _by_number(kind, major, minor, access)
    return Item("devices", key, asked, names, facts, shown, trouble, suggestion)


def _shown_rule(rule: api.LinuxDeviceCgroup) -> str:
    kind, major, minor = rule_number(rule)
    shown = f"{'*' if major < 0 else major}:{'*' if minor < 0 else minor}"
    return f"{plain(kind) or 'a'} {shown}"


def _rule_key(rule: api.LinuxDeviceCgroup) -> str:
    """Return what finds a rule in an adjustment; no path of a device is like it."""
    return f"rule {_shown_rule(rule)} {rule.access}"


def _suggested_device(path: str, known: str, number: Number, access: Iterable[str]) -> str:
    """Return what a rule has to name: the device, and a path that is looked at for no other."""
    if not path.startswith("/"):
        # A selector that nobody has looked for; one with a wildcard would open more than it is.
        return _scalar(path) if ":" in path and path == literally(path) else ""
    places = [known] if known else []
    if not known or not is_below(path, "/dev"):
        places.append(clean(path))
    return ", ".join(_device_entry(place, number, access) for place in dict.fromkeys(places))


def _device_entry(path: str, number: Number, access: Iterable[str]) -> str:
    more, name = _extra(access), as_yaml(path)
    if number[0] == "b":
        return f"{{path: {name}, type: b}}"
    return f"{{path: {name}{more}}}" if more else name


def _by_number(kind: str, major: int, minor: int, access: Iterable[str]) -> str:
    least = f", minor: {minor}" if minor >= 0 else ""
    return f"{{type: {kind}, major: {major}{least}{_extra(access)}}}"


def _extra(access: Iterable[str]) -> str:
    return f", access: {letters(access)}" if "m" in access else ""


# --- mounts -------------------------------------------------------------------------------------


def _mounts(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item]:
    given = [mount for mount in adjustment.mounts if not mount.destination.startswith("-")]
    for mount in given:
        if len(given) > _MOST_MOUNTS:
            sentence = f"more than {_MOST_MOUNTS} mounts are asked for"
            yield Item("mounts", mount.destination, "mount", (), {}, trouble=sentence)
        else:
            yield _mount(mount, evaluation)


def _mount(mount: api.Mount, evaluation: Evaluation) -> Item:
    kind = mount_options.mount_type(mount)
    names, real, trouble = _source(mount.source, kind, evaluation)
    trouble = mount_options.fault(mount.options) or _nul_in(mount) or trouble
    writable, why = mount_options.writable(mount)
    destination = clean(mount.destination)
    facts = {
        "type": kind,
        "writable": writable,
        "why_writable": why,
        "destination": destination,
        "options": frozenset(mount_options.words(mount.options)),
    }
    source = names[0] if names else mount.source
    aside = f" ({plain(source)})" if source != mount.source else ""
    return Item(
        "mounts",
        mount.destination,
        f"mount of {quoted(mount.source or kind)}{aside} at {quoted(mount.destination)}",
        names,
        facts,
        f"{source} {kind} {'rw' if writable else 'ro'}".strip(),
        trouble,
        "" if trouble else _suggested_mount(source, facts),
        real,
    )


def _nul_in(mount: api.Mount) -> str:
    """Say that a runtime written in C would stop reading a text early."""
    for name, text in (
        ("source", mount.source),
        ("destination", mount.destination),
        ("type", mount.type),
    ):
        if "\0" in text:
            return f"its {name} {quoted(text)} has a NUL"
    return ""


class _Source(NamedTuple):
    """The names of a mount's source, its real path if it was looked at, and what is wrong."""

    names: tuple[str, ...]
    real: str = ""
    trouble: str = ""


def _source(source: str, kind: str, evaluation: Evaluation) -> _Source:
    """Return the source without links as its only name, or what is wrong with it.

    The runtime resolves the path once more when it mounts. So only root may be able to change
    where it leads, and it must lead to the same place for every process.
    """
    if not source.startswith("/"):
        bad = "its source is no absolute path" if kind == "bind" else ""
        return _Source(() if bad else (source,), trouble=bad)
    if source.count("/") > MAX_PARTS:
        return _Source((), trouble=f"its source has more than {MAX_PARTS} parts")
    if not evaluation.reaches_source(clean(source)):
        return _Source((clean(source),))
    try:
        place = evaluation.host.files[source]
    except KeyError as error:
        return _Source((), trouble=str(error.args[0]))
    if place.on_procfs:
        return _Source((), trouble="its source leads through procfs")
    if place.doubt is not None:
        return _Source((), trouble=f"others could lead its source elsewhere: {place.doubt}")
    return _Source((place.real,), place.real)


def _suggested_mount(source: str, facts: Mapping[str, Any]) -> str:
    destination, options = facts["destination"], facts["options"]
    if any(is_below(place, destination) and place != destination for place in PROTECTED):
        return ""  # whoever covers /etc/passwd says so, and not /etc
    parts = [f"source: {as_yaml(source)}"] if source.startswith("/") else []
    if facts["type"] != "bind":
        parts.append(f"type: {_scalar(facts['type'])}")
    if facts["writable"]:
        parts.append("access: rw")
    parts.append(f"destination: {as_yaml(destination)}")
    if unusual := sorted(options - HARMLESS):
        parts.append(f"options: [{', '.join(map(as_yaml, unusual))}]")
    return f"{{{', '.join(parts)}}}"


# --- the rest -----------------------------------------------------------------------------------


def _cdi_devices(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    for device in adjustment.CDI_devices:
        yield named("cdi_devices", device.name, "CDI device")


def named(kind: str, name: str, noun: str, *, key: str = "") -> Item:
    """Return an item that is what it is called."""
    trouble = "it has a NUL" if "\0" in name else ""
    asked = f"{noun} {quoted(name)}"
    return Item(kind, key or name, asked, (name,), {}, name, trouble, as_yaml(name))


# Nothing in it means anything to YAML, and it does not begin as a number does.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./=-]*")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def as_yaml(name: str) -> str:
    """Write a name for a rule, in YAML, so that the rule is for this name and nothing else.

    A pod's author chose the name, and an admin is going to paste the rule.
    """
    return _scalar(literally(name))


def _scalar(text: str) -> str:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text)


def _net_devices(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    for name in adjustment.linux.net_devices:
        if not name.startswith("-"):
            yield named("network_devices", name, "network device")


def _sysctl(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    for key in adjustment.linux.sysctl:
        if not key.startswith("-"):
            yield named("sysctl", sysctls.normal(key), "sysctl", key=key)


def _scheduler(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    if not adjustment.linux.HasField("scheduler"):
        return
    scheduler = adjustment.linux.scheduler
    name = _enum(api.LinuxSchedulerPolicy, scheduler.policy)
    facts = {"nice": scheduler.nice, "priority": scheduler.priority}
    entry = [f"policy: {name}"]
    entry += [f"min_nice: {scheduler.nice}"] if scheduler.nice < 0 else []
    entry += [f"max_priority: {scheduler.priority}"] if scheduler.priority > 0 else []
    shown = f"{name} nice {scheduler.nice} priority {scheduler.priority}"
    asked = f"scheduling policy {name}"
    suggestion = f"{{{', '.join(entry)}}}"
    yield Item("scheduling_policy", name, asked, (name,), facts, shown, "", suggestion)


def _io_priority(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    if not adjustment.linux.HasField("io_priority"):
        return
    priority = adjustment.linux.io_priority
    name = _enum(api.IOPrioClass, getattr(priority, "class"))
    facts = {"priority": priority.priority}
    asked = f"I/O priority {name} {priority.priority}"
    suggestion = f"{{class: {name}, priority: {priority.priority}}}"
    yield Item("io_priority", name, asked, (name,), facts, asked[13:], "", suggestion)


def _memory_policy(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    if adjustment.linux.HasField("memory_policy"):
        yield named(
            "memory_policy",
            _enum(api.MpolMode, adjustment.linux.memory_policy.mode),
            "memory policy",
        )


def _enum(wrapper: type, number: int) -> str:
    """Return a value's name, or its number if this version of NRI has no name for it."""
    names = {value: name for name, value in wrapper.items()}  # type: ignore[attr-defined]  # an enum's wrapper
    return str(names.get(number, number))


def _limits(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item]:
    own = {limit.type: limit for limit in evaluation.container.rlimits}
    for limit in adjustment.rlimits:
        before = own.get(limit.type)
        if before and limit.hard <= before.hard and limit.soft <= before.hard:
            continue
        hard = max(limit.hard, limit.soft)
        shown = "unlimited" if hard == _UNLIMITED else str(hard)
        name = limit.type.removeprefix("RLIMIT_")
        yield Item(
            "ulimits",
            limit.type,
            f"limit {name} of {shown}",
            (limit.type,),
            {"hard": hard},
            f"{limit.type} {shown}",
            "",
            f"{{type: {name}, hard: {shown}}}",
        )


_UNLIMITED: Final = 2**64 - 1  # RLIM_INFINITY


def _hooks(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    for descriptor, hooks in adjustment.hooks.ListFields():
        for hook in hooks:
            item = named("hooks", hook.path, f"{descriptor.name} hook", key=descriptor.name)
            # Another command line makes another hook of it.
            yield dataclasses.replace(item, facts={"hook": hook.SerializeToString()})


# Fields of NRI that reach for the host or for what containers share, and that no kind above is
# about. Those of resources are told by the messages' own fields.
_FIELDS: Final[Mapping[str, str]] = {
    "cgroups_path": "CgroupsPath",
    "oom_score_adj": "OomScoreAdj",
    "seccomp_policy": "SeccompPolicy",
    "namespaces": "Namespace",
}
_RESOURCES: Final[Mapping[str, str]] = {
    "hugepage_limits": "HugepageLimits",
    "blockio_class": "BlockioClass",
    "rdt_class": "RdtClass",
    "unified": "CgroupsUnified",
    "pids": "PidsLimit",
}
_MEMORY: Final[Mapping[str, str]] = {
    "limit": "MemLimit",
    "reservation": "MemReservation",
    "swap": "MemSwapLimit",
    "kernel": "MemKernelLimit",
    "kernel_tcp": "MemTCPLimit",
    "swappiness": "MemSwappiness",
    "disable_oom_killer": "MemDisableOomKiller",
    "use_hierarchy": "MemUseHierarchy",
}
_CPU: Final[Mapping[str, str]] = {
    "shares": "CPUShares",
    "quota": "CPUQuota",
    "period": "CPUPeriod",
    "realtime_runtime": "CPURealtimeRuntime",
    "realtime_period": "CPURealtimePeriod",
    "cpus": "CPUSetCPUs",
    "mems": "CPUSetMems",
}
_RDT: Final[Mapping[str, str]] = {
    "clos_id": "RdtClosID",
    "schemata": "RdtSchemata",
    "enable_monitoring": "RdtEnableMonitoring",
    "remove": "RdtClosID",
}


def _fields(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    linux = adjustment.linux
    resources = linux.resources
    for message, known in (
        (linux, _FIELDS),
        (resources, _RESOURCES),
        (resources.memory, _MEMORY),
        (resources.cpu, _CPU),
        (linux.rdt, _RDT),
    ):
        for descriptor, _value in message.ListFields():
            if descriptor.name in known:
                yield named("fields", known[descriptor.name], "field")


def _removals(adjustment: Adjustment, _: Evaluation) -> Iterator[Item]:
    """Yield what is taken away from the container, by a mark in front of its key.

    Another mount may have lain below a removed one, and a removed sysctl may have been a limit.
    """
    linux = adjustment.linux
    for noun, field, keys in (
        ("mount at", api.Field.Mounts, [mount.destination for mount in adjustment.mounts]),
        ("device", api.Field.Devices, [device.path for device in linux.devices]),
        ("sysctl", api.Field.Sysctl, [*linux.sysctl]),
        ("network device", api.Field.LinuxNetDevices, [*linux.net_devices]),
    ):
        for entry in (key[1:] for key in keys if key.startswith("-")):
            name = sysctls.normal(entry) if noun == "sysctl" else entry
            name = clean(entry) if entry.startswith("/") and noun != "sysctl" else name
            item = named("removals", name, f"removal of {noun}", key=f"{noun} -{entry}")
            yield dataclasses.replace(item, facts={"field": field, "entry": entry})


_KINDS: Final = (
    _devices,
    _cdi_devices,
    _mounts,
    _net_devices,
    _sysctl,
    _scheduler,
    _io_priority,
    _memory_policy,
    _limits,
    _hooks,
    _fields,
    _removals,
)


# --- handing on what was judged, and taking things out -------------------------------------------


def with_real_sources(adjustment: Adjustment, items: Iterable[Item]) -> Adjustment:
    """Return an adjustment whose mounts have the sources that were judged.

    A path that the pod's author chose may lead elsewhere when the runtime resolves it.
    """
    real = {item.key: item.real for item in items if item.kind == "mounts" and item.real}
    if all(
        real.get(mount.destination, mount.source) == mount.source for mount in adjustment.mounts
    ):
        return adjustment
    settled = Adjustment()
    settled.CopyFrom(adjustment)
    for mount in settled.mounts:
        mount.source = real.get(mount.destination, mount.source)
    return settled


def without(adjustment: Adjustment, items: Iterable[Item]) -> Adjustment:
    """Return an adjustment without these items of it; the rest is as it was."""
    keys: dict[str, set[str]] = {}
    for item in items:
        keys.setdefault(item.kind, set()).add(item.key)
    left = Adjustment()
    left.CopyFrom(adjustment)
    for kind, gone in keys.items():
        _REMOVERS[kind](left, gone)
    return left


def _remove_devices(left: Adjustment, keys: AbstractSet[str]) -> None:
    """Take devices out with the rules for their numbers, and rules that came without a device.

    What another device has the same number for keeps its rules: they may take something away.
    """
    kept = [device for device in left.linux.devices if device.path not in keys]
    gone = {_device_number(device) for device in left.linux.devices if device.path in keys}
    gone -= {_device_number(device) for device in kept}
    rules = [
        rule
        for rule in left.linux.resources.devices
        if rule_number(rule) not in gone and not (rule.allow and _rule_key(rule) in keys)
    ]
    _replace(left.linux.devices, kept)
    if len(rules) != len(left.linux.resources.devices):
        _replace(left.linux.resources.devices, rules)


def _device_number(device: api.LinuxDevice) -> Number:
    return device.type, device.major, device.minor


def _remove_mounts(left: Adjustment, keys: AbstractSet[str]) -> None:
    _replace(left.mounts, [mount for mount in left.mounts if mount.destination not in keys])


def _remove_limits(left: Adjustment, keys: AbstractSet[str]) -> None:
    _replace(left.rlimits, [limit for limit in left.rlimits if limit.type not in keys])


def _replace(items: MutableSequence[T], kept: list[T]) -> None:
    del items[:]
    items.extend(kept)


def _remove_keys(items: MutableMapping[str, T], keys: AbstractSet[str]) -> None:
    for key in keys:
        del items[key]


_REMOVERS: Final[Mapping[str, Callable[[Adjustment, AbstractSet[str]], None]]] = {
    "devices": _remove_devices,
    "mounts": _remove_mounts,
    "ulimits": _remove_limits,
    "network_devices": lambda left, keys: _remove_keys(left.linux.net_devices, keys),
    "sysctl": lambda left, keys: _remove_keys(left.linux.sysctl, keys),
    "scheduling_policy": lambda left, _: left.linux.ClearField("scheduler"),
    "io_priority": lambda left, _: left.linux.ClearField("io_priority"),
    "memory_policy": lambda left, _: left.linux.ClearField("memory_policy"),
}
"""How what a pod may ask for by annotation is taken out again; CDI devices and hooks are left
out before they become an adjustment, and other plugins ask for the rest."""

"""What a rule may name of each kind of thing, and when an item lies in it or touches it.

The kinds are called as the annotations that ask for them. Each has a reader of a rule's entry, a
text or a map, which makes a record that compares itself with an item's facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from nri_inject import api
from nri_inject.policy import impossible, sysctls
from nri_inject.policy.device_entries import read_device
from nri_inject.policy.entries import entries, read_pattern
from nri_inject.policy.mount_entries import read_mount
from nri_inject.policy.rules import Entry, Item
from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    described,
    integer,
    not_one_of,
    read_line,
)
from nri_inject.text.glob import Pattern, pattern
from nri_inject.text.names import LIMITS, limit_type
from nri_inject.text.paths import is_below
from nri_inject.text.words import quoted, suggestion
from nri_inject.text.yamltext import Value


class NamedEntry(Entry[object]):
    """Things that are what they are called."""

    __slots__ = ()


class SysctlEntry(Entry[object]):
    """Sysctls; a rule that denies is for every name of the same setting."""

    __slots__ = ()

    def touches(self, item: Item[object]) -> bool:
        """Tell whether a setting is denied by any of its names."""
        return self.pattern is None or any(sysctls.touches(self.pattern, n) for n in item.names)


def _sysctl(value: Value) -> Pattern:
    found = read_pattern(value)
    if "/" in found.text:
        raise Fault(f"{quoted(found.text)} contains a slash; write the name with dots")
    return found


class Scheduling(NamedTuple):
    """The nice value and the priority that are asked for."""

    nice: int
    priority: int


@dataclass(frozen=True, slots=True)
class SchedulingEntry(Entry[Scheduling]):
    """A scheduling policy, up to a priority."""

    min_nice: int = 0
    max_priority: int = 0

    def within(self, item: Item[Scheduling]) -> str | None:
        """Hold a scheduling policy against a rule that allows."""
        if not self.names(item):
            return ""
        nice, priority = item.facts
        if nice < self.min_nice:
            return f"its min_nice is {self.min_nice}, and {nice} is requested"
        if priority > self.max_priority:
            return f"its max_priority is {self.max_priority}, and {priority} is requested"
        return None


@dataclass(frozen=True, slots=True)
class IoEntry(Entry[int]):
    """A class of I/O priorities, from a priority on; 0 is the highest."""

    priority: int = 0

    def within(self, item: Item[int]) -> str | None:
        """Hold an I/O priority against a rule that allows."""
        if not self.names(item):
            return ""
        if item.facts < self.priority:
            return f"its priority is {self.priority}, and {item.facts}, a higher one, is requested"
        return None


@dataclass(frozen=True, slots=True)
class LimitEntry(Entry[int]):
    """A limit; without `hard` it may be any."""

    hard: int | None = None

    def within(self, item: Item[int]) -> str | None:
        """Hold a hard limit against a rule that allows."""
        if not self.names(item):
            return ""
        if self.hard is not None and item.facts > self.hard:
            return f"its hard limit is {self.hard}, and {item.facts} is requested"
        return None


# Mounts there are the container's view of the kernel, and what the kubelet gives each container.
_GUARDED: Final = ("/proc", "/sys", "/dev", "/run/secrets", "/var/run/secrets")


class Removal(NamedTuple):
    """The field of NRI that something is removed from, and its key there."""

    field: int
    key: str


class RemovalEntry(Entry[Removal]):
    """Things that a plugin removes; what protects the container must be named."""

    __slots__ = ()

    def within(self, item: Item[Removal]) -> str | None:
        """Hold a removal against a rule that allows."""
        if not self.names(item):
            return ""
        stem = self.pattern.stem if self.pattern else ""
        for place in _GUARDED:
            if any(is_below(name, place) for name in item.names) and not is_below(stem, place):
                return f"it does not allow removals at {place}"
        return None


# --- the table ----------------------------------------------------------------------------------


def _one_of(known: Iterable[str]) -> Reader[Pattern]:
    names = tuple(known)

    def read(value: Value) -> Pattern:
        text = read_line(value)
        if text not in names:
            raise Fault(not_one_of(text, names))
        return pattern(text)

    return read


def _limit_name(value: Value) -> Pattern:
    text = read_line(value)
    if not (found := limit_type(text)):
        raise Fault(not_one_of(text, LIMITS))
    return pattern(found)


def _hard(value: Value) -> int | None:
    return None if value == "unlimited" else integer(0, 2**64 - 1)(value)


def _field_name(value: Value) -> Pattern:
    found = read_pattern(value)
    known = [name for name in api.Field.keys() if name != "None"]  # noqa: SIM118 - no mapping
    if not any(found.matches(name) for name in known):
        raise Fault(f"{described(value)} is not a field of NRI; {suggestion(found.text, known)}")
    return found


_POLICIES: Final = tuple(name for name in api.LinuxSchedulerPolicy.keys())  # noqa: SIM118

READERS: Final[Mapping[str, Reader[Entry[Any]]]] = {
    "devices": read_device,
    "cdi_devices": entries(NamedEntry, "name", read=impossible.checked(impossible.check_cdi_name)),
    "mounts": read_mount,
    "network_devices": entries(
        NamedEntry, "name", read=impossible.checked(impossible.check_interface)
    ),
    "sysctl": entries(SysctlEntry, "name", read=_sysctl),
    "scheduling_policy": entries(
        SchedulingEntry,
        "policy",
        Field("min_nice", integer(-20, 19)),
        Field("max_priority", integer(0, 99)),
        read=_one_of(_POLICIES),
    ),
    "io_priority": entries(
        IoEntry,
        "class",
        Field("priority", integer(0, 7)),
        read=_one_of(api.IOPrioClass.keys()),
    ),
    "memory_policy": entries(NamedEntry, "mode", read=_one_of(api.MpolMode.keys())),
    "ulimits": entries(LimitEntry, "type", Field("hard", _hard), read=_limit_name),
    "hooks": entries(NamedEntry, "name"),
    "fields": entries(NamedEntry, "name", read=_field_name),
    "removals": entries(RemovalEntry, "name"),
    "profiles": entries(NamedEntry, "name"),
}
"""How each kind's entries are read."""

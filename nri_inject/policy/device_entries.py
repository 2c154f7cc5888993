"""The devices that a rule names, and when a device lies in them or touches them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from nri_inject.host.access import AUTOMATIC, letters
from nri_inject.host.model import MAX_MAJOR, MAX_MINOR
from nri_inject.policy import impossible
from nri_inject.policy.entries import entries, read_path_pattern
from nri_inject.policy.rules import Entry, Item
from nri_inject.text.fields import (
    Fault,
    Field,
    choice,
    integer,
    read_line,
)
from nri_inject.text.glob import Pattern
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:
    from nri_inject.host.devices.device import Device
    from nri_inject.host.devices.selectors import Selector


def _letters(value: Value) -> frozenset[str]:
    text = read_line(value)
    if not text or not set(text) <= set("rwm"):
        raise Fault(f"{quoted(text)} must be some of the letters r, w and m")
    return frozenset(text)


_TYPES: Final = {"c": "c", "b": "b"}


def _selector(value: Value) -> Selector:
    # Most policies have none, and a plugin that is launched has to be quick.
    from nri_inject.host.devices import selectors

    return selectors.parse(read_line(value))


def _path(value: Value) -> Pattern:
    if isinstance(value, str):
        impossible.check_device(value)
    return read_path_pattern(value)


class DeviceFacts(NamedTuple):
    """A device by its number, -1 for any, and the access that is requested.

    `look` looks at what the host has under the number.
    """

    type: str
    major: int
    minor: int
    access: frozenset[str]
    look: Callable[[], Device | None] | None = None


@dataclass(frozen=True, slots=True)
class DeviceEntry(Entry[DeviceFacts]):
    """Devices by path, by what they are, or by type and number."""

    selector: Selector | None = None
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: frozenset[str] | None = None

    def within(self, item: Item[DeviceFacts]) -> str | None:
        """Hold a device against a rule that allows."""
        facts = item.facts
        if not (self.names(item) and self._has_number(facts) and self._selects(facts)):
            return ""
        if _is_terminal(facts) and not self._names_terminal():
            return "it does not name this terminal, which any user of the host can create"
        kind = self.type or "c"  # whoever writes /dev/* seldom means the disks
        if kind != facts.type:
            return f"it is for type {kind}, and the type is {facts.type}"
        access = AUTOMATIC[kind] if self.access is None else self.access
        if not facts.access <= access:
            return f"its access is {letters(access)}, and {letters(facts.access)} is requested"
        return None

    def touches(self, item: Item[DeviceFacts]) -> bool:
        """Hold a device against a rule that denies: what is not known may be what it means."""
        facts = item.facts
        # Every minor number, and so every name of those devices.
        is_wide = facts.minor < 0 and facts.type != ""
        return (
            (is_wide or (self.names(item) and self._selects(facts) is not False))
            and self._has_number(facts, -1)
            and self.type in (None, facts.type)
            and not facts.access.isdisjoint(facts.access if self.access is None else self.access)
        )

    def _has_number(self, facts: DeviceFacts, *others: int) -> bool:
        pairs = ((self.major, facts.major), (self.minor, facts.minor))
        return all(wanted in (None, has) or has in others for wanted, has in pairs)

    def _selects(self, facts: DeviceFacts) -> bool | None:
        """Tell whether the selector means a device, None if it is not known what that is."""
        if self.selector is None:
            return True
        device = None if facts.look is None else facts.look()
        return None if device is None else self.selector.matches(device)

    def _names_terminal(self) -> bool:
        """Tell whether a rule means terminals: by the whole number, one path, or /dev/pts/*."""
        if self.minor is not None or self.pattern is None:
            return self.minor is not None
        return self.pattern.literal is not None or self.pattern.stem.startswith(_TERMINALS_PLACE)


# The majors of pseudo-terminals (Documentation/admin-guide/devices.txt of Linux). Any user makes
# one by opening /dev/ptmx, and its number goes to the next user's.
_TERMINALS: Final = frozenset({2, 3, *range(128, 144)})
_TERMINALS_PLACE: Final = "/dev/pts/"


def _is_terminal(facts: DeviceFacts) -> bool:
    return facts.type == "c" and facts.major in _TERMINALS


_device: Final = entries(
    DeviceEntry,
    "path",
    Field("device", _selector, to="selector"),
    Field("type", choice(_TYPES)),
    Field("major", integer(0, MAX_MAJOR)),
    Field("minor", integer(0, MAX_MINOR)),
    Field("access", _letters),
    read=_path,
)


def read_device(value: Value) -> DeviceEntry:
    """Read what devices a rule names: by path, by what they are, or by type and number."""
    is_selector = isinstance(value, str) and ":" in value.partition("/")[0]
    entry = _device({"device": value} if is_selector else value)
    is_numbered = entry.type is not None and entry.major is not None
    if entry.pattern is None and entry.selector is None and not is_numbered:
        raise Fault("path, device, or type and major are missing")
    if entry.pattern is not None and entry.selector is not None:
        raise Fault("path and device are mutually exclusive")
    if entry.minor is not None and entry.major is None:
        raise Fault("minor needs major")
    return entry

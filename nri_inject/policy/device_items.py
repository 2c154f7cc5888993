"""The devices that an adjustment gives, each by its number and the host's own names for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.host.access import letters, possible_access, rule_number
from nri_inject.host.model import NotADevice, Number
from nri_inject.policy.device_entries import DeviceFacts
from nri_inject.policy.evaluation import Evaluation
from nri_inject.policy.naming import as_yaml, scalar
from nri_inject.policy.rules import Item
from nri_inject.text.glob import literally
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import plain, quoted

if TYPE_CHECKING:
    from nri_inject.host.devices.device import Device
    from nri_inject.host.devices.inventory import Inventory

_MAX_DEVICES: Final = 512


def devices_of(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item[DeviceFacts]]:
    """Yield the devices, and rules for the device cgroup that come without a device."""
    linux = adjustment.linux
    given = [device for device in linux.devices if not device.path.startswith("-")]
    rules = linux.resources.devices
    crowded = len(given) + len(rules) > _MAX_DEVICES
    numbers = {device_number(device) for device in given}
    rules_of = _RulesOf(rules)
    for device in given:
        own = () if crowded else rules_of(device_number(device))
        yield _too_many(device.path) if crowded else _device(device, own, evaluation)
    for rule in rules:
        if rule.allow and rule_number(rule) not in numbers:
            key = rule_key(rule)
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


def _too_many(key: str) -> Item[DeviceFacts]:
    sentence = f"more than {_MAX_DEVICES} devices and rules are requested"
    return Item("devices", key, quoted(key), (), _NO_DEVICE, trouble=sentence)


_NO_DEVICE: Final = DeviceFacts("", -1, -1, frozenset())


def _device(
    device: api.LinuxDevice, rules: Iterable[api.LinuxDeviceCgroup], evaluation: Evaluation
) -> Item[DeviceFacts]:
    path, number = device.path, device_number(device)
    if not evaluation.reaches_device(path):
        return _unseen_device(path, number, evaluation)
    access = possible_access(number, rules)
    by_number = _names_by_number(number, evaluation)
    names, trouble = _names(path, number, by_number, evaluation)
    if "\0" in path:  # a runtime written in C would make the device at another path
        trouble = "its path contains a NUL"
    resolved = _number(number)
    known = next(iter(names or by_number), "")
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


def _unseen_device(path: str, number: Number, evaluation: Evaluation) -> Item[DeviceFacts]:
    """Return a device at a path that may not be read.

    The host's device at that path is unknown, so no rule can allow it. Another plugin may have read
    it; that result is for the audit. The pod's author reads the error, and may learn of the host's
    devices only if some rule allows one.
    """
    shown = number if _may_learn(evaluation) else ("", -1, -1)
    known = next(iter(_names_by_number(number, evaluation)), "")
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


def _names_by_number(number: Number, evaluation: Evaluation) -> tuple[str, ...]:
    """Return the names that the host has for a number."""
    return evaluation.host.numbers.get(number, ()) if _may_learn(evaluation) else ()


def _device_facts(number: Number, access: frozenset[str], evaluation: Evaluation) -> DeviceFacts:
    return DeviceFacts(*number, access, DeviceLook(number, evaluation.host.inventory))


class DeviceLook:
    """A lookup of the host's device under a number, done when a rule needs it.

    Lookups of the same number are equal: they find the same device.
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
        return isinstance(other, DeviceLook) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def _shown_device(path: str, resolved: str, known: str) -> str:
    other = plain(known) if known != path else ""
    aside = ", ".join(part for part in (resolved, other) if part)
    return f"device {quoted(path)}" + (f" ({aside})" if aside else "")


def _names(
    path: str, number: Number, by_number: tuple[str, ...], evaluation: Evaluation
) -> tuple[tuple[str, ...], str]:
    """Return the host's names of a device that a container requests at `path`; or the fault.

    `by_number` are those that it has by its number.

    In a user namespace runc mounts the host's node of that path and ignores the number. So if the
    host has a node there, it must be this very device.
    """
    if not path.startswith("/"):
        return (), "its path is not absolute"
    try:
        node = evaluation.host.devices[path]
    except NotADevice as error:
        return (), f"on the host {quoted(path)} {error.why}"
    except KeyError:
        return by_number, ""
    if node.number != number:
        return (), f"the host's {quoted(path)} is {_number(node.number)}, another device"
    if node.doubt is not None:
        return (), f"the identity of the host's {quoted(path)} is uncertain: {node.doubt}"
    # With `..` in it a path is no name: /dev/snd/../mem is nothing of /dev/snd.
    asked = () if ".." in path.split("/") else (clean(path),)
    real = (node.real,) if node.real else ()
    return tuple(dict.fromkeys((*by_number, *real, *asked))), ""


def _number(number: Number) -> str:
    kind, major, minor = number
    return f"{kind} {major}:{minor}" if kind else ""


def _access_rule(
    key: str, rule: api.LinuxDeviceCgroup, evaluation: Evaluation
) -> Item[DeviceFacts]:
    """Return what a rule for the device cgroup gives that comes without a node."""
    kind, major, minor = rule_number(rule)
    trouble = ""
    names: tuple[str, ...] = ()
    if kind not in ("b", "c") or major < 0:
        trouble = "it allows all devices of a type"
    elif minor >= 0:
        names = _names_by_number((kind, major, minor), evaluation)
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


def rule_key(rule: api.LinuxDeviceCgroup) -> str:
    """Return what finds a rule in an adjustment; no path of a device is like it."""
    return f"rule {_shown_rule(rule)} {rule.access}"


def _suggested_device(path: str, known: str, number: Number, access: Iterable[str]) -> str:
    """Return the entries that a rule needs: the device, and the requested path outside of /dev."""
    if not path.startswith("/"):
        # A selector that was not resolved; one with a wildcard would allow more than this device.
        return scalar(path) if ":" in path and path == literally(path) else ""
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


def device_number(device: api.LinuxDevice) -> Number:
    """Return what tells a device of an adjustment from all others."""
    return device.type, device.major, device.minor

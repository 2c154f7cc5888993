"""Selectors: texts that say which devices are meant, by what they are.

    /dev/ttyUSB0, /dev/serial/by-id/...     a path, whichever of a node's paths it is
    /dev/ttyUSB*                            a glob over all paths; nothing in it crosses a slash
    usb:VID:PID[:SERIAL][:INTERFACE]        the nodes of a USB device's functions
    udev:KEY=VALUE[,KEY=VALUE]...           what udev knows, and the attributes of sysfs
    class:NAME                              a kind of hardware, of classes.CLASSES

The last three may be followed by more conditions, as in `usb:046d:0825,CLASS=video`; all of them
must hold. The keys are those of udev's rules: SUBSYSTEM, KERNEL, TAG and ATTR{name} mean the
device itself; SUBSYSTEMS, KERNELS, DRIVERS and ATTRS{name} mean one device of its chain, the
same for all of them (udev(7)). CLASS is ours. Every other key is a property, such as ID_MODEL.

A value is a glob of *, ? and [...]. One with a comma, a colon or a double quote in it is put
into double quotes, inside of which a backslash takes the next character as it is.

Nothing here looks at a host: a device is a value, an inventory is one of many.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypeAlias

from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device, Part, natural
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.fields import Fault
from nri_inject.text.words import quoted, suggestion

# In characters. A path of Linux may be longer, but no name that anybody looks for is.
MAX_SELECTOR: Final = 512
_MAX_CONDITIONS: Final = 8

_Matches: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a selector demands of a device.

    `says` is the condition as it would be written; `shows` returns the device's own value.
    `steps` is what it costs to ask one device, for a budget.
    """

    says: str
    holds: Callable[[Device], bool]
    shows: Callable[[Device], str]
    steps: int = 5


@dataclass(frozen=True, slots=True)
class Selector:
    """Which devices are meant: those for which all conditions hold, cheap ones asked first.

    Two selectors are equal if their texts are. `path` is the only path that can be meant, where
    the selector is one.
    """

    text: str
    conditions: tuple[Condition, ...] = field(compare=False, repr=False)
    path: str | None = field(default=None, compare=False)

    def matches(self, device: Device) -> bool:
        """Tell whether this device is meant."""
        return all(condition.holds(device) for condition in self.conditions)

    def select(self, devices: Iterable[Device], spend: Spend = unlimited) -> list[Device]:
        """Return the devices that are meant, in the natural order of their paths.

        `spend` is called with the steps that each device costs.
        """
        found = [device for device in devices if self._selects(device, spend)]
        return sorted(found, key=lambda device: natural(device.path))

    def _selects(self, device: Device, spend: Spend) -> bool:
        for condition in self.conditions:
            spend(condition.steps)
            if not condition.holds(device):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Miss:
    """A device that is not meant, and the conditions that do not hold, each with what is."""

    device: Device
    unmet: tuple[tuple[str, str], ...]


def parse(text: str) -> Selector:
    """Read a selector; Fault with a sentence if it is none."""
    if len(text) > MAX_SELECTOR:
        raise Fault(f"{quoted(text)} is longer than {MAX_SELECTOR} characters")
    if text.startswith("/"):
        return _parse_path(text)
    kind, colon, rest = text.partition(":")
    reader = _KINDS.get(kind) if colon else None
    if reader is None:
        raise Fault(
            f"{quoted(text)} is not a selector;"
            " write a path, usb:VID:PID, udev:KEY=VALUE or class:NAME"
        )
    items = _split(rest, ",")
    if len(items) > _MAX_CONDITIONS:
        raise Fault(f"{len(items)} conditions, at most {_MAX_CONDITIONS} allowed")
    return Selector(text, _in_order(reader(items)))


def misses(selector: Selector, devices: Sequence[Device], most: int) -> list[Miss]:
    """Return up to `most` of the devices that come nearest to being meant.

    Of a path those with a similar one come near, otherwise those for which at least half of the
    conditions hold.
    """
    if selector.text.startswith("/"):
        return _similar(selector, devices, most)
    near: list[tuple[int, Miss]] = []
    for device in devices:
        unmet = [c for c in selector.conditions if not c.holds(device)]
        if 0 < 2 * len(unmet) <= len(selector.conditions):
            near.append((len(unmet), _miss(device, unmet)))
    near.sort(key=lambda item: (item[0], natural(item[1].device.path)))
    return [miss for _, miss in near[:most]]


def _similar(selector: Selector, devices: Sequence[Device], most: int) -> list[Miss]:
    by_path = {path: device for device in devices for path in device.paths}
    below = f"{selector.path}/"
    inside = {by_path[path].path: by_path[path] for path in by_path if path.startswith(below)}
    if inside:  # it is a directory
        nearest = sorted(inside.values(), key=lambda device: natural(device.path))[:most]
        return [_miss(device, selector.conditions) for device in nearest]
    paths = difflib.get_close_matches(selector.text, by_path, n=most)
    similar = {by_path[path].path: by_path[path] for path in paths}
    return [_miss(device, selector.conditions) for device in similar.values()]


def _miss(device: Device, unmet: Iterable[Condition]) -> Miss:
    return Miss(device, tuple((condition.says, condition.shows(device)) for condition in unmet))


# --- paths --------------------------------------------------------------------------------------

_GLOB: Final = re.compile(r"[*?[]")


def _parse_path(text: str) -> Selector:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Fault(f"{quoted(text)} contains '..'")
    path = "/" + "/".join(parts)
    if path in ("/", "/dev"):
        raise Fault(f"{quoted(text)} is a directory")
    if not _GLOB.search(path):
        return Selector(text, (Condition(path, lambda device: path in device.paths, _paths),), path)
    if "**" in path:
        raise Fault(f"{quoted(text)}: '**' is not known; '*' matches one name or a part of it")
    if parts[0] != "dev":
        raise Fault(f"{quoted(text)} does not begin with /dev/, where the host's nodes are")
    patterns = [_glob(part) for part in parts]
    return Selector(text, (Condition(path, lambda d: _any_path(patterns, d), _paths),))


def _any_path(patterns: Sequence[_Matches], device: Device) -> bool:
    return any(_path_matches(patterns, path) for path in device.paths)


def _path_matches(patterns: Sequence[_Matches], path: str) -> bool:
    parts = path[1:].split("/")
    return len(parts) == len(patterns) and all(
        matches(part) for matches, part in zip(patterns, parts, strict=True)
    )


def _paths(device: Device) -> str:
    return " ".join(device.paths)


# --- usb, udev, class ---------------------------------------------------------------------------

_HEX4: Final = re.compile("[0-9a-fA-F]{4}")
_HEX2: Final = re.compile("[0-9a-fA-F]{1,2}")


def _read_usb(items: Sequence[str]) -> list[Condition]:
    fields = _split(items[0], ":")
    if not 2 <= len(fields) <= 4:
        raise Fault(f"usb:{items[0]} is not of the form usb:VID:PID[:SERIAL][:INTERFACE]")
    vendor, product, serial, interface = (*fields, "", "")[:4]
    _check_id(vendor, "vendor")
    if product != "*":
        _check_id(product, "product")
    wanted = {"idVendor": vendor.lower(), "idProduct": product.lower()}
    conditions = [_usb(name, _glob(value), value) for name, value in wanted.items()]
    if serial:
        value = _value(serial)
        conditions.append(_usb("serial", _glob(value), value))
    if interface:
        conditions.append(_usb_interface(interface))
    more = _read_conditions(items[1:])
    if not any(_names_subsystem(item) for item in items[1:]):
        # The bus node is the whole device, past all its drivers; who wants that says so.
        conditions.append(
            Condition("not its bus node", lambda device: device.subsystem != "usb", _subsystem)
        )
    return [*conditions, *more]


def _names_subsystem(item: str) -> bool:
    return item.startswith(("SUBSYSTEM=", "CLASS="))


def _check_id(text: str, which: str) -> None:
    if not _HEX4.fullmatch(text):
        raise Fault(f"{which} {quoted(text)} is not four hexadecimal digits, as in usb:1a86:7523")


def _usb(name: str, matches: _Matches, says: str) -> Condition:
    return Condition(
        f"USB {name} {says}",
        lambda device: _has(device.usb_device(), name, matches),
        lambda device: _shown_attribute(device.usb_device(), name, "no USB device"),
    )


def _usb_interface(text: str) -> Condition:
    if not _HEX2.fullmatch(text):
        raise Fault(f"interface {quoted(text)} is not one or two hexadecimal digits, as in 00")
    number = text.lower().zfill(2)
    return Condition(
        f"USB interface {number}",
        lambda device: _has(device.usb_interface(), "bInterfaceNumber", number.__eq__),
        lambda device: _shown_attribute(
            device.usb_interface(), "bInterfaceNumber", "no USB interface"
        ),
    )


def _has(part: Part | None, name: str, matches: _Matches) -> bool:
    value = None if part is None else part.attributes.get(name)
    return value is not None and bool(matches(value))


def _shown_attribute(part: Part | None, name: str, otherwise: str) -> str:
    return otherwise if part is None else part.attributes.get(name) or "none"


def _read_class(items: Sequence[str]) -> list[Condition]:
    return [_class(items[0]), *_read_conditions(items[1:])]


# --- conditions ---------------------------------------------------------------------------------

_OWN: Final[Mapping[str, Callable[[Device], str]]] = {
    "SUBSYSTEM": lambda device: device.subsystem,
    "KERNEL": lambda device: device.name,
}
_PARENTS: Final[Mapping[str, Callable[[Part], str]]] = {
    "SUBSYSTEMS": lambda part: part.subsystem,
    "KERNELS": lambda part: part.name,
    "DRIVERS": lambda part: part.driver,
}
_KEYS: Final = (*_OWN, "TAG", "CLASS", *_PARENTS)
_ATTRIBUTE: Final = re.compile(r"(ATTRS?)\{([^{}]*)\}")
# One file of the device's own directory in sysfs; nothing that leads elsewhere.
_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_PROPERTY: Final = re.compile(r"[A-Za-z_.][A-Za-z0-9_.]*")


def _read_conditions(items: Sequence[str]) -> list[Condition]:
    conditions: list[Condition] = []
    of_parents: list[tuple[str, Callable[[Part], bool]]] = []
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise Fault(f"{quoted(item)} is not of the form KEY=VALUE")
        if not text:
            raise Fault(f"{quoted(key)} has no value; '*' matches any")
        if text.startswith("="):  # as in udev's rules, which have other operators, too
            raise Fault(f"{quoted(item)} contains two '='; write one, as in SUBSYSTEM=tty")
        _read_condition(key, text, conditions, of_parents)
    if of_parents:
        conditions.append(_one_of_chain(of_parents))
    return conditions


_KINDS: Final[Mapping[str, Callable[[Sequence[str]], list[Condition]]]] = {
    "usb": _read_usb,
    "udev": _read_conditions,
    "class": _read_class,
}


def _read_condition(
    key: str,
    text: str,
    conditions: list[Condition],
    of_parents: list[tuple[str, Callable[[Part], bool]]],
) -> None:
    value = _value(text)
    matches = _glob(value)
    says = f"{key}={text}"
    attribute = _ATTRIBUTE.fullmatch(key)
    if attribute:
        _check_attribute(attribute[2])
        name = attribute[2]
        if attribute[1] == "ATTR":
            conditions.append(_own_attribute(says, name, matches))
        else:
            of_parents.append((says, lambda part: _has(part, name, matches)))
    elif key in _PARENTS:
        of = _PARENTS[key]
        of_parents.append((says, lambda part: bool(matches(of(part)))))
    elif key in _OWN:
        conditions.append(_own(says, _OWN[key], matches))
    elif key == "CLASS":
        conditions.append(_class(value))
    elif key == "TAG":
        conditions.append(_tag(says, matches))
    else:
        _check_property(key)
        conditions.append(_property(says, key, matches))


def _check_attribute(name: str) -> None:
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise Fault(f"{quoted(name)} is not the name of an attribute, a file of the device in /sys")


def _check_property(key: str) -> None:
    if not _PROPERTY.fullmatch(key):
        raise Fault(f"{quoted(key)} is not the name of a property, as in ID_SERIAL")
    if key.upper() in _KEYS:
        raise Fault(f"unknown key {quoted(key)}; {suggestion(key, _KEYS)}")


def _own(says: str, of: Callable[[Device], str], matches: _Matches) -> Condition:
    return Condition(says, lambda device: bool(matches(of(device))), lambda d: of(d) or "none")


def _own_attribute(says: str, name: str, matches: _Matches) -> Condition:
    def holds(device: Device) -> bool:
        value = device.attribute(name)
        return value is not None and bool(matches(value))

    return Condition(says, holds, lambda device: device.attribute(name) or "none")


def _property(says: str, name: str, matches: _Matches) -> Condition:
    def holds(device: Device) -> bool:
        value = device.properties().get(name)
        return value is not None and bool(matches(value))

    return Condition(says, holds, lambda d: d.properties().get(name, "none"))


def _tag(says: str, matches: _Matches) -> Condition:
    return Condition(
        says,
        lambda device: any(matches(tag) for tag in device.tags),
        lambda device: " ".join(device.tags) or "none",
    )


def _class(name: str) -> Condition:
    if name not in CLASSES:
        raise Fault(f"class {quoted(name)} is unknown; {suggestion(name, tuple(CLASSES))}")
    return Condition(f"class {name}", CLASSES[name].holds, _subsystem)


def _subsystem(device: Device) -> str:
    return f"subsystem {device.subsystem or 'none'}"


def _one_of_chain(wanted: Sequence[tuple[str, Callable[[Part], bool]]]) -> Condition:
    def holds(device: Device) -> bool:
        return any(all(is_so(part) for _, is_so in wanted) for part in device.chain())

    says = ",".join(says for says, _ in wanted)
    return Condition(
        says,
        holds,
        lambda d: " in ".join(part.name for part in d.chain()) or "none",
        steps=5 * len(wanted),
    )


def _in_order(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Put in front what costs nothing to ask: it needs no file to be read."""
    return tuple(sorted(conditions, key=lambda c: not c.says.startswith(("SUBSYSTEM=", "KERNEL="))))


# --- text ---------------------------------------------------------------------------------------


# What stands between two separators, quotes taken as a whole.
_UP_TO: Final = {
    separator: re.compile(rf'(?:[^"{separator}]++|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
    for separator in ",:"
}


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that are not quoted."""
    parts: list[str] = []
    position = 0
    while part := _UP_TO[separator].match(text, position):
        parts.append(part[0])
        position = part.end() + 1
        if part.end() == len(text):
            break
        if text[part.end()] != separator:
            raise Fault(f"{quoted(text)} contains a quote that is not closed")
    return parts


_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def _value(text: str) -> str:
    whole = _QUOTED.fullmatch(text)
    if whole:
        return re.sub(r"\\(.)", r"\1", whole[1], flags=re.DOTALL)
    if '"' in text:
        raise Fault(f"{quoted(text)} contains a double quote; put the whole value in quotes")
    return text


def _glob(pattern: str) -> _Matches:
    """Return what matches a pattern; its cost is bounded by the two lengths multiplied.

    It is compiled when it is first asked: of a thousand selectors in one text few are used.
    """
    matching = cache(lambda: re.compile(fnmatch.translate(pattern)).match)
    return lambda text: matching()(text)

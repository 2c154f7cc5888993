"""What a rule may name of each kind of thing, and when an item lies in it or touches it.

The kinds are called as the annotations that ask for them. Each has a reader of a rule's entry,
a text or a map, and the two comparisons of rules.Kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nri_inject import api
from nri_inject.host.access import AUTOMATIC, letters
from nri_inject.policy import mount_options, never, sysctls
from nri_inject.policy.rules import Entry, Item, Kind
from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    choice,
    described,
    integer,
    list_of,
    map_of,
    not_one_of,
    read_line,
    wrong_type,
)
from nri_inject.text.glob import Pattern, pattern
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import quoted, suggestion
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:
    from nri_inject.host.devices.device import Device
    from nri_inject.host.devices.selectors import Selector

# --- reading entries ----------------------------------------------------------------------------


def read_pattern(value: Value) -> Pattern:
    """Read a pattern of names."""
    return pattern(read_line(value))


def _path_pattern(value: Value) -> Pattern:
    found = read_pattern(value)
    text = found.text
    if not text.startswith("/") or text != clean(text):
        raise Fault(f"{quoted(text)} is not an absolute path without '.', '..' and doubled slashes")
    return found


def _checked(check: Callable[[Pattern], None]) -> Reader[Pattern]:
    """Return a reader of a pattern; `check` refuses one that can match nothing."""

    def read(value: Value) -> Pattern:
        found = read_pattern(value)
        check(found)
        return found

    return read


def _device_pattern(value: Value) -> Pattern:
    if isinstance(value, str):
        never.check_device(value)
    return _path_pattern(value)


def _letters(value: Value) -> frozenset[str]:
    text = read_line(value)
    if not text or not set(text) <= set("rwm"):
        raise Fault(f"{quoted(text)} is not some of the letters r, w and m")
    return frozenset(text)


def _entries(name: str, *more: Field, read: Reader[Pattern] = read_pattern) -> Reader[Entry]:
    """Return a reader of entries that are a text, or a map with the text under `name`."""
    read_map = map_of((Field(name, read), *more), strict=True)
    keys = ", ".join((name, *(field.name for field in more)))

    def read_entry(value: Value) -> Entry:
        if value is None:
            raise wrong_type(value, f"a text or a map with {keys}")
        if not isinstance(value, dict):
            return Entry(read(value), {})
        given = read_map(value)
        found = given.pop(name, None)
        if found is None and not given:
            raise Fault(f"{name} is missing")
        return Entry(found, given)

    return read_entry


# --- devices ------------------------------------------------------------------------------------

_TYPES: Final = {"c": "c", "b": "b"}


def _selector(value: Value) -> Selector:
    # Most policies have none, and a plugin that is launched has to be quick.
    from nri_inject.host.devices import selectors

    return selectors.parse(read_line(value))


_device: Final = _entries(
    "path",
    Field("device", _selector),
    Field("type", choice(_TYPES)),
    Field("major", integer(0, 2**12 - 1)),
    Field("minor", integer(0, 2**20 - 1)),
    Field("access", _letters),
    read=_device_pattern,
)


def read_device(value: Value) -> Entry:
    """Read what devices a rule names: by path, by what they are, or by type and number."""
    is_selector = isinstance(value, str) and ":" in value.partition("/")[0]
    entry = _device({"device": value} if is_selector else value)
    numbered = "major" in entry.conditions
    selected = "device" in entry.conditions
    if entry.pattern is None and not selected and not ("type" in entry.conditions and numbered):
        raise Fault("path is missing, or device, or type and major instead")
    if entry.pattern is not None and selected:
        raise Fault("path and device are both given")
    if "minor" in entry.conditions and not numbered:
        raise Fault("minor says nothing without major")
    return entry


def _device_within(entry: Entry, item: Item) -> str | None:
    conditions, facts = entry.conditions, item.facts
    if not _named(entry, item) or not _numbered(conditions, facts) or not _selected(entry, item):
        return ""
    if _is_terminal(facts) and not _names_terminal(entry):
        return "it does not name this terminal, and any user of the host can make one appear"
    # Whoever writes /dev/* seldom means the disks.
    kind = conditions.get("type", "c")
    if kind != facts["type"]:
        return f"it is for type {kind}, and this is {facts['type']}"
    access: frozenset[str] = conditions.get("access", AUTOMATIC[kind])
    if not facts["access"] <= access:
        return f"its access is {letters(access)}, and {letters(facts['access'])} is asked for"
    return None


# The majors of pseudo-terminals (Documentation/admin-guide/devices.txt of Linux). Any user makes
# one by opening /dev/ptmx, and its number goes to the next user's.
_TERMINALS: Final = frozenset({2, 3, *range(128, 144)})
_TERMINALS_PLACE: Final = "/dev/pts/"


def _is_terminal(facts: Mapping[str, Any]) -> bool:
    return facts["type"] == "c" and facts["major"] in _TERMINALS


def _names_terminal(entry: Entry) -> bool:
    """Tell whether a rule means terminals: by the whole number, one path, or /dev/pts/*."""
    wanted = entry.pattern
    if "minor" in entry.conditions or wanted is None:
        return "minor" in entry.conditions
    return wanted.literal is not None or wanted.stem.startswith(_TERMINALS_PLACE)


def _device_touches(entry: Entry, item: Item) -> bool:
    conditions, facts = entry.conditions, item.facts
    # Every minor number, and so every name of those devices.
    is_wide = facts["minor"] < 0 and facts["type"] != ""
    return (
        (is_wide or (_named(entry, item) and _may_be_selected(entry, item)))
        and _numbered(conditions, facts, -1)
        and conditions.get("type", facts["type"]) == facts["type"]
        and not facts["access"].isdisjoint(conditions.get("access", facts["access"]))
    )


def _numbered(conditions: Mapping[str, Any], facts: Mapping[str, Any], *others: int) -> bool:
    return all(
        facts[key] in (conditions[key], *others) for key in ("major", "minor") if key in conditions
    )


def _selected(entry: Entry, item: Item) -> bool:
    return "device" not in entry.conditions or _meant(entry, item) is True


def _may_be_selected(entry: Entry, item: Item) -> bool:
    """Tell the same for a rule that denies: what is not known may be what it means."""
    return "device" not in entry.conditions or _meant(entry, item) is not False


def _meant(entry: Entry, item: Item) -> bool | None:
    """Tell whether an entry's selector means a device, None if it is not known what that is."""
    selector: Selector = entry.conditions["device"]
    look: Callable[[], Device | None] | None = item.facts.get("device")
    device = look() if look is not None else None
    return None if device is None else selector.matches(device)


def _named(entry: Entry, item: Item) -> bool:
    return entry.pattern is None or any(entry.pattern.matches(name) for name in item.names)


# --- mounts -------------------------------------------------------------------------------------

# Nothing that these do reaches beyond the mount or gives more than it has.
HARMLESS: Final = frozenset(
    {
        *("bind", "rbind", "ro", "rro", "rw", "nosuid", "nodev", "noexec", "sync", "dirsync"),
        *("private", "rprivate", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"),
    }
)
"""Mount options that a rule need not name."""

PROTECTED: Final = ("/proc", "/sys", "/dev", "/etc/passwd", "/etc/group", "/etc/shadow")
"""Places of a container that a rule for mounts reaches only by naming them."""

_ACCESS: Final = {"ro": False, "rw": True}


def _option(value: Value) -> Pattern:
    found = read_pattern(value)
    if "," in found.text:
        raise Fault(f"{quoted(found.text)} has a comma; make each option an item of its own")
    return found


_mount: Final = _entries(
    "source",
    Field("access", choice(_ACCESS)),
    Field("destination", _path_pattern),
    Field("type", read_line),
    Field("options", list_of(_option)),
    read=_path_pattern,
)


def read_mount(value: Value) -> Entry:
    """Read what mounts a rule names: by source and all below it, or by type."""
    entry = _mount(value)
    if entry.pattern is None and entry.conditions.get("type", "bind") == "bind":
        raise Fault("source is missing, or the type of a file system that needs none")
    return entry


def _mount_within(entry: Entry, item: Item) -> str | None:
    conditions, facts = entry.conditions, item.facts
    if not _source_within(entry, item):
        return ""
    kind = conditions.get("type", "bind")
    if kind != facts["type"]:
        return f"it is for type {kind}, and this is {quoted(facts['type'])}"
    if facts["writable"] and not conditions.get("access", False):
        return facts["why_writable"] or "it is for reading only (access: ro)"
    destination: Pattern | None = conditions.get("destination")
    if destination is not None and not destination.matches(facts["destination"]):
        return f"its destination is {destination.text}"
    if protected := _protected(facts["destination"], destination):
        return f"it does not name a destination at {protected}"
    unknown = sorted(_unnamed(facts["options"] - HARMLESS, conditions.get("options", ())))
    if unknown:
        shown = ", ".join(map(quoted, unknown[:_ENOUGH]))
        more = f" and {len(unknown) - _ENOUGH} more" if len(unknown) > _ENOUGH else ""
        return f"it does not have the options {shown}{more}"
    return None


_ENOUGH: Final = 3


def _unnamed(options: Iterable[str], patterns: Sequence[Pattern]) -> Iterator[str]:
    return (option for option in options if not mount_options.is_named(option, patterns))


def _source_within(entry: Entry, item: Item) -> bool:
    """Tell whether the entry's source has the item's; without one it is for what has no path.

    Of a path that no rule names it is not known where it leads.
    """
    wanted = entry.pattern
    if wanted is None:
        return not any(name.startswith("/") for name in item.names)
    return any(wanted.covers(name) for name in item.names)


def _protected(destination: str, named: Pattern | None) -> str:
    """Return the protected place that a mount would cover, unless the rule means it."""
    for place in PROTECTED:
        covers = is_below(destination, place) or is_below(place, destination)
        if covers and not (named and is_below(named.stem, place)):
            return place
    return ""


def _mount_touches(entry: Entry, item: Item) -> bool:
    conditions, facts = entry.conditions, item.facts
    if "type" in conditions and conditions["type"] != facts["type"]:
        return False
    if conditions.get("access") and not facts["writable"]:
        return False  # what is denied is writing
    destination: Pattern | None = conditions.get("destination")
    if destination is not None and not _meets(destination, facts["destination"]):
        return False
    if "options" in conditions:
        options: frozenset[str] = facts["options"]
        patterns: Sequence[Pattern] = conditions["options"]
        if not any(pattern.matches(option) for option in options for pattern in patterns):
            return False
    return entry.pattern is None or any(_meets(entry.pattern, name) for name in item.names)


def _meets(pattern: Pattern, path: str) -> bool:
    """Tell whether a path lies in what a pattern stands for, or has some of that inside."""
    return pattern.covers(path) or pattern.reaches_into(path)


# --- what has a name and little else ------------------------------------------------------------


def _name_within(entry: Entry, item: Item) -> str | None:
    return None if _named(entry, item) else ""


_BY_NAME: Final = Kind(_name_within, _named)


def _sysctl(value: Value) -> Pattern:
    found = read_pattern(value)
    if "/" in found.text:
        raise Fault(f"{quoted(found.text)} has a slash; write the name with dots")
    return found


def _sysctl_touches(entry: Entry, item: Item) -> bool:
    return any(entry.pattern is None or sysctls.touches(entry.pattern, n) for n in item.names)


def _scheduling_within(entry: Entry, item: Item) -> str | None:
    if not _named(entry, item):
        return ""
    conditions, facts = entry.conditions, item.facts
    if facts["nice"] < conditions.get("min_nice", 0):
        return f"its min_nice is {conditions.get('min_nice', 0)}, and {facts['nice']} is asked for"
    if facts["priority"] > conditions.get("max_priority", 0):
        most = conditions.get("max_priority", 0)
        return f"its max_priority is {most}, and {facts['priority']} is asked for"
    return None


def _io_within(entry: Entry, item: Item) -> str | None:
    if not _named(entry, item):
        return ""
    best = entry.conditions.get("priority", 0)
    if item.facts["priority"] < best:  # 0 is the highest
        return f"its priority is {best}, and {item.facts['priority']}, a higher one, is asked for"
    return None


def _limit_within(entry: Entry, item: Item) -> str | None:
    if not _named(entry, item):
        return ""
    most = entry.conditions.get("hard")
    if most is not None and item.facts["hard"] > most:
        return f"its hard limit is {most}, and {item.facts['hard']} is asked for"
    return None


# Mounts there are the container's view of the kernel, and what the kubelet gives each container.
_GUARDED: Final = ("/proc", "/sys", "/dev", "/run/secrets", "/var/run/secrets")


def _removal_within(entry: Entry, item: Item) -> str | None:
    if not _named(entry, item):
        return ""
    stem = entry.pattern.stem if entry.pattern else ""
    for place in _GUARDED:
        if any(is_below(name, place) for name in item.names) and not is_below(stem, place):
            return f"it does not name what is at {place}"
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


LIMITS: Final = (
    *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE"),
    *("NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
)
"""The limits of Linux (getrlimit(2)), without the RLIMIT_ in front."""


def _limit_name(value: Value) -> Pattern:
    text = read_line(value)
    name = text.upper().removeprefix("RLIMIT_")
    # The capital of the dotless i is the I of ASCII.
    if name not in LIMITS or not text.isascii():
        raise Fault(not_one_of(text, LIMITS))
    return pattern(f"RLIMIT_{name}")


def _hard(value: Value) -> int | None:
    return None if value == "unlimited" else integer(0, 2**64 - 1)(value)


def _field_name(value: Value) -> Pattern:
    found = read_pattern(value)
    known = [name for name in api.Field.keys() if name != "None"]  # noqa: SIM118 - no mapping
    if not any(found.matches(name) for name in known):
        raise Fault(f"{described(value)} is no field of NRI; {suggestion(found.text, known)}")
    return found


_POLICIES: Final = tuple(name for name in api.LinuxSchedulerPolicy.keys())  # noqa: SIM118

KINDS: Final[Mapping[str, Kind]] = {
    "devices": Kind(_device_within, _device_touches),
    "cdi_devices": _BY_NAME,
    "mounts": Kind(_mount_within, _mount_touches),
    "network_devices": _BY_NAME,
    "sysctl": Kind(_name_within, _sysctl_touches),
    "scheduling_policy": Kind(_scheduling_within, _named),
    "io_priority": Kind(_io_within, _named),
    "memory_policy": _BY_NAME,
    "ulimits": Kind(_limit_within, _named),
    "hooks": _BY_NAME,
    "fields": _BY_NAME,
    "removals": Kind(_removal_within, _named),
}
"""How each kind's entries are compared, by the kind's name in a policy."""

READERS: Final[Mapping[str, Callable[[Value], Entry]]] = {
    "devices": read_device,
    "cdi_devices": _entries("name", read=_checked(never.check_cdi_name)),
    "mounts": read_mount,
    "network_devices": _entries("name", read=_checked(never.check_interface)),
    "sysctl": _entries("name", read=_sysctl),
    "scheduling_policy": _entries(
        "policy",
        Field("min_nice", integer(-20, 19)),
        Field("max_priority", integer(0, 99)),
        read=_one_of(_POLICIES),
    ),
    "io_priority": _entries(
        "class",
        Field("priority", integer(0, 7)),
        read=_one_of(api.IOPrioClass.keys()),
    ),
    "memory_policy": _entries("mode", read=_one_of(api.MpolMode.keys())),
    "ulimits": _entries("type", Field("hard", _hard), read=_limit_name),
    "hooks": _entries("name"),
    "fields": _entries("name", read=_field_name),
    "removals": _entries("name"),
}
"""How each kind's entries are read."""

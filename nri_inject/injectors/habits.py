"""How other tools write a device, and the item of an annotation that means the same here.

People copy from docker, Compose, Kubernetes, CDI and device plugins. Their spelling is no item, and
the sentence about it has the item to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

from nri_inject.cdi import names
from nri_inject.host.devices.classes import CLASSES
from nri_inject.injectors.elsewhere import elsewhere
from nri_inject.text.fields import MAX_FAULTS, Fault, Problem, folded
from nri_inject.text.flow import advice
from nri_inject.text.modes import octal_of
from nri_inject.text.words import MAX_EXCERPT, quoted, suggestion
from nri_inject.text.yamltext import Value

HabitItem: TypeAlias = "str | dict[str, object]"

KEYS: Final = (
    *("device", "path", "as", "access", "file_mode", "owner", "uid", "gid"),
    *("optional", "on_change", "count", "links", "type", "major", "minor"),
)
"""All keys of an item, those that most items need in front."""

# What is longer is no device that somebody has copied from a page.
_MAX_TEXT: Final = 512


# --- a text ---------------------------------------------------------------------------------------


def problem_of_text(text: str) -> Problem | None:
    """Return what is wrong with a text as an item, if it is how another tool writes a device."""
    if len(text) > _MAX_TEXT:
        return None
    bare = _OPTION.sub("", text.strip())
    if _is_cdi_name(bare):
        return elsewhere(text, "the name of a CDI device", "cdi-devices.noderesource.dev", [bare])
    if rule := _CGROUP_RULE.fullmatch(bare):
        return _of_rule(text, rule)
    parts = _BETWEEN.split(bare)
    if len(parts) > 1 and all(part.startswith("/") for part in parts):
        items = [_item(part) or part for part in parts]
        return Problem("", (), f"{quoted(text)} is one text; write a list: {advice(items)}")
    if expanded := _expanded(bare):
        return Problem("", (), f"{quoted(text)} has braces; write a list: {advice(expanded)}")
    item = _item(bare) or (_many(bare) if bare != text and bare.startswith("/") else None)
    if item is not None:
        sentence = f"{quoted(text)} is how docker writes a device; write {advice(item)}"
        return Problem("", (), sentence)
    named = None if bare.startswith("/") else _named(bare)
    if named is None:
        return None
    return Problem(
        "", (), f"{quoted(text)} is neither a path nor a selector; write {advice(named)}"
    )


# Of docker and podman; the option may have been copied with its value.
_OPTION: Final = re.compile(r"^(?:--device(?:=|\s+)|-\s+|(?:path|device):(?=/))(?=\S)")
_BETWEEN: Final = re.compile(r"\s*[,;\s]\s*")
# HOST[:CONTAINER][:LETTERS]. A colon in the host's path, as in by-path links, stays in it.
_COLONS: Final = re.compile(
    r"(?P<device>/.+?)(?::(?P<inside>/[^:]*))?(?::(?P<access>[rwmx]{1,4}|ro))?", re.DOTALL
)
_CGROUP_RULE: Final = re.compile(r"[abc] +(?P<major>[0-9]+|\*):(?P<minor>[0-9]+|\*)(?: +[rwm]+)?")
_BRACES: Final = re.compile(r"(/[^{}]*)\{([^{}]*)\}([^{}]*)")
_RANGE: Final = re.compile(r"([0-9]{1,3})\.\.([0-9]{1,3})")


def _is_cdi_name(text: str) -> bool:
    try:
        names.parse(text)
    except Fault:
        return False
    return True


def _of_rule(text: str, rule: re.Match[str]) -> Problem:
    way_out = "; name the device by its path, as in {device: /dev/ttyUSB0, access: rw}"
    if "*" in rule.groups():
        way_out = (
            "; access to all devices of a major number cannot be requested: name them, as in"
            ' {device: "/dev/ttyUSB*", count: all}'
        )
    return Problem("", (), f"{quoted(text)} is a rule for the device cgroup{way_out}")


def colons(text: str) -> dict[str, str] | None:
    """Return the item of docker's HOST:CONTAINER:LETTERS, None for another text."""
    match = _COLONS.fullmatch(text)
    if match is None or not (match["inside"] or match["access"]):
        return None
    item = {"device": match["device"]}
    if match["inside"] and match["inside"] != match["device"]:
        item["as"] = match["inside"]
    letters = {"ro": "r"}.get(match["access"] or "", match["access"] or "")
    access = "".join(letter for letter in "rwm" if letter in letters)
    return {**item, "access": access} if access else item


def _item(text: str) -> HabitItem | None:
    """Return the item of docker's spelling, which is a text where nothing more is said."""
    item = colons(text)
    if item is None:
        return None
    return _many({**item}) if len(item) > 1 else _many(item["device"])


def _many(item: HabitItem) -> HabitItem:
    """Let an item with a glob mean all that the glob matches."""
    device = item if isinstance(item, str) else str(item.get("device", ""))
    if device.rstrip("/") in _DIRECTORIES:
        device = f"{device.rstrip('/')}/*"
    if not _GLOB.search(device):
        return item
    rest = {} if isinstance(item, str) else item
    many = {**rest, "device": device, "count": "all"}
    if "as" in many and not _PLACE.search(str(many["as"])):
        del many["as"]
    return many


_GLOB: Final = re.compile(r"[*?[]")
# What docker takes with all that is in it.
_DIRECTORIES: Final = frozenset(
    f"/dev/{name}" for name in ("dri", "snd", "input", "infiniband", "serial/by-id", "net", "vfio")
)
_PLACE: Final = re.compile(r"\{(name|index)\}")


def _expanded(text: str) -> list[str]:
    """Return the paths of a shell's braces, none for a text without."""
    match = _BRACES.fullmatch(text)
    if match is None:
        return []
    head, inner, tail = match.groups()
    if bounds := _RANGE.fullmatch(inner):
        first, last = map(int, bounds.groups())
        words = [str(number) for number in range(first, min(last, first + 15) + 1)]
    else:
        words = inner.split(",")
    return [f"{head}{word}{tail}" for word in words if len(words) > 1]


# What `lsusb` prints, and what udev calls its links.
_USB_ID: Final = re.compile(r"(?:ID )?([0-9a-fA-F]{4}):([0-9a-fA-F]{4})")
_BY_ID: Final = re.compile(r"usb-[\w.:-]+-(?:if[0-9a-f]{2}|port[0-9]+)[\w.-]*")
_RESOURCE: Final = re.compile(r"(?:smarter-devices|squat\.ai|devic\.es|github\.com)/([\w.-]+)")
_WORD: Final = re.compile(r"[A-Za-z][\w.-]{0,31}")
_BELOW_DEV: Final = re.compile(r"(?:\./)?dev/[\w./:-]+|(?:serial|disk|input|dri|snd)/[\w./:-]+")


def _named(text: str) -> HabitItem | None:
    """Return the device that a name stands for which is no path."""
    if match := _USB_ID.fullmatch(text):
        return f"usb:{match[1]}:{match[2]}".lower()
    if _BY_ID.fullmatch(text):
        return f"/dev/serial/by-id/{text}"
    if match := _RESOURCE.fullmatch(text):
        return _of_word(match[1])
    if _BELOW_DEV.fullmatch(text):
        return f"/dev/{text.removeprefix('./').removeprefix('dev/')}"
    return _of_word(text) if _WORD.fullmatch(text) else None


def _of_word(text: str) -> str:
    return f"class:{text}" if text in CLASSES else f"/dev/{text}"


_SELECTORS: Final = ("/", "usb:", "udev:", "class:")


# --- a map ----------------------------------------------------------------------------------------

# Keys in small letters, without dashes and underscores.
_DEVICE_KEYS: Final = (
    *("hostpath", "pathonhost", "source", "src", "host", "hostdevice", "devicepath", "from"),
    *("hostdev", "devicematch"),
)
_AS_KEYS: Final = (
    *("containerpath", "pathincontainer", "target", "destination", "dest", "dst", "mountpath"),
    *("alias", "container", "to", "containerdevice"),
)
_ACCESS_KEYS: Final = (
    *("permissions", "permission", "perms", "perm", "cgrouppermissions", "cgroup", "rights"),
)
_READ_ONLY_KEYS: Final = ("readonly", "ro")
_MODE_KEYS: Final = ("filemode", "mode", "chmod")
_OWNER_KEYS: Final = {"user": "uid", "userid": "uid", "group": "gid", "groupid": "gid"}
_USB_KEYS: Final = (
    *("usb", "vendor", "product", "vendorid", "productid", "idvendor", "idproduct", "vid", "pid"),
)
_NESTED: Final = ("groups", "paths")
_NO_MEANING: Final = ("nummaxdevices", "limit", "allow", "maxdevices", "name")

ALIASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_DEVICE_KEYS, "device"),
    **dict.fromkeys(_AS_KEYS, "as"),
    **dict.fromkeys((*_ACCESS_KEYS, *_READ_ONLY_KEYS), "access"),
    **dict.fromkeys(_MODE_KEYS, "file_mode"),
    **_OWNER_KEYS,
    **dict.fromkeys(_USB_KEYS, "device"),
}
"""Keys of other tools, and the key here that says the same."""

_KNOWN: Final = frozenset(KEYS)
_LOCATED: Final = ("device", "as")
_KEPT: Final = frozenset(KEYS) - {"device", "path", "as", "type", "major", "minor"}


def problems_of_map(item: Mapping[str, Value]) -> Iterator[Problem]:
    """Yield what is wrong with an item: keys of others, docker's colons, a glob as a path."""
    for name in ("device", "path"):
        text = item.get(name)
        if isinstance(text, str) and not text.startswith(_SELECTORS):
            problem = problem_of_text(text)
            if problem is not None:
                yield problem.below(name)
    unknown = [*islice((key for key in item if folded(key) not in _KNOWN), MAX_FAULTS)]
    for key in unknown:
        yield _unknown(key)
    if not unknown and not any(map(_is_odd, (item.get("path"), item.get("device")))):
        return
    translated = None if len(item) > MAX_FAULTS else _translated(item)
    if translated is None:
        return
    if not unknown:
        odd = next(str(item[key]) for key in ("path", "device") if _is_odd(item.get(key)))
        what = "how docker writes a device" if colons(odd) else "a pattern, and path is one device"
        if what.startswith("a pattern") and ("device" in item or _is_numbered(item)):
            return
        yield Problem("", (), f"{quoted(odd)} is {what}; write {advice(translated)}")
    elif any(_squeezed(key) in ALIASES or key in _NESTED for key in unknown):
        yield Problem("", (), f"write {advice(translated)} in its place")


def _is_odd(value: Value) -> bool:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.startswith("/"):
        return False
    return colons(value) is not None or bool(_GLOB.search(value))


def _is_numbered(item: Mapping[str, Value]) -> bool:
    return item.get("type") is not None and item.get("major") is not None


def _squeezed(key: str) -> str:
    return re.sub("[-_ ]", "", key[:MAX_EXCERPT]).lower()


def _unknown(key: str) -> Problem:
    ours = ALIASES.get(_squeezed(key))
    if ours in _LOCATED and _squeezed(key) not in _USB_KEYS:
        hint = "use device, and as for another path in the container"
    elif ours is not None:
        hint = f"use {ours}"
    elif key in _NESTED:
        hint = "make each path an item of its own"
    elif _squeezed(key) in _NO_MEANING:
        hint = "leave it out; an item names one device of the node, and is not counted"
    else:
        hint = suggestion(key, KEYS)
    return Problem("unknown-field", (), f"unknown key {quoted(key)}; {hint}", {"field": key})


# --- a whole item in our words --------------------------------------------------------------------


def _translated(item: Mapping[str, Value]) -> object | None:
    """Return the item, or list of items, that means the same here; None if that is not clear."""
    nested = item.get("groups") or item.get("paths")
    if isinstance(nested, list):
        found = [_translated(one) if isinstance(one, dict) else None for one in nested[:16]]
        if not found or None in found:
            return None
        flat = [one for each in found for one in (each if isinstance(each, list) else [each])]
        return flat[0] if len(flat) == 1 else flat
    result: dict[str, object] = {}
    for key, value in item.items():
        if not _add(result, key, value):
            return None
    return _settled(result)


def _add(result: dict[str, object], key: str, value: Value) -> bool:
    """Add to an item what one key says; tell whether that is clear."""
    squeezed = _squeezed(key)
    if folded(key) in _KNOWN:
        result[folded(key)] = value
    elif squeezed in _NO_MEANING or value is None:
        return True
    elif squeezed == "devicematch":
        return _add_match(result, value)
    elif squeezed in _USB_KEYS:
        return _add_usb(result, squeezed, value)
    elif squeezed in _DEVICE_KEYS or squeezed in _AS_KEYS:
        result[ALIASES[squeezed]] = value
    elif squeezed in _READ_ONLY_KEYS and isinstance(value, bool):
        result["access"] = "r" if value else "rw"
    elif squeezed in _ACCESS_KEYS and isinstance(value, str):
        result["access"] = "".join(letter for letter in "rwm" if letter in value) or value
    elif squeezed in _MODE_KEYS:
        return _add_mode(result, value)
    elif squeezed in _OWNER_KEYS and isinstance(value, int):
        result[_OWNER_KEYS[squeezed]] = value
    else:
        return False
    return True


def _add_match(result: dict[str, object], value: Value) -> bool:
    """Add the device of smarter-device-manager's pattern, where a glob says the same."""
    if not isinstance(value, str):
        return False
    text = value.removeprefix("^").removesuffix("$").removeprefix("/dev/").replace(".*", "*")
    text = re.sub(r"(\[[^\]]*\]|\\d)[*+]", "*", text)
    if not re.fullmatch(r"[\w/*-]+", text):
        return False
    result["device"] = f"/dev/{text}"
    return True


def _add_usb(result: dict[str, object], key: str, value: Value) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        return all(_add_usb(result, _squeezed(each), inner) for each, inner in value.items())
    text = f"{value:04d}" if isinstance(value, int) else value
    if not isinstance(text, str):
        return False
    if key == "usb":
        match = _USB_ID.fullmatch(text)
        result["usb"] = [match[1], match[2]] if match else []
        return match is not None
    parts = result.setdefault("usb", ["", ""])
    if key == "serial" and isinstance(parts, list):
        parts.append(text)
        return True
    if not re.fullmatch("(0x)?[0-9a-fA-F]{4}", text) or not isinstance(parts, list):
        return False
    parts[1 if "product" in key or key == "pid" else 0] = text[-4:].lower()
    return True


def _add_mode(result: dict[str, object], value: Value) -> bool:
    if isinstance(value, str) and re.fullmatch("[rwm]{1,3}", value):
        result["access"] = value
        return True
    mode = octal_of(value)
    result["file_mode"] = mode
    return mode is not None


def _settled(result: dict[str, object]) -> object | None:
    """Return an item whose keys go together: device with `as`, no key that says nothing."""
    usb = result.pop("usb", None)
    if isinstance(usb, list):
        if not all(usb):
            return None
        result = {"device": ":".join(["usb", *usb]), **result}
    device = result.get("device", result.get("path"))
    if not isinstance(device, str):
        return None
    inside = result.get("as", result.get("path") if "device" in result else None)
    # The node tells its own type and numbers.
    given: dict[str, object] = {key: result[key] for key in KEYS if key in result and key in _KEPT}
    spelled: dict[str, object] = {"device": device}
    if device.startswith("/"):
        spelled |= colons(device) or {}
    if isinstance(inside, str) and inside != spelled["device"]:
        spelled["as"] = inside
    item = _many({**spelled, **given})
    return item["device"] if isinstance(item, dict) and len(item) == 1 else item

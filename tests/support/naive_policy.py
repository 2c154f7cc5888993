"""A second evaluation of policies: the document itself, asked anew for each thing, in no hurry.

Written from docs/allow-a-device.md, it shares no code with the package: no index, no regular
expressions, no classes. What it takes is the YAML as plain values, an adjustment and a host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nri_inject.api import (
    Adjustment,
    Container,
    IOPrioClass,
    LinuxDevice,
    LinuxSchedulerPolicy,
    Mount,
    MpolMode,
    Pod,
)
from nri_inject.host.model import NotADevice
from nri_inject.injectors.host import Host

Document = Mapping[str, Any]
Table = Sequence[tuple[str, str, str]]  # where a mount is, its file system, the directory in that
USUAL = {"c": set("rw"), "b": set("rwm")}
PROTECTED = ["/proc", "/sys", "/dev", "/etc/passwd", "/etc/group", "/etc/shadow"]
GUARDED = ["/proc", "/sys", "/dev", "/run/secrets", "/var/run/secrets"]
TERMINALS = [2, 3, *range(128, 144)]
USUAL_OPTIONS = {
    *("bind", "rbind", "ro", "rro", "rw", "nosuid", "nodev", "noexec", "sync", "dirsync"),
    *("private", "rprivate", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"),
}


class Asker(NamedTuple):
    """Who asks, and on which host."""

    pod: Pod
    container: Container
    plugin: str
    host: Host
    mounts: Table = ()


def allowed(
    document: Document, asker: Asker, adjustment: Adjustment
) -> dict[tuple[str, str], bool]:
    """Return whether each thing that is asked for is allowed, by kind and key."""
    return {
        (kind, key): verdict(document, asker, kind, thing)
        for kind, key, thing in things(document, asker, adjustment)
    }


def verdict(document: Document, asker: Asker, kind: str, thing: Any) -> bool:
    if thing is None:  # nothing can allow it
        return False
    for rule in document.get("rules", []):
        if not includes(rule.get("who", {}), asker):
            continue
        if any(touches(kind, entry, thing) for entry in rule.get("deny", {}).get(kind, [])):
            return False
        if any(within(kind, entry, thing) for entry in rule.get("allow", {}).get(kind, [])):
            source = thing["names"][0] if kind == "mounts" else ""
            is_below_root = source.startswith("/") and source != "/"
            return not (is_below_root and lent_anywhere(document, asker, source))
    return False


# --- who ----------------------------------------------------------------------------------------


def includes(who: Document, asker: Asker) -> bool:
    texts = {
        "namespaces": asker.pod.namespace,
        "runtime_handlers": asker.pod.runtime_handler,
        "containers": asker.container.name,
        "plugins": asker.plugin,
        "pod_names": asker.pod.name,
    }
    if not all(some(who[key], text) for key, text in texts.items() if key in who):
        return False
    selector = who.get("pods", {})
    labels = asker.pod.labels
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(holds(e, labels) for e in selector.get("matchExpressions", []))


def holds(expression: Document, labels: Mapping[str, str]) -> bool:
    key = expression["key"]
    return {
        "In": key in labels and labels.get(key) in expression.get("values", []),
        "NotIn": key not in labels or labels[key] not in expression.get("values", []),
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]


def some(patterns: list[str], text: str) -> bool:
    return any(glob(pattern, text) for pattern in patterns)


def glob(pattern: str, name: str) -> bool:
    """Match by trying every way."""
    if pattern == "**":
        return True
    if not pattern:
        return not name
    if pattern[0] == "*":
        takes = bool(name) and name[0] != "/"
        return glob(pattern[1:], name) or (takes and glob(pattern, name[1:]))
    if not name:
        return False
    if pattern[0] == "[":
        members, _, rest = pattern[1:].partition("]")
        return in_set(members, name[0]) and glob(rest, name[1:])
    fits = name[0] == pattern[0] or (pattern[0] == "?" and name[0] != "/")
    return fits and glob(pattern[1:], name[1:])


def in_set(members: str, character: str) -> bool:
    wanted = members.removeprefix("!")
    if len(wanted) == 3 and wanted[1] == "-":
        wanted = "".join(map(chr, range(ord(wanted[0]), ord(wanted[2]) + 1)))
    return character != "/" and (character in wanted) != members.startswith("!")


# --- what is asked for --------------------------------------------------------------------------


def things(
    document: Document, asker: Asker, adjustment: Adjustment
) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, key, and what it is on the host; None for what nothing can allow."""
    linux = adjustment.linux
    for device in linux.devices:
        yield "devices", device.path, of_device(document, asker, device, adjustment)
    for mount in adjustment.mounts:
        yield destination_or_removal(document, asker, mount)
    for device_name in linux.net_devices:
        yield "network_devices", device_name, {"names": [device_name]}
    for name in linux.sysctl:
        parts = [part for part in name.replace("/", ".").split(".") if part]
        yield "sysctl", name, {"names": [".".join(parts)]}
    if linux.HasField("scheduler"):
        policy = LinuxSchedulerPolicy.Name(linux.scheduler.policy)
        facts = {"nice": linux.scheduler.nice, "priority": linux.scheduler.priority}
        yield "scheduling_policy", policy, {"names": [policy], **facts}
    if linux.HasField("io_priority"):
        name = IOPrioClass.Name(getattr(linux.io_priority, "class"))
        yield "io_priority", name, {"names": [name], "priority": linux.io_priority.priority}
    if linux.HasField("memory_policy"):
        name = MpolMode.Name(linux.memory_policy.mode)
        yield "memory_policy", name, {"names": [name]}
    own = {limit.type: limit.hard for limit in asker.container.rlimits}
    for limit in adjustment.rlimits:
        if limit.hard > own.get(limit.type, -1):
            yield "ulimits", limit.type, {"names": [limit.type], "hard": limit.hard}


def of_device(document: Document, asker: Asker, device: LinuxDevice, adjustment: Adjustment) -> Any:
    number = (device.type, device.major, device.minor)
    if not looked_at(document, asker, "devices", device.path):
        return None
    names = [*asker.host.numbers.get(number, ())]
    try:
        node = asker.host.devices[device.path]
        if node.number != number or node.doubt:
            return None
        made_up = [one for one in (node.real, device.path) if one not in names]
        if any(lent_anywhere(document, asker, one) for one in made_up):
            return None
        names += [node.real, device.path]
    except NotADevice:
        return None
    except KeyError:
        pass
    access = {*USUAL[device.type]}
    for rule in adjustment.linux.resources.devices:
        is_for_all = rule.type == "a" and not rule.HasField("major")
        if is_for_all or (rule.type, rule.major.value, rule.minor.value) == number:
            if rule.allow:
                access = access | {*rule.access}
            elif {*rule.access} == {*"rwm"}:  # with fewer letters some runtime leaves something
                access = set()
    return {
        "names": names,
        "type": device.type,
        "major": device.major,
        "minor": device.minor,
        "access": access,
    }


def destination_or_removal(document: Document, asker: Asker, mount: Mount) -> tuple[str, str, Any]:
    key = mount.destination
    if key.startswith("-"):
        return "removals", f"mount at {key}", {"names": [key[1:]]}
    return "mounts", key, of_mount(document, asker, mount)


def of_mount(document: Document, asker: Asker, mount: Mount) -> Any:
    if any(character in option for option in mount.options for character in '"\\\n\0'):
        return None
    words = {word for option in mount.options for word in option.split(",")} - {""}
    binds = {"bind", "rbind"} & words or mount.type == "bind"
    surely = {"bind", "rbind"} & {*mount.options} or mount.type == "bind"
    if binds and (mount.type not in ("", "bind", "none") or not surely):
        return None
    kind = "bind" if binds else mount.type
    names = [mount.source]
    if mount.source.startswith("/"):
        if not looked_at(document, asker, "mounts", mount.source):
            return None
        place = asker.host.files.get(mount.source)
        if place is None or place.doubt or place.on_procfs:
            return None
        names = [place.real]
    elif binds:
        return None
    shown = [shown_at(asker.mounts, name, "rbind" in words) for name in names]
    return {
        "names": names,
        "elsewhere": [other for others in shown for other in others],
        "type": kind,
        "writable": writable([*mount.options]),
        "destination": mount.destination,
        "options": words,
    }


def handed_on(asker: Asker, mount: Mount) -> str:
    """Return the source that the runtime gets of an allowed mount."""
    return asker.host.files[mount.source].real if mount.source.startswith("/") else mount.source


def writable(options: list[str]) -> bool:
    """Tell whether something can be written: `ro` counts as an option, `rw` as a word of one."""
    words = ",".join(options).split(",")
    if {"rw", "rrw"} & {*words} or not {"ro", "rro"} & {*options}:
        return True
    return "rbind" in words and "rro" not in options


def looked_at(document: Document, asker: Asker, kind: str, path: str) -> bool:
    """Tell whether some rule for the container could allow what is there."""
    named = [
        text_of(kind, entry)
        for rule in document.get("rules", [])
        if includes(rule.get("who", {}), asker)
        for entry in rule.get("allow", {}).get(kind, [])
    ]
    if kind == "devices" and named and below(path, "/dev"):
        return True
    return any(text is not None and below(path, fixed_part(text)) for text in named)


def fixed_part(pattern: str) -> str:
    """Return a pattern's directories in front of the first special character."""
    parts = pattern.split("/")
    special = [number for number, part in enumerate(parts) if {*part} & {*"*?["}]
    return "/".join(parts[: special[0]]) or "/" if special else pattern


def below(path: str, directory: str) -> bool:
    return path == directory or path.startswith("/" if directory == "/" else f"{directory}/")


# --- rules --------------------------------------------------------------------------------------

KEYS = {
    "devices": "path",
    "mounts": "source",
    "scheduling_policy": "policy",
    "io_priority": "class",
    "memory_policy": "mode",
    "ulimits": "type",
}


def text_of(kind: str, entry: Any) -> str | None:
    text: str | None = entry if isinstance(entry, str) else entry.get(KEYS.get(kind, "name"))
    return f"RLIMIT_{text}" if kind == "ulimits" else text


def conditions_of(entry: Any) -> Document:
    return {} if isinstance(entry, str) else entry


def named(kind: str, entry: Any, thing: Document) -> bool:
    text = text_of(kind, entry)
    return text is None or any(glob(text, name) for name in thing["names"])


def within(kind: str, entry: Any, thing: Document) -> bool:
    more = conditions_of(entry)
    if kind == "mounts":
        return mount_within(entry, more, thing)
    if not named(kind, entry, thing):
        return False
    match kind:
        case "devices":
            usual = more.get("type", "c")
            access = {*more["access"]} if "access" in more else USUAL[usual]
            if thing["type"] == "c" and thing["major"] in TERMINALS and not means_terminals(entry):
                return False
            return numbered(more, thing) and usual == thing["type"] and thing["access"] <= access
        case "scheduling_policy":
            least, most = more.get("min_nice", 0), more.get("max_priority", 0)
            return bool(thing["nice"] >= least and thing["priority"] <= most)
        case "io_priority":
            return bool(thing["priority"] >= more.get("priority", 0))
        case "removals":
            (name,), named_text = thing["names"], fixed_text(str(text_of(kind, entry)))
            return all(below(named_text, place) for place in GUARDED if below(name, place))
        case "ulimits":
            hard = more.get("hard", "unlimited")
            return bool(hard == "unlimited" or thing["hard"] <= hard)
    return True


def means_terminals(entry: Any) -> bool:
    """Tell whether an entry has a terminal's whole number, one path, or those in /dev/pts."""
    text = text_of("devices", entry)
    if "minor" in conditions_of(entry):
        return True
    return text is not None and (text.startswith("/dev/pts/") or not {*text} & {*"*?["})


def touches(kind: str, entry: Any, thing: Document) -> bool:
    more = conditions_of(entry)
    if kind == "mounts":
        return mount_touches(entry, more, thing)
    if kind == "sysctl":
        text = text_of(kind, entry)
        return text is None or any(overlap(text, name) for name in same_setting(thing["names"][0]))
    if not named(kind, entry, thing):
        return False
    if kind != "devices":
        return True
    access = {*more.get("access", "rwm")} & thing["access"]
    return (
        numbered(more, thing)
        and more.get("type", thing["type"]) == thing["type"]
        and access != set()
    )


def same_setting(name: str) -> set[str]:
    """Return the names, `*` for any interface, that set something of what this name sets."""
    parts = name.split(".")
    if name == "net.ipv4.ip_forward":
        return {name} | same_setting("net.ipv4.conf.all.forwarding")
    if parts[1:3] not in (["ipv4", "conf"], ["ipv6", "conf"]) or len(parts) < 5:
        return {name}
    head, last = ".".join(parts[:3]), parts[-1]
    found = {name, f"{head}.all.{last}", f"{head}.default.{last}"}
    if ".".join(parts[3:-1]) in ("all", "default"):
        found.add(f"{head}.*.{last}")
    if (head, last) == ("net.ipv4.conf", "forwarding"):
        found.add("net.ipv4.ip_forward")
    return found


def overlap(one: str, other: str) -> bool:
    """Tell whether two patterns can stand for one name, by trying every way; no sets."""
    if "**" in (one, other):
        return True
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return overlap(one[1:], other) or overlap(one, other[1:])
    if other[0] == "*":
        return overlap(other, one)
    return (one[0] == other[0] or "?" in (one[0], other[0])) and overlap(one[1:], other[1:])


def numbered(more: Document, thing: Document) -> bool:
    return all(more[key] == thing[key] for key in ("major", "minor") if key in more)


def places(path: str) -> list[str]:
    """Return a path and all that is above it."""
    parts = path.split("/")
    return [path, *("/".join(parts[:end]) or "/" for end in range(1, len(parts)))]


def mount_within(entry: Any, more: Document, thing: Document) -> bool:
    (name,) = thing["names"]
    source = text_of("mounts", entry)
    if source is None:
        if name.startswith("/"):
            return False
    elif not any(glob(source, place) for place in places(name)):
        return False
    wanted = more.get("destination")
    destination = thing["destination"]
    return (
        more.get("type", "bind") == thing["type"]
        and (more.get("access", "ro") == "rw" or not thing["writable"])
        and (wanted is None or glob(wanted, destination))
        and all(
            wanted is not None and below(fixed_text(wanted), place)
            for place in PROTECTED
            if below(destination, place) or below(place, destination)
        )
        and all(named_option(more.get("options", []), o) for o in thing["options"] - USUAL_OPTIONS)
    )


def named_option(patterns: list[str], option: str) -> bool:
    """Tell whether a rule names an option; one with a path in it must be there as it is."""
    return option in patterns or ("/" not in option and some(patterns, option))


def fixed_text(pattern: str) -> str:
    """Return the characters in front of the first special one."""
    return pattern[: min(pattern.find(c) % (len(pattern) + 1) for c in "*?[")]


def mount_touches(entry: Any, more: Document, thing: Document) -> bool:
    source, wanted = text_of("mounts", entry), more.get("destination")
    return (
        (source is None or any(meets(source, n) for n in thing["names"] + thing["elsewhere"]))
        and more.get("type", thing["type"]) == thing["type"]
        and (more.get("access", "ro") == "ro" or thing["writable"])
        and (wanted is None or meets(wanted, thing["destination"]))
        and ("options" not in more or any(some(more["options"], o) for o in thing["options"]))
    )


def shown_at(table: Table, path: str, recursive: bool) -> set[str]:
    """Return every path at which something of a directory can be found, by the mounts."""
    found: set[str] = set()
    points = [point for point, _, _ in table if below(path, point)]
    if not points:
        return found
    deepest = max(points, key=len)
    own = [one for one in table if one[0] == deepest]
    pieces = [(device, joined(top, path, deepest)) for _, device, top in own]
    pieces += [(device, top) for point, device, top in table if recursive and below(point, path)]
    for point, device, top in table:
        for of, piece in pieces:
            if of == device and below(piece, top):
                found.add(joined(point, piece, top))
            if of == device and below(top, piece):
                found.add(point)
    return found


def joined(directory: str, path: str, above: str) -> str:
    """Return where a path that lies above something lies in a directory that shows that."""
    rest = path if above == "/" else path[len(above) :]
    return f"{directory.rstrip('/')}{rest.rstrip('/')}" or "/"


def meets(pattern: str, path: str) -> bool:
    """Tell whether a path lies in what is named, or some of that may lie in the path."""
    if any(glob(pattern, place) for place in places(path)) or path == "/":
        return True
    if not path.startswith("/"):  # a file system without a source lies nowhere
        return False
    parts, wanted = path.split("/"), pattern.split("/")
    return len(wanted) > len(parts) and all(map(glob, wanted, parts))


def lent_anywhere(document: Document, asker: Asker, path: str) -> bool:
    """Tell the same of a path that may be shown at others, too."""
    return any(
        lent(document, f"{other.rstrip('/')}/x")
        for other in shown_whole(asker.mounts, path.rpartition("/")[0] or "/")
    )


def shown_whole(table: Table, path: str) -> set[str]:
    """Return every path at which all of a directory can be found."""
    deepest = max((point for point, _, _ in table if below(path, point)), key=len)
    (own,) = [(device, joined(top, path, deepest)) for p, device, top in table if p == deepest]
    return {
        joined(point, own[1], top)
        for point, device, top in table
        if device == own[0] and below(own[1], top)
    }


def lent(document: Document, path: str) -> bool:
    """Tell whether some container may write above a path, and so put a link in its place."""
    return any(
        glob(entry["source"], place)
        for rule in document.get("rules", [])
        for entry in rule.get("allow", {}).get("mounts", [])
        if conditions_of(entry).get("access") == "rw" and "source" in entry
        for place in places(path)[1:]
        if path != "/"
    )

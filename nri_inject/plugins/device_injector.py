"""Give a container what its pod's annotations ask for: devices, mounts, limits and the like.

The annotations and their meaning are those of NRI's device-injector and ulimit-adjuster (NRI
0.12). What those accept by accident is an error here: docs/differences.md lists all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host import access, user_namespace
from nri_inject.host.devices.node import node_at
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.host import Host
from nri_inject.policy.kinds import LIMITS
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import Part, Source
from nri_inject.service.injector import service_of
from nri_inject.text import yamltext
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.budget import Budget, Spend
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    Problem,
    Reader,
    Values,
    check_count,
    check_length,
    choice,
    described,
    integer,
    list_of,
    map_of,
    not_one_of,
    read_items,
    read_line,
    read_short_line,
    read_tabbed_line,
    read_text,
    wrong_type,
)
from nri_inject.text.names import interface_fault
from nri_inject.text.paths import clean
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # loaded when a pod asks for a device by what it is
    from nri_inject.host.devices.selectors import Selector

T = TypeVar("T")

# What a text asks for, once it has been read. It stays unsaid until a host is there, because a
# device may be looked up, and a container, who may be its owner. Raises Fault. The result belongs
# to the wish: never hand it out.
Wish: TypeAlias = Callable[[Host, Container], Adjustment]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of annotation.

    `name` is what a policy calls it. `read` makes a wish of the value, or None of one that asks
    for nothing; it raises Fault. `field` is the runtime's part that it needs, a key of
    runtimes.FIELDS if not every runtime has it.
    """

    name: str
    prefix: str
    old_prefix: str
    read: Reader[Wish | None]
    field: str


def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
    """Return what the pod's annotations ask for this container, and the policy allows.

    RequestError has the faults of every annotation; OverBudget comes alone.
    """
    found = _asked(pod, container)
    adjustment = Adjustment()
    faults: list[str] = []
    for kind, key, text in found:
        faults += _add(adjustment, kind, key, text, host, container)
    if faults:
        raise RequestError(faults, where=where(pod, container))
    if host.permit is None or not adjustment.ByteSize():
        return adjustment
    origins = {kind.name: key for kind, key, _ in found}
    return host.permit.granted(adjustment, host, origins)


def _asked(pod: Pod, container: Container) -> list[tuple[Kind, str, str]]:
    """Return the annotations that count for a container: kind, key and text."""
    annotations = pod.annotations
    # Most containers ask for nothing, and this runs for each of them.
    prefixes = {key.partition("/")[0] for key in annotations}
    if prefixes.isdisjoint(_PREFIXES):
        return []
    name = container_name(container)
    found = [
        (kind, find(annotations, kind.prefix, kind.old_prefix, name))
        for kind in KINDS
        if kind.prefix in prefixes or kind.old_prefix in prefixes
    ]
    return [(kind, *one) for kind, one in found if one is not None]


def _add(
    adjustment: Adjustment, kind: Kind, key: str, text: str, host: Host, container: Container
) -> list[str]:
    """Add what one annotation asks for, and return its faults."""
    wish, sentences = _reading(kind, key, text, host.budget)
    if wish is None and not sentences:
        return []
    faults = list(sentences)
    loss = capabilities.lack(kind.field, host.runtime)
    if loss is not None:
        faults.append(capabilities.sentence(loss, host.runtime))
    if wish is not None:
        try:
            # Each kind has a field of its own, so there is nothing in the way.
            adjustment.MergeFrom(wish(host, container))
        except Fault as fault:
            faults += fault.sentences
    return [f"annotation {plain(key)}: {fault}" for fault in faults]


# --- reading texts ------------------------------------------------------------------------------

# Pods come in replicas, with the same few texts. What is made of a text can be many times as long
# only by aliases. A text with the mark of one is read anew each time, and so is a long one, so
# that even the worst texts together take no more than some 4 MiB.
_LONGEST_REMEMBERED: Final = 4096
_MOST_REMEMBERED: Final = 32

# A wrong word is compared with all known ones, to say which of them was meant.
_STEPS_PER_FAULT: Final = 50


# What a text asks for, None if nothing or if something is wrong with it; and what is wrong.
Reading: TypeAlias = tuple[Wish | None, tuple[str, ...]]


def _reading(kind: Kind, key: str, text: str, budget: Budget) -> Reading:
    spend = partial(budget.spend, f"annotation {plain(key)}: reading it")
    if len(text) > _LONGEST_REMEMBERED or "*" in text:
        return _read(kind, text, spend)
    reading, steps = _remembered(kind, text)
    spend(steps)
    return reading


def _read(kind: Kind, text: str, spend: Spend) -> Reading:
    try:
        value = yamltext.load(text, spend=spend)
        return (None if value is None else kind.read(value)), ()
    except yamltext.YamlError as error:
        return None, (str(error),)
    except Fault as fault:
        spend(len(fault.sentences) * _STEPS_PER_FAULT)
        return None, fault.sentences


@lru_cache(maxsize=_MOST_REMEMBERED)
def _remembered(kind: Kind, text: str) -> tuple[Reading, int]:
    """Return a reading, and the steps that it costs each container, cached or not."""
    steps: list[int] = []
    return _read(kind, text, steps.append), sum(steps)


def _fixed(adjustment: Adjustment, _host: Host, _container: Container) -> Adjustment:
    """Be the wish that is the same on every host."""
    return adjustment


def _distinct(items: Iterable[tuple[str, object, T]]) -> list[T]:
    """Keep one of the items that mean the same.

    An item is what the runtime tells it by, what it means, and itself. NRI refuses a key that
    comes twice in one answer, equal or not.
    """
    meanings: dict[str, object] = {}
    kept: list[T] = []
    twice: dict[str, None] = {}
    for key, meaning, item in items:
        if key not in meanings:
            meanings[key] = meaning
            kept.append(item)
        elif meanings[key] != meaning:
            twice[key] = None
            if len(twice) >= MAX_FAULTS:
                break
    if twice:
        raise Fault(*(f"{quoted(key)} is asked for twice, differently" for key in twice))
    return kept


# --- paths --------------------------------------------------------------------------------------


MAX_PARTS: Final = 64
"""How many slashes a path may have. Each part of it is a directory to look at."""


def _path(value: Value) -> str:
    """Read a path for the container. One with a leading dash would remove something instead."""
    path = read_short_line(value)
    if path.count("/") > MAX_PARTS:
        raise Fault(f"{quoted(path)} has more than {MAX_PARTS} slashes")
    if path.startswith("-"):
        raise Fault(f"{quoted(path)} begins with '-', which asks for a removal")
    _check_absolute(path)
    if ".." in path.split("/"):
        raise Fault(f"{quoted(path)} has a '..' in it")
    if clean(path) == "/":
        raise Fault(f"{quoted(path)} is the root directory")
    return path


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise Fault(f"{quoted(path)} is not an absolute path")


# --- devices ------------------------------------------------------------------------------------

_UINT32: Final = integer(0, 2**32 - 1)
_UINT64: Final = integer(0, 2**64 - 1)

# OCI's u is an unbuffered character device, the same as c to Linux; runc refuses the cgroup rule
# of type u that the runtime makes for it.
_DEVICE_TYPES: Final = {"b": "b", "c": "c", "u": "c"}


def _device_type(value: Value) -> str:
    if value == "p":
        # runc refuses the cgroup rule that NRI adds for it, so the container would not start.
        raise Fault("'p', a fifo, cannot be a device here; use a mount of the host's fifo")
    return _known_device_type(value)


_known_device_type: Final = choice(_DEVICE_TYPES)


def _access_letters(value: Value) -> str:
    text = read_short_line(value)
    if not text or not {*text} <= {*"rwm"}:
        raise Fault(f"{quoted(text)} is not some of the letters r, w and m")
    return access.letters(text)


# 12 bits of major and 20 bits of minor: MINORBITS in Linux's kdev_t.h.
_MORE: Final = (
    Field("type", _device_type),
    Field("major", integer(0, 2**12 - 1)),
    Field("minor", integer(0, 2**20 - 1)),
    Field("file_mode", integer(0, 0o7777)),
    Field("uid", _UINT32),
    Field("gid", _UINT32),
    Field("access", _access_letters),
)
_DEVICE: Final = map_of((Field("path", _path, required=True), *_MORE))

# The keys that Go does not have. An item with one of them is read by `wanted`.
_OURS: Final = frozenset({"device", "as", "links", "count", "optional", "owner"})


def _device(value: Value) -> Values:
    """Read an item: as Go does, or a device that is looked for; a text is its selector."""
    if isinstance(value, str):
        value = {"device": value}
    if isinstance(value, dict) and not _OURS.isdisjoint(key.lower() for key in value):
        return _read_wanted()(value)
    return _DEVICE(value)


@cache
def _read_wanted() -> Reader[Values]:
    # Loaded when somebody asks: most nodes have no pod that does, and it takes time to start.
    from nri_inject.host.devices import wanted

    return wanted.reader((Field("path", _path), Field("as", _path), *_MORE))


# What a selector may mean, as far as a policy can tell without looking.
_ANY_NODE: Final = "/dev/*"

# A device that may not be looked at.
_UNKNOWN: Final = {"type": "", "major": 0, "minor": 0}

# A path can take 256 looks at the host, so this many take longer than all that a text may say.
_MOST_LOOKED_UP: Final = 256
_STEPS_PER_DEVICE: Final = 20
# Each looks at all devices of the host.
_MOST_SEARCHES: Final = 8


@dataclass(frozen=True, slots=True)
class _Devices:
    """What a list of devices says: what is right, what is wrong, by the item's index."""

    items: Mapping[int, Values]
    faults: Mapping[int, Sequence[Problem]]


def _read_devices(value: Value) -> Wish | None:
    if isinstance(value, list):
        check_count(len(value), "items")
        _check_searches(sum(map(_has_selector, value)))
    items, faults = read_items(_device, value)
    if not items and not faults:
        return None
    # Aliases can ask for one device some ten thousand times. Equal ones are one.
    distinct: dict[object, int] = {}
    for index, device in items.items():
        distinct.setdefault(_given(device), index)
    kept = {index: items[index] for index in distinct.values()}
    looked_up = [device for device in kept.values() if not _is_complete(device)]
    paths = {_sought(device) for device in looked_up}
    if len(paths) > _MOST_LOOKED_UP:
        raise Fault(
            f"{len(paths)} devices without type and major, at most {_MOST_LOOKED_UP} allowed"
        )
    _check_searches(sum(map(_searches, looked_up)))
    return partial(_devices, _Devices(kept, faults))


def _check_searches(searches: int) -> None:
    if searches > _MOST_SEARCHES:
        raise Fault(
            f"{searches} devices by `links` or by a selector that is no path,"
            f" at most {_MOST_SEARCHES} allowed"
        )


def _has_selector(item: Value) -> bool:
    """Tell whether an item that is not read yet has a selector that is no path."""
    if isinstance(item, dict):
        item = next((value for key, value in item.items() if key.lower() == "device"), None)
    return isinstance(item, str) and not item.startswith("/")


def _sought(device: Values) -> str:
    """Return what tells one look at the host from another."""
    if "device" not in device:
        return clean(device["path"])
    selector: Selector = device["device"]
    return selector.path or selector.text


def _searches(device: Values) -> bool:
    return "device" in device and (device["device"].path is None or device.get("links", False))


def _given(device: Values) -> object:
    path = {"path": clean(device["path"])} if "path" in device else {}
    return frozenset({**device, **path}.items())


def _devices(devices: _Devices, host: Host, container: Container) -> Adjustment:
    """Complete the devices; what is wrong with their format is told beside what the host lacks."""
    host.budget.spend("completing its devices", len(devices.items) * _STEPS_PER_DEVICE)
    faults: dict[int, Sequence[Problem]] = dict(devices.faults)
    items: list[tuple[str, object, tuple[api.LinuxDevice, str]]] = []
    nodes: dict[str, DeviceNode | Fault] = {}
    complete = _mounted if user_namespace.is_in_one(container) else _completed
    for index, device in devices.items.items():
        try:
            items += map(_device_item, complete(device, host, container, nodes))
        except Fault as fault:
            faults[index] = [problem.below(index) for problem in fault.problems]
            if len(faults) >= MAX_FAULTS:
                break
    if faults:
        raise Fault(*(problem for index in sorted(faults) for problem in faults[index]))
    adjustment = Adjustment()
    distinct = _distinct(items)
    adjustment.linux.devices.extend(device for device, _ in distinct)
    adjustment.linux.resources.devices.extend(_access_rules(distinct, host))
    if not adjustment.linux.resources.ByteSize():
        adjustment.linux.ClearField("resources")
    return adjustment


def _access_rules(
    devices: Iterable[tuple[api.LinuxDevice, str]], host: Host
) -> list[api.LinuxDeviceCgroup]:
    """Return the rules for devices whose items say something of the access.

    Two nodes of one device have the access of both. Raises Fault for access that cannot be had.
    """
    wanted: dict[access.Number, set[str]] = {}
    for device, given in devices:
        number = (device.type, device.major, device.minor)
        wanted.setdefault(number, set()).update(given or _automatic(number))
    refusals = [access.refusal(number, letters) for number, letters in wanted.items()]
    if any(refusals):
        raise Fault(*(f"access: {each}; leave access out" for each in refusals if each))
    rules = [
        rule
        for number, letters in wanted.items()
        for rule in access.rules(number, _automatic(number), letters)
    ]
    loss = capabilities.lack("device rules", host.runtime) if rules else None
    if loss is not None:
        raise Fault(f"access: {capabilities.sentence(loss, host.runtime)}")
    return rules


def _automatic(number: access.Number) -> frozenset[str]:
    return access.AUTOMATIC.get(number[0], frozenset())


def _completed(
    device: Values, host: Host, container: Container, nodes: dict[str, DeviceNode | Fault]
) -> list[Values]:
    """Return what an item becomes: one device, or as many as are looked for."""
    if _OURS.isdisjoint(device):
        return [_complete(device, host, nodes)]
    from nri_inject.host.devices import wanted

    if "device" in device:
        found = _found(device, host)
    elif device.get("optional", False) and _is_missing(device, host):
        found = []
    else:
        found = [_complete(device, host, nodes)]
    given = {"access": device["access"]} if "access" in device else {}
    return [{**wanted.owned(each, container, host.runtime), **given} for each in found]


def _mounted(
    item: Values, host: Host, container: Container, nodes: dict[str, DeviceNode | Fault]
) -> list[Values]:
    """Return what an item becomes in a user namespace, where a node is as it is on the host."""
    asked = ("uid", "gid", "owner")
    owners = [name for name in asked if name in item and item[name] != "host"]
    if owners:
        raise Fault(*map(user_namespace.other_owner, owners))
    return [_as_on_host(each, host, nodes) for each in _completed(item, host, container, nodes)]


def _as_on_host(device: Values, host: Host, nodes: dict[str, DeviceNode | Fault]) -> Values:
    """Return a device with the mode and owner of the host's node; Fault if it is another one."""
    path = clean(device["path"])
    number = (device["type"], device["major"], device.get("minor", 0))
    if not device["type"] or not _reaches(path, host):
        return device  # which no rule can allow
    if len(nodes) >= _MOST_LOOKED_UP and path not in nodes:
        raise Fault(f"more than {_MOST_LOOKED_UP} devices in a user namespace")
    try:
        node = _node_once(path, host, nodes)
    except Fault as fault:
        raise Fault(*map(user_namespace.not_the_hosts, fault.sentences)) from fault
    why = user_namespace.other_device(path, number, node) or user_namespace.other_mode(
        "file_mode", device.get("file_mode"), node
    )
    if why:
        raise Fault(why)
    if warning := user_namespace.closed(path, device.get("access", "rw"), node):
        host.warn(warning)
    return {"file_mode": node.mode, "uid": node.uid, "gid": node.gid, **device}


def _found(device: Values, host: Host) -> list[Values]:
    from nri_inject.host.devices import inventory, wanted

    selector = device["device"]
    if not _reaches(selector.path or _ANY_NODE, host):
        return [{**_UNKNOWN, "path": selector.text}]
    spend = partial(host.budget.spend, f"looking for {quoted(selector.text)} on the host")
    return wanted.find(device, host.devices, host.inventory or inventory.Inventory, spend)


def _is_missing(device: Values, host: Host) -> bool:
    from nri_inject.host.devices import wanted

    path = clean(device["path"])
    if _is_complete(device) or not _reaches(path, host):
        return False
    return wanted.is_missing(path, host.devices)


def _reaches(path: str, host: Host) -> bool:
    """Tell whether a rule could allow what is there; nothing else is looked at."""
    return host.permit is None or host.permit.reaches_device(path)


def _is_complete(device: Values) -> bool:
    return "type" in device and "major" in device


def _complete(device: Values, host: Host, nodes: dict[str, DeviceNode | Fault]) -> Values:
    """Fill in from the host's node what was not given; Go sends type "" and 0:0 instead."""
    if _is_complete(device):
        return device
    path = device["path"]
    if not _reaches(path, host):
        return {**_UNKNOWN, **device}  # which no rule can allow
    node = _node_once(clean(path), host, nodes)
    is_so = {"type": node.type, "major": node.major, "minor": node.minor}
    wrong = [name for name, value in is_so.items() if device.get(name, value) != value]
    if wrong:
        raise Fault(
            *(f"{name}: {device[name]} but {quoted(path)} has {is_so[name]}" for name in wrong)
        )
    return {**is_so, "file_mode": node.mode, "uid": node.uid, "gid": node.gid, **device}


def _node_once(path: str, host: Host, nodes: dict[str, DeviceNode | Fault]) -> DeviceNode:
    """Look at the host if this call has not yet; `nodes` is what it saw."""
    if path not in nodes:
        try:
            nodes[path] = node_at(path, host.devices)
        except Fault as fault:
            nodes[path] = Fault(*fault.sentences)
    node = nodes[path]
    if isinstance(node, Fault):
        raise Fault(*node.sentences)
    return node


def _device_item(device: Values) -> tuple[str, object, tuple[api.LinuxDevice, str]]:
    message = api.LinuxDevice(
        path=device["path"],
        type=device["type"],
        major=device["major"],
        minor=device.get("minor", 0),
    )
    # Zero is a value here: a device of mode 0 or of root's. In Go it cannot be given.
    if "file_mode" in device:
        message.file_mode.CopyFrom(api.OptionalFileMode(value=device["file_mode"]))
    for name in ("uid", "gid"):
        if name in device:
            getattr(message, name).CopyFrom(api.OptionalUInt32(value=device[name]))
    path = clean(message.path)
    meaning = {**device, "path": path, "minor": message.minor}
    return path, meaning, (message, device.get("access", ""))


# --- mounts -------------------------------------------------------------------------------------

_BIND_OPTIONS: Final = frozenset({"bind", "rbind"})


def _option(value: Value) -> str:
    option = read_short_line(value)
    if not option:
        raise Fault("an option is empty")
    if option.split() != [option]:
        # The form in the reference's documentation, one option per line without dashes, is one
        # text to YAML, and no mount option.
        raise Fault(f"{quoted(option)} has white space; an option, and a path in it, has none")
    if "," in option:
        raise Fault(f"{quoted(option)} has a comma; make each option an item of its own")
    if not {*'"\\'}.isdisjoint(option):
        # The kernel would look for the end of the option elsewhere than the policy does.
        raise Fault(f"{quoted(option)} has a quote or a backslash, which no option may have")
    return option


_MOUNT: Final = map_of(
    (
        Field("source", read_short_line),
        Field("destination", _path, required=True),
        Field("type", read_short_line),
        Field("options", list_of(_option)),
    )
)


def _mount(value: Value) -> tuple[str, object, api.Mount]:
    mount = api.Mount(**_MOUNT(value))
    if ".." in mount.source.split("/"):
        raise Fault(f"source: {quoted(mount.source)} has a '..' in it; name the path without it")
    if mount.type == "bind" or not _BIND_OPTIONS.isdisjoint(mount.options):
        if not mount.source:
            raise Fault("source is missing; a bind mount needs one")
        try:
            _check_absolute(mount.source)
        except Fault as fault:
            raise Fault(*fault.at("source")) from fault
    destination = clean(mount.destination)
    meaning = (mount.source, mount.type, tuple(mount.options))
    return destination, meaning, mount


def _read_mounts(value: Value) -> Wish | None:
    mounts = _distinct(list_of(_mount)(value))
    return partial(_fixed, Adjustment(mounts=mounts)) if mounts else None


# --- network devices ----------------------------------------------------------------------------


def _interface(value: Value) -> str:
    """Read the name of a network interface. One with a leading dash would remove something."""
    name = read_line(value)
    if name.startswith("-"):
        raise Fault(f"{quoted(name)} begins with '-', which asks for a removal")
    if why := interface_fault(name):
        raise Fault(f"{quoted(name)} {why}")
    return name


def _interface_or_none(value: Value) -> str:
    return "" if value == "" else _interface(value)


_NET_DEVICE: Final = map_of(
    (
        Field("hostIf", _interface, required=True),
        Field("name", _interface_or_none),
    )
)


def _net_device(value: Value) -> tuple[str, object, tuple[str, str]]:
    device = _NET_DEVICE(value)
    pair = (device["hostIf"], device.get("name", ""))
    return pair[0], pair[1], pair


def _read_net_devices(value: Value) -> Wish | None:
    pairs = _distinct(list_of(_net_device)(value))
    if not pairs:
        return None
    hosts: dict[str, str] = {}
    faults: list[str] = []
    for host, name in pairs:
        inside = name or host  # the interface keeps its name
        if inside in hosts:
            both = f"{quoted(hosts[inside])} and {quoted(host)}"
            faults.append(f"{both} would both be {quoted(inside)} in the container")
        hosts[inside] = host
    if faults:
        raise Fault(*faults)
    adjustment = Adjustment()
    for host, name in pairs:
        adjustment.linux.net_devices[host].name = name
    return partial(_fixed, adjustment)


# --- sysctl -------------------------------------------------------------------------------------

_SYSCTL_KEY: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.\-/]*")


def _sysctl_value(value: Value) -> str:
    if value is None:
        raise Fault("null where text is expected; write '' for empty text")
    return read_tabbed_line(value)


def _check_sysctl_key(key: str) -> None:
    if key.startswith("-"):
        raise Fault(f"{quoted(key)} begins with '-', which asks for a removal")
    check_length(key)
    if not _SYSCTL_KEY.fullmatch(key) or ".." in key:
        raise Fault(f"{quoted(key)} is not a name that a sysctl can have")


def _read_sysctl(value: Value) -> Wish | None:
    if not isinstance(value, dict):
        raise wrong_type(value, "a map of text to text")
    if not value:
        return None
    check_count(len(value), "keys")
    adjustment = Adjustment()
    faults: list[str] = []
    for key, item in value.items():
        try:
            _check_sysctl_key(key)
            adjustment.linux.sysctl[key] = _sysctl_item(key, item)
        except Fault as fault:
            faults += fault.sentences
            if len(faults) >= MAX_FAULTS:
                break
    if faults:
        raise Fault(*faults)
    return partial(_fixed, adjustment)


def _sysctl_item(key: str, item: Value) -> str:
    try:
        return _sysctl_value(item)
    except Fault as fault:
        raise Fault(*fault.at(plain(key))) from fault


# --- one message --------------------------------------------------------------------------------

_FLAG: Final = choice(dict(api.LinuxSchedulerFlag.items()))

_SCHEDULER: Final = map_of(
    (
        Field("policy", choice(dict(api.LinuxSchedulerPolicy.items())), required=True),
        Field("nice", integer(-20, 19)),
        Field("priority", integer(0, 99)),
        Field("flags", list_of(_FLAG)),
        Field("runtime", _UINT64),
        Field("deadline", _UINT64),
        Field("period", _UINT64),
    )
)

_IO_PRIORITY: Final = map_of(
    (
        Field("class", choice(dict(api.IOPrioClass.items())), required=True),
        Field("priority", integer(0, 7)),
    )
)

# Four digits are enough for each node of Linux (MAX_NUMNODES is 1024).
_NODE_LIST: Final = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


def _nodes(value: Value) -> str:
    nodes = read_short_line(value)
    if nodes and not _is_node_list(nodes):
        raise Fault(f"{quoted(nodes)} is not a list of nodes such as 0-3,7")
    return nodes


def _is_node_list(text: str) -> bool:
    if not _NODE_LIST.fullmatch(text):
        return False
    ranges = (part.partition("-") for part in text.split(","))
    return all(int(first) <= int(last or first) for first, _, last in ranges)


_MEMORY_POLICY: Final = map_of(
    (
        Field("mode", choice(dict(api.MpolMode.items())), required=True),
        Field("nodes", _nodes),
        Field("flags", list_of(choice(dict(api.MpolFlag.items())))),
    )
)


def _read_scheduler(value: Value) -> Wish:
    scheduler = api.LinuxScheduler(**_SCHEDULER(value))
    return _linux(api.LinuxContainerAdjustment(scheduler=scheduler))


def _read_io_priority(value: Value) -> Wish:
    priority = api.LinuxIOPriority(**_IO_PRIORITY(value))
    return _linux(api.LinuxContainerAdjustment(io_priority=priority))


def _read_memory_policy(value: Value) -> Wish:
    policy = api.LinuxMemoryPolicy(**_MEMORY_POLICY(value))
    return _linux(api.LinuxContainerAdjustment(memory_policy=policy))


def _linux(linux: api.LinuxContainerAdjustment) -> Wish:
    return partial(_fixed, Adjustment(linux=linux))


# --- ulimits ------------------------------------------------------------------------------------

_UNLIMITED: Final = 2**64 - 1  # RLIM_INFINITY
_WORDS_FOR_UNLIMITED: Final = frozenset({"unlimited", "infinity", "-1"})


def _limit_type(value: Value) -> str:
    text = read_text(value)
    # Not all letters whose capitals are ASCII are: the dotless i has I.
    name = text.upper().removeprefix("RLIMIT_")
    if name not in LIMITS or not text.isascii():
        raise Fault(not_one_of(text, [f"RLIMIT_{limit}" for limit in LIMITS]))
    return f"RLIMIT_{name}"


def _limit(value: Value) -> int:
    if value == -1 or (isinstance(value, str) and value.lower() in _WORDS_FOR_UNLIMITED):
        raise Fault(f"{described(value)} is not a limit; write {_UNLIMITED} for unlimited")
    return _UINT64(value)


_ULIMIT: Final = map_of(
    (
        Field("type", _limit_type, required=True),
        Field("hard", _limit),
        Field("soft", _limit),
    )
)


def _ulimit(value: Value) -> tuple[str, object, api.POSIXRlimit]:
    limit = api.POSIXRlimit(**_ULIMIT(value))
    if limit.soft > limit.hard:
        raise Fault(f"soft limit {limit.soft} is above hard limit {limit.hard}")
    return limit.type, (limit.hard, limit.soft), limit


def _read_ulimits(value: Value) -> Wish | None:
    limits = _distinct(list_of(_ulimit)(value))
    return partial(_fixed, Adjustment(rlimits=limits)) if limits else None


# --- the table ----------------------------------------------------------------------------------

_NEW: Final = "noderesource.dev"
_OLD: Final = "nri.io"

KINDS: Final = (
    Kind("devices", f"devices.{_NEW}", f"devices.{_OLD}", _read_devices, "devices"),
    Kind("mounts", f"mounts.{_NEW}", f"mounts.{_OLD}", _read_mounts, "mounts"),
    Kind(
        "io_priority",
        f"io-priority.{_NEW}",
        f"io-priority.{_OLD}",
        _read_io_priority,
        "io_priority",
    ),
    Kind(
        "scheduling_policy",
        f"scheduling-policy.{_NEW}",
        f"scheduling-policy.{_OLD}",
        _read_scheduler,
        "scheduler",
    ),
    Kind(
        "network_devices",
        f"network-devices.{_NEW}",
        f"network-devices.{_OLD}",
        _read_net_devices,
        "net_devices",
    ),
    Kind("sysctl", f"sysctl.{_NEW}", "", _read_sysctl, "sysctl"),
    Kind(
        "memory_policy",
        f"memory-policy.{_NEW}",
        f"memory-policy.{_OLD}",
        _read_memory_policy,
        "memory_policy",
    ),
    Kind("ulimits", f"ulimits.{_NEW}", "ulimits.nri.containerd.io", _read_ulimits, "rlimits"),
)

_PREFIXES: Final = frozenset(
    prefix for kind in KINDS for prefix in (kind.prefix, kind.old_prefix) if prefix
)


def _inventory(_options: Options, _config: Config) -> Source:
    from nri_inject.host.devices.source import HostInventory

    return HostInventory()


PART: Final = Part(
    build=lambda _config, _runtime: inject,
    sources={"inventory": _inventory},
)

main: Final = Command(
    name="device-injector",
    idx="10",
    service=service_of(PART),
    help="Give containers the devices, mounts and limits that their pods' annotations ask for.",
    example="nri-device-injector --idx 10 --policy unrestricted",
)

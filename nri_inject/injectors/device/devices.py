"""The annotation `devices`: nodes of the host, by path, by number or by selector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.host import access, user_namespace
from nri_inject.host.devices.node import node_at
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.host import Host
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    Problem,
    Reader,
    Values,
    check_count,
    choice,
    integer,
    map_of,
    read_items,
    read_short_line,
)
from nri_inject.text.paths import clean
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    from nri_inject.host.devices.selectors import Selector

from nri_inject.injectors.device.wish import Wish, container_path, unique

# --- devices ------------------------------------------------------------------------------------

_UINT32: Final = integer(0, 2**32 - 1)

# OCI's u is an unbuffered character device, the same as c to Linux; runc refuses the cgroup rule
# of type u that the runtime makes for it.
_DEVICE_TYPES: Final = {"b": "b", "c": "c", "u": "c"}


def _device_type(value: Value) -> str:
    if value == "p":
        # runc refuses the cgroup rule that NRI adds for it, so the container would not start.
        raise Fault("'p', a fifo, is not a device; mount the host's fifo instead")
    return _known_device_type(value)


_known_device_type: Final = choice(_DEVICE_TYPES)


def _access_letters(value: Value) -> str:
    text = read_short_line(value)
    if not text or not {*text} <= {*"rwm"}:
        raise Fault(f"{quoted(text)} must be some of the letters r, w and m")
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
_DEVICE: Final = map_of((Field("path", container_path, required=True), *_MORE))

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
    # Imported at first use: most nodes have no pod that needs it, and it takes time to start.
    from nri_inject.host.devices import selected

    return selected.reader((Field("path", container_path), Field("as", container_path), *_MORE))


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
    """The valid items of a list of devices, and the faults, by the item's index."""

    items: Mapping[int, Values]
    faults: Mapping[int, Sequence[Problem]]


def read_devices(value: Value) -> Wish | None:
    """Read a list of devices; None of an empty one. Raises Fault."""
    if isinstance(value, list):
        check_count(len(value), "items")
        _check_searches(sum(map(_has_selector, value)))
    items, faults = read_items(_device, value)
    if not items and not faults:
        return None
    # Aliases can request one device some ten thousand times. Equal ones are one.
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
    """Return the key of a lookup on the host."""
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
    """Complete the devices from the host; faults of format and of lookups are reported together."""
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
    distinct = unique(items)
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
    loss = capabilities.unsupported("device rules", host.runtime) if rules else None
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
    from nri_inject.host.devices import selected

    if "device" in device:
        found = _found(device, host)
    elif device.get("optional", False) and _is_missing(device, host):
        found = []
    else:
        found = [_complete(device, host, nodes)]
    given = {"access": device["access"]} if "access" in device else {}
    return [{**selected.with_owner(each, container, host.runtime), **given} for each in found]


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
    from nri_inject.host.devices import inventory, selected

    selector = device["device"]
    if not _reaches(selector.path or _ANY_NODE, host):
        return [{**_UNKNOWN, "path": selector.text}]
    spend = partial(host.budget.spend, f"looking for {quoted(selector.text)} on the host")
    return selected.find(device, host.devices, host.inventory or inventory.Inventory, spend)


def _is_missing(device: Values, host: Host) -> bool:
    from nri_inject.host.devices import selected

    path = clean(device["path"])
    if _is_complete(device) or not _reaches(path, host):
        return False
    return selected.is_missing(path, host.devices)


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

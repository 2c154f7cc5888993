"""The annotation `devices`: nodes of the host, by path, by number or by selector."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.host import access, user_namespace
from nri_inject.host.devices.node import is_missing, node_at
from nri_inject.host.model import MAX_MAJOR, MAX_MINOR, DeviceNode, Number
from nri_inject.injectors import habits
from nri_inject.injectors.host import Host
from nri_inject.text import modes
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    Problem,
    Reader,
    check_count,
    choice,
    described,
    integer,
    map_of,
    read_items,
    read_short_line,
    wrong_type,
)
from nri_inject.text.flow import advice, flow
from nri_inject.text.paths import clean
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    from nri_inject.host.devices.selectors import Selector

from nri_inject.injectors.device.request import DeviceRequest, RequestedDevice, at, device_of
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
    if meant := _ACCESS_WORDS.get(text.lower()):
        raise Fault(f"{quoted(text)} must be some of the letters r, w and m; write {meant}")
    if not text or not {*text} <= {*"rwm"}:
        raise Fault(f"{quoted(text)} must be some of the letters r, w and m")
    return access.letters(text)


def _number(read: Reader[int]) -> Reader[int]:
    """Return a reader of a device's number that says what to do for a whole range of them."""

    def read_number(value: Value) -> int:
        try:
            return read(value)
        except Fault as fault:
            if value not in _ALL_NUMBERS:
                raise
            raise Fault(*(f"{sentence}; {_NOT_A_RANGE}" for sentence in fault.sentences)) from None

    return read_number


_ALL_NUMBERS: Final = (-1, "-1", "*", "any", "all")
_NOT_A_RANGE: Final = (
    "access to all devices of a major number cannot be requested: name them, as in"
    ' {device: "/dev/ttyUSB*", count: all}'
)


def _mode(value: Value) -> int:
    """Read a mode; YAML reads 0666 in octal, and 666 in decimal, which is 01232."""
    if isinstance(value, str) and (meant := modes.octal_of(value)) is not None:
        raise Fault(f"{quoted(value)} is text; write {flow(meant)} without quotes")
    if isinstance(value, str) and {*value} <= {*"rwm"}:
        raise Fault(f"{quoted(value)} is no mode; write access: {value}")
    number = _ANY_MODE(value)
    if (meant := modes.decimal_mode(number)) is not None:
        raise Fault(f"{number} is decimal (0{number:o}); write {flow(meant)}")
    return number


_ANY_MODE: Final = integer(0, 0o7777)


def _owner_id(what: str, other: str) -> Reader[int]:
    """Return a reader of the number of a user or a group; a name has one only on a node."""

    def read(value: Value) -> int:
        if not isinstance(value, str) or value.lstrip("-").isdigit():
            return _UINT32(value)
        if value == "root":
            raise Fault(f"'root' is not an integer; write {what}: 0")
        user, colon, group = value.partition(":")
        if colon and user.isdigit() and group.isdigit():
            raise Fault(f"{quoted(value)} is not an integer; write uid: {user}, gid: {group}")
        raise Fault(
            f"{quoted(value)} is not an integer; a {other} has its number on each node and in each"
            " image: write that of the image, or owner: container, which gives the device to the"
            " user of the container"
        )

    return read


_ACCESS_WORDS: Final = {
    **dict.fromkeys(("ro", "read", "readonly", "read-only"), "r"),
    **dict.fromkeys(("write", "readwrite", "read-write", "rwx", "full"), "rw"),
}

_MORE: Final = (
    Field("type", _device_type),
    Field("major", _number(integer(0, MAX_MAJOR))),
    Field("minor", _number(integer(0, MAX_MINOR))),
    Field("file_mode", _mode),
    Field("uid", _owner_id("uid", "user")),
    Field("gid", _owner_id("gid", "group")),
    Field("access", _access_letters),
)
_DEVICE: Final = map_of((Field("path", container_path, required=True), *_MORE))

# The keys that Go does not have. An item with one of them is read by `selected`.
_OURS: Final = frozenset({"device", "as", "links", "count", "optional", "owner", "on_change"})


def _device(value: Value) -> DeviceRequest:
    """Read an item: as Go does, or a device that is looked for; a text is its selector."""
    if isinstance(value, str):
        if not _is_selector(value) and (problem := habits.problem_of_text(value)):
            raise Fault(problem)
        value = {"device": value}
    if not isinstance(value, dict):
        raise wrong_type(value, f"a path, a selector or a map with {', '.join(habits.KEYS)}")
    odd = [*habits.problems_of_map(value)]
    try:
        request = _read_map(value)
    except Fault as fault:
        if not odd:
            raise
        told = {problem.path for problem in odd}
        others = [
            problem
            for problem in fault.problems
            if problem.code not in ("unknown-field", "missing") and problem.path not in told - {()}
        ]
        raise Fault(*others, *odd) from fault
    if odd:
        raise Fault(*odd)
    return request


def _read_map(value: dict[str, Value]) -> DeviceRequest:
    if _OURS.isdisjoint(key.lower() for key in value):
        return DeviceRequest(**_DEVICE(value))
    return _read_selected()(value)


def _is_selector(text: str) -> bool:
    """Tell whether a text has the form of a selector; most are a path without a colon."""
    if text.startswith("/"):
        return ":" not in text and _ONE_WORD.fullmatch(text) is not None
    return text.startswith(("usb:", "udev:", "class:"))


_ONE_WORD: Final = re.compile(r"[^\s,;{}]+")


@cache
def _read_selected() -> Reader[DeviceRequest]:
    # Imported at first use: most nodes have no pod that needs it, and it takes time to start.
    from nri_inject.injectors.device import selected

    return selected.reader((Field("path", container_path), Field("as", container_path), *_MORE))


# What a selector may mean, as far as a policy can tell without looking.
_ANY_NODE: Final = "/dev/*"

# A path can take 256 looks at the host, so this many take longer than all that a text may say.
_MAX_LOOKED_UP: Final = 256
_STEPS_PER_DEVICE: Final = 20
# Each looks at all devices of the host.
_MAX_SEARCHES: Final = 8


# What a look at a path of the host gave, for one annotation.
_Nodes: TypeAlias = dict[str, DeviceNode | Fault]


@dataclass(frozen=True, slots=True)
class _Devices:
    """The valid items of a list of devices, and the faults, by the item's index."""

    items: Mapping[int, DeviceRequest]
    faults: Mapping[int, Sequence[Problem]]


def read_devices(value: Value) -> Wish | None:
    """Read a list of devices; None of an empty one. Raises Fault."""
    if value is not None and not isinstance(value, list):
        raise _no_list(value)
    if isinstance(value, list):
        check_count(len(value), "items")
        _check_searches(sum(map(_has_selector, value)))
    items, faults = read_items(_device, value)
    if not items and not faults:
        return None
    # Aliases can request one device some ten thousand times. Equal ones are one.
    distinct: dict[DeviceRequest, int] = {}
    for index, request in items.items():
        distinct.setdefault(at(request, clean(request.path)), index)
    kept = {index: items[index] for index in distinct.values()}
    looked_up = [request for request in kept.values() if not request.is_complete]
    paths = {_sought(request) for request in looked_up}
    if len(paths) > _MAX_LOOKED_UP:
        raise Fault(
            f"{len(paths)} devices without type and major, at most {_MAX_LOOKED_UP} allowed"
        )
    _check_searches(sum(map(_searches, looked_up)))
    return partial(_devices, _Devices(kept, faults))


def read_given_device(value: Value) -> Wish:
    """Read one device that a rule gives, an item of the same form."""
    return partial(_devices, _Devices({0: _device(value)}, {}))


def _no_list(value: Value) -> Fault:
    """Return the fault of a value that is no list, with the list that it was meant to be."""
    if isinstance(value, str) and (problem := habits.problem_of_text(value)):
        return Fault(problem)
    items = value.get("devices") if isinstance(value, dict) else value
    meant = items if isinstance(items, list) else [value]
    hint = f"; write {advice(meant)}" if isinstance(value, str | dict) else ""
    return Fault(f"{described(value)} is not a list{hint}")


def _check_searches(searches: int) -> None:
    if searches > _MAX_SEARCHES:
        raise Fault(
            f"{searches} devices by `links` or by a selector that is no path,"
            f" at most {_MAX_SEARCHES} allowed"
        )


def _has_selector(item: Value) -> bool:
    """Tell whether an item that is not read yet has a selector that is no path."""
    if isinstance(item, dict):
        item = next((value for key, value in item.items() if key.lower() == "device"), None)
    return isinstance(item, str) and not item.startswith("/")


def _sought(request: DeviceRequest) -> str:
    """Return the key of a lookup on the host."""
    selector = request.selector
    return clean(request.path) if selector is None else selector.path or selector.text


def _searches(request: DeviceRequest) -> bool:
    return request.selector is not None and (request.selector.path is None or request.links)


def _devices(devices: _Devices, host: Host, container: Container) -> Adjustment:
    """Complete the devices from the host; faults of format and of lookups are reported together."""
    host.budget.spend("completing its devices", len(devices.items) * _STEPS_PER_DEVICE)
    faults: dict[int, Sequence[Problem]] = dict(devices.faults)
    items: list[tuple[str, object, tuple[api.LinuxDevice, str]]] = []
    nodes: _Nodes = {}
    complete = _mounted if user_namespace.is_in_one(container) else _completed
    for index, request in devices.items.items():
        if request.is_complete and request.minor is None:
            what = "minor is missing, and 0 is taken; write minor: 0 if that is meant"
            host.warn(f"item {index + 1}: {what}; {_NOT_A_RANGE}")
        try:
            found = complete(request, host, container, nodes)
            items += map(_device_item, found)
            if request.on_change == "restart":
                for device in found:
                    host.on_change(device.path)
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
    wanted: dict[Number, set[str]] = {}
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


def _automatic(number: Number) -> frozenset[str]:
    return access.AUTOMATIC.get(number[0], frozenset())


def _completed(
    request: DeviceRequest, host: Host, container: Container, nodes: _Nodes
) -> list[RequestedDevice]:
    """Return what an item becomes: one device, or as many as are looked for."""
    if request.selector is not None:
        devices = _found(request, request.selector, host)
    elif request.optional and _is_missing(request, host):
        devices = []
    else:
        devices = [_complete(request, host, nodes)]
    if request.owner != "container":
        return devices
    return [device.owned_by_user_of(container, host.runtime) for device in devices]


def _mounted(
    request: DeviceRequest, host: Host, container: Container, nodes: _Nodes
) -> list[RequestedDevice]:
    """Return what an item becomes in a user namespace, where a node is as it is on the host."""
    given = {
        "uid": request.uid is not None,
        "gid": request.gid is not None,
        "owner": request.owner == "container",
    }
    if any(given.values()):
        raise Fault(*(user_namespace.other_owner(name) for name in given if given[name]))
    devices = _completed(request, host, container, nodes)
    return [_as_on_host(device, host, nodes) for device in devices]


def _as_on_host(device: RequestedDevice, host: Host, nodes: _Nodes) -> RequestedDevice:
    """Return a device with the mode and owner of the host's node; Fault if it is another one."""
    path = clean(device.path)
    if not device.type or not _reaches(path, host):
        return device  # which no rule can allow
    if len(nodes) >= _MAX_LOOKED_UP and path not in nodes:
        raise Fault(f"more than {_MAX_LOOKED_UP} devices in a user namespace")
    try:
        node = _node_once(path, host, nodes)
    except Fault as fault:
        raise Fault(*map(user_namespace.not_the_hosts, fault.sentences)) from fault
    number = (device.type, device.major, device.minor)
    why = user_namespace.other_device(path, number, node)
    why = why or user_namespace.other_mode("file_mode", device.file_mode, node)
    if why:
        raise Fault(why)
    if warning := user_namespace.closed(path, device.access or "rw", node):
        host.warn(warning)
    return device._replace(file_mode=node.mode, uid=node.uid, gid=node.gid)


def _found(request: DeviceRequest, selector: Selector, host: Host) -> list[RequestedDevice]:
    from nri_inject.host.devices import inventory
    from nri_inject.injectors.device import selected

    if not _reaches(selector.path or _ANY_NODE, host):
        return [device_of(request, selector.text, None)]  # which no rule can allow
    spend = partial(host.budget.spend, f"looking for {quoted(selector.text)} on the host")
    look = host.inventory or inventory.Inventory
    found = selected.find(request, selector, host.devices, look, spend)
    return [device_of(request, path, node) for path, node in found]


def _is_missing(request: DeviceRequest, host: Host) -> bool:
    path = clean(request.path)
    if request.is_complete or not _reaches(path, host):
        return False
    return is_missing(path, host.devices)


def _reaches(path: str, host: Host) -> bool:
    """Tell whether a rule could allow what is there; nothing else is looked at."""
    return host.permit is None or host.permit.reaches_device(path)


def _complete(request: DeviceRequest, host: Host, nodes: _Nodes) -> RequestedDevice:
    """Fill in from the host's node what was not given; Go sends type "" and 0:0 instead."""
    path = request.path
    if request.is_complete or not _reaches(path, host):
        return device_of(request, path, None)  # without a type no rule can allow it
    node = _node_once(clean(path), host, nodes)
    wrong = [
        f"{name}: {given} but {quoted(path)} has {has}"
        for name, given, has in (
            ("type", request.type, node.type),
            ("major", request.major, node.major),
            ("minor", request.minor, node.minor),
        )
        if given not in (None, has)
    ]
    if wrong:
        raise Fault(*wrong)
    return device_of(request, path, node)


def _node_once(path: str, host: Host, nodes: _Nodes) -> DeviceNode:
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


def _device_item(device: RequestedDevice) -> tuple[str, object, tuple[api.LinuxDevice, str]]:
    path, kind, major, minor, mode, uid, gid, letters = device
    message = api.LinuxDevice(path=path, type=kind, major=major, minor=minor)
    # Zero is a value here: a device of mode 0 or of root's. In Go it cannot be given.
    if mode is not None:
        message.file_mode.CopyFrom(api.OptionalFileMode(value=mode))
    if uid is not None:
        message.uid.CopyFrom(api.OptionalUInt32(value=uid))
    if gid is not None:
        message.gid.CopyFrom(api.OptionalUInt32(value=gid))
    place = clean(path)
    return place, at(device, place), (message, letters)

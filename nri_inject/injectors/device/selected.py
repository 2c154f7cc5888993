"""Devices that are looked for by what they are: what an item may say of them, and those found.

Pure but for the mappings that come in: the host's nodes by path, and its inventory, which is
requested only if a selector is no path. How many devices a selector may match is said by `count`,
and is one unless it says otherwise: a second stick of the same kind must not silently change
which one a pod has had so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.naming import stable_selector
from nri_inject.host.devices.node import is_missing, node_at
from nri_inject.host.devices.selectors import Selector, parse
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.device.request import DeviceRequest, OnChange, Owner
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    Values,
    choice,
    integer,
    map_of,
    read_flag,
    read_short_line,
)
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

ALL: Final = "all"
MAX_DEVICES: Final = 256
"""How many devices one item may have, and an annotation may look for."""


def _read_selector(value: Value) -> Selector:
    return parse(read_short_line(value))


def _read_count(value: Value) -> int | str:
    return ALL if value == ALL else _NUMBER(value)


_NUMBER: Final = integer(1, MAX_DEVICES)
_OWNERS: Final[Mapping[str, Owner]] = {"container": "container", "host": "host"}
_ON_CHANGE: Final[Mapping[str, OnChange]] = {"report": "report", "restart": "restart"}

_OWN: Final = (
    Field("device", _read_selector),
    Field("links", read_flag),
    Field("count", _read_count),
    Field("optional", read_flag),
    Field("owner", choice(_OWNERS)),
    Field("on_change", choice(_ON_CHANGE)),
)
_NAMES: Final = {"device": "selector", "as": "alias", "count": "how_many"}
_WITH_DEVICE: Final = ("as", "links", "count")
_WITH_PATH: Final = ("type", "major", "minor")


def reader(fields: Sequence[Field]) -> Reader[DeviceRequest]:
    """Return a reader of items with our keys and others: `as`, `path` and those that Go has."""
    read = map_of((*_OWN, *fields))

    def read_item(value: Value) -> DeviceRequest:
        item = read(value)
        faults = [*_faults(item)]
        if faults:
            raise Fault(*faults)
        renamed = {_NAMES.get(key, key): given for key, given in item.items()}
        return DeviceRequest(**renamed)

    return read_item


def _faults(item: Values) -> Iterator[str]:
    """Yield what is wrong with an item whose keys are each right by themselves."""
    if "device" in item:
        if "path" in item:
            yield (
                "device and path are mutually exclusive; `as` is the device's path in the container"
            )
        for name in (n for n in _WITH_PATH if n in item):
            yield f"{name} is allowed with path only; a selected device has its own"
        if "as" in item:
            yield from _alias_faults(item["as"], item.get("count", 1))
    elif "path" in item:
        yield from (
            f"{n} is allowed with device only, not with path" for n in _WITH_DEVICE if n in item
        )
    else:
        yield "device or path is missing"
    if "owner" in item and ("uid" in item or "gid" in item):
        yield f"owner: {item['owner']} and uid or gid are mutually exclusive"


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A selected node of the host, and its other paths if the item needs them.

    `device` is its entry in the inventory, if the selector is not a path.
    """

    node: DeviceNode
    links: tuple[str, ...] = ()
    device: Device | None = None


# The list of all devices is made again for each request.
_STEPS_PER_LISTED: Final = 3


def find(
    request: DeviceRequest,
    selector: Selector,
    nodes: Mapping[str, DeviceNode],
    inventory: Callable[[], Inventory],
    spend: Spend = unlimited,
) -> list[tuple[str, DeviceNode]]:
    """Return the devices that a request looks for, each with its path in the container.

    Raises Fault if the host lacks one, unless the item is optional. `spend` is called with the
    steps that a search among all devices costs.
    """
    if selector.path is None:
        devices = inventory().devices
        spend(_STEPS_PER_LISTED * len(devices))
        found = [_of(device, nodes) for device in selector.select(devices, spend)]
    elif request.optional and is_missing(selector.path, nodes):
        found = []
    else:
        found = [_at(selector.path, request.links, nodes, inventory)]
    if not found and request.optional:
        return []
    _check_count(selector, request.how_many, found)
    return [
        (path, each.node)
        for index, each in enumerate(found)
        for path in _paths(request, index, each)
    ]


def _at(
    path: str, linked: bool, nodes: Mapping[str, DeviceNode], inventory: Callable[[], Inventory]
) -> FoundDevice:
    """Return what a path leads to; the inventory is only needed for its links."""
    node = node_at(path, nodes)
    if not linked:
        return FoundDevice(node)
    known = inventory().of_number("b" if node.type == "b" else "c", node.major, node.minor)
    return FoundDevice(node, () if known is None else tuple(p for p in known.paths if p != path))


def _of(device: Device, nodes: Mapping[str, DeviceNode]) -> FoundDevice:
    node = node_at(device.path, nodes)
    if (node.type, node.major, node.minor) != device.number:
        raise Fault(f"{quoted(device.path)} is being replaced by another device; try again")
    return FoundDevice(node, device.links, device)


# --- how many -----------------------------------------------------------------------------------

_MAX_SHOWN: Final = 4


def _check_count(selector: Selector, count: int | str, found: Sequence[FoundDevice]) -> None:
    if not found:
        raise Fault(
            f"{quoted(selector.text)} matches no device; run `nri-inject devices"
            " explain` on the node for near matches"
        )
    if len(found) > MAX_DEVICES:
        raise Fault(f"{quoted(selector.text)} matches more than {MAX_DEVICES} devices")
    if count in (ALL, len(found)):
        return
    noun = "device" if len(found) == 1 else "devices"
    wanted = f"{quoted(selector.text)} matches {len(found)} {noun}, {count} requested"
    if len(found) < int(count):
        raise Fault(f"{wanted}: {', '.join(each.node.path for each in found)}")
    shown = "; ".join(_narrower([each.device for each in found if each.device is not None]))
    more = f"; and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    raise Fault(f"{wanted}; use one of these, or `count`: {shown}{more}")


def _narrower(found: Sequence[Device]) -> Iterator[str]:
    """Yield a selector for each of several devices that matches only this one of them."""
    among = Inventory(tuple(found))  # a search among all devices of a host takes too long
    return (stable_selector(device, among) for device in found[:_MAX_SHOWN])


# --- paths in the container ---------------------------------------------------------------------

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_PLACES: Final = ("name", "index")


def _alias_faults(path: str, count: int | str) -> Iterator[str]:
    places = _PLACE.findall(path)
    for unknown in (place for place in places if place not in _PLACES):
        yield f"as: {{{unknown}}} is unknown; known: {{name}}, {{index}}"
    if count != 1 and not places:
        yield f"as: {quoted(path)} needs {{name}} or {{index}} for more than one device"


def _paths(request: DeviceRequest, index: int, found: FoundDevice) -> Iterator[str]:
    """Yield where a device is in the container: its path, or another; and its links'."""
    if request.alias is None:
        yield found.node.path
    else:
        values = {"name": found.node.path.rpartition("/")[2], "index": str(index)}
        yield _PLACE.sub(lambda place: values[place[1]], request.alias)
    if request.links:
        yield from found.links

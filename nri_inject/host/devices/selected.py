"""What an annotation's device item says of a device that is looked for, and what it becomes.

Pure but for the mappings that come in: the host's nodes by path, and its inventory, which is
requested only if a selector is no path. How many devices a selector may match is said by `count`,
and is one unless it says otherwise: a second stick of the same kind must not silently change
which one a pod has had so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from nri_inject.api import Container
from nri_inject.capabilities import Runtime
from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.naming import stable_selector
from nri_inject.host.devices.node import node_at
from nri_inject.host.devices.selectors import Selector, parse
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    Values,
    choice,
    described,
    integer,
    map_of,
    read_short_line,
)
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

Owner: TypeAlias = Literal["container", "host"]
ALL: Final = "all"
MAX_DEVICES: Final = 256
"""How many devices one item may have, and an annotation may look for."""


def _read_flag(value: Value) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise Fault(f"{described(value)} is not true or false")
    return value


def _read_selector(value: Value) -> Selector:
    return parse(read_short_line(value))


def _read_count(value: Value) -> int | str:
    return ALL if value == ALL else _NUMBER(value)


_NUMBER: Final = integer(1, MAX_DEVICES)
_OWNERS: Final[Mapping[str, Owner]] = {"container": "container", "host": "host"}

_OWN: Final = (
    Field("device", _read_selector),
    Field("links", _read_flag),
    Field("count", _read_count),
    Field("optional", _read_flag),
    Field("owner", choice(_OWNERS)),
)
_WITH_DEVICE: Final = ("as", "links", "count")
_WITH_PATH: Final = ("type", "major", "minor")


def reader(fields: Sequence[Field]) -> Reader[Values]:
    """Return a reader of items with our keys and others: `as`, `path` and those that Go has."""
    read = map_of((*_OWN, *fields))

    def read_item(value: Value) -> Values:
        item = read(value)
        faults = [*_faults(item)]
        if faults:
            raise Fault(*faults)
        return item

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
class Match:
    """A selected node of the host, and its other paths if the item needs them.

    `device` is its entry in the inventory, if the selector is not a path.
    """

    node: DeviceNode
    links: tuple[str, ...] = ()
    device: Device | None = None


# The list of all devices is made again for each request.
_STEPS_PER_LISTED: Final = 3


def find(
    item: Values,
    nodes: Mapping[str, DeviceNode],
    inventory: Callable[[], Inventory],
    spend: Spend = unlimited,
) -> list[Values]:
    """Return the devices that an item requests, each with path, numbers, mode and owner.

    Raises Fault if the host lacks one, unless the item is optional. `spend` is called with the
    steps that a search among all devices costs.
    """
    selector: Selector = item["device"]
    optional = item.get("optional", False)
    if selector.path is None:
        devices = inventory().devices
        spend(_STEPS_PER_LISTED * len(devices))
        found = [_of(device, nodes) for device in selector.select(devices, spend)]
    elif optional and is_missing(selector.path, nodes):
        found = []
    else:
        found = [_at(selector.path, item.get("links", False), nodes, inventory)]
    if not found and optional:
        return []
    _check_count(selector, item.get("count", 1), found)
    return [
        {**_facts(each.node), **_given(item), "path": path}
        for index, each in enumerate(found)
        for path in _paths(item, index, each)
    ]


def is_missing(path: str, nodes: Mapping[str, DeviceNode]) -> bool:
    """Tell whether an optional device is not there: nothing is, or a link that leads nowhere."""
    try:
        nodes[path]
    except NotADevice as error:
        return error.why.startswith(("is a dangling link", "does not exist", "is not visible"))
    except KeyError:
        return True
    return False


def _at(
    path: str, linked: bool, nodes: Mapping[str, DeviceNode], inventory: Callable[[], Inventory]
) -> Match:
    """Return what a path leads to; the inventory is only needed for its links."""
    node = node_at(path, nodes)
    if not linked:
        return Match(node)
    known = inventory().of_number("b" if node.type == "b" else "c", node.major, node.minor)
    return Match(node, () if known is None else tuple(p for p in known.paths if p != path))


def _of(device: Device, nodes: Mapping[str, DeviceNode]) -> Match:
    node = node_at(device.path, nodes)
    if (node.type, node.major, node.minor) != device.number:
        raise Fault(f"{quoted(device.path)} is being replaced by another device; try again")
    return Match(node, device.links, device)


def _facts(node: DeviceNode) -> Values:
    return {
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "file_mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
    }


def _given(item: Values) -> Values:
    return {key: item[key] for key in ("file_mode", "uid", "gid", "owner") if key in item}


# --- how many -----------------------------------------------------------------------------------

_MOST_SHOWN: Final = 4


def _check_count(selector: Selector, count: int | str, found: Sequence[Match]) -> None:
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
    more = f"; and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    raise Fault(f"{wanted}; use one of these, or `count`: {shown}{more}")


def _narrower(found: Sequence[Device]) -> Iterator[str]:
    """Yield a selector for each of several devices that matches only this one of them."""
    among = Inventory(tuple(found))  # a search among all devices of a host takes too long
    return (stable_selector(device, among) for device in found[:_MOST_SHOWN])


# --- paths in the container ---------------------------------------------------------------------

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_PLACES: Final = ("name", "index")


def _alias_faults(path: str, count: int | str) -> Iterator[str]:
    places = _PLACE.findall(path)
    for unknown in (place for place in places if place not in _PLACES):
        yield f"as: {{{unknown}}} is unknown; known: {{name}}, {{index}}"
    if count != 1 and not places:
        yield f"as: {quoted(path)} needs {{name}} or {{index}} for more than one device"


def _paths(item: Values, index: int, found: Match) -> Iterator[str]:
    """Yield where a device is in the container: its path, or another; and its links'."""
    alias: str | None = item.get("as")
    if alias is None:
        yield found.node.path
    else:
        values = {"name": found.node.path.rpartition("/")[2], "index": str(index)}
        yield _PLACE.sub(lambda place: values[place[1]], alias)
    if item.get("links", False):
        yield from found.links


# --- owner --------------------------------------------------------------------------------------


def with_owner(device: Values, container: Container, runtime: Runtime) -> Values:
    """Return a device with the requested owner.

    `container` has the user that the container's process starts as; runtimes report it from NRI
    0.11.0 on: containerd 2.3.0 and CRI-O 1.36.0. Without it, Fault says what to do.
    """
    rest = {key: value for key, value in device.items() if key not in ("owner", "optional")}
    if device.get("owner") != "container":
        return rest
    if not container.HasField("user"):
        name = f"{runtime.name} {runtime.version}".strip() or "the runtime"
        raise Fault(
            f"owner: {name} does not report the container's user (containerd 2.3.0"
            " and CRI-O 1.36.0 do); set uid and gid instead"
        )
    return {**rest, "uid": container.user.uid, "gid": container.user.gid}

"""CDI specs of the host's own hardware, one of each class. Pure: an inventory comes in.

A spec says of a node which one it is and nothing more, so type, numbers, mode and owner are those
of the host when a container starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.naming import stable_name, stable_selector

VENDOR: Final = "node.local"
ALL: Final = "all"


def spec_of(name: str, inventory: Inventory) -> dict[str, Any] | None:
    """Return the spec of a class, without a version; None where the host has nothing of it.

    Each device is one of CDI's, but for sound, where a card is; `all` has the nodes of all.
    """
    members = [device for device in inventory if CLASSES[name].holds(device)]
    if not members:
        return None
    devices = {ALL: members, **_grouped(members, inventory)}
    return {
        "kind": f"{VENDOR}/{name}",
        "devices": [
            _device(each, nodes, inventory) for each, nodes in sorted(devices.items()) if nodes
        ],
    }


def _grouped(members: Iterable[Device], inventory: Inventory) -> dict[str, list[Device]]:
    groups: dict[str, list[Device]] = {}
    names: dict[str, str] = {}  # by what holds the nodes together
    for device in members:
        whole = _card(device) or device.path
        if whole not in names:
            names[whole] = _free_name(device, groups, inventory)
        groups.setdefault(names[whole], []).append(device)
    return groups


def _card(device: Device) -> str:
    """Return the sysfs path of the sound card that a node belongs to."""
    head, _, name = device.syspath.rpartition("/")
    is_part = device.subsystem == "sound" and head.rpartition("/")[2].startswith("card")
    return head if is_part and name else ""


def _free_name(device: Device, taken: Mapping[str, Any], inventory: Inventory) -> str:
    name = stable_name(device, inventory)
    fallback = device.path.removeprefix("/dev/").replace("/", "-")
    return fallback if name in taken or name == ALL else name


def _device(name: str, nodes: Sequence[Device], inventory: Inventory) -> dict[str, Any]:
    listed = [node for device in nodes for node in _nodes(device, inventory)]
    return {"name": name, "containerEdits": {"deviceNodes": listed}}


def _nodes(device: Device, inventory: Inventory) -> list[dict[str, str]]:
    """Return the node under the kernel's name, and once more under the stable one.

    The reference does not follow links of the host (CDI 1.1.0), so what they lead to is named.
    """
    own = {"path": device.path}
    selector = stable_selector(device, inventory)
    if selector not in device.links:
        return [own]
    return [own, {"path": selector, "hostPath": device.path}]

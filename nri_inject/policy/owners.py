"""The plugin that set each part of an adjustment which several plugins made.

NRI reports it by field, and by key if a field has keys (OwningPlugins, NRI 0.10.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject.api import Field, FieldOwners
from nri_inject.policy.kinds import Removal
from nri_inject.policy.rules import Item

# Kind of item -> the field of NRI that has the owners by the item's key.
_COMPOUND: Final[Mapping[str, int]] = {
    "devices": Field.Devices,
    "cdi_devices": Field.CdiDevices,
    "mounts": Field.Mounts,
    "network_devices": Field.LinuxNetDevices,
    "sysctl": Field.Sysctl,
    "ulimits": Field.Rlimits,
}
_SIMPLE: Final[Mapping[str, int]] = {
    "scheduling_policy": Field.LinuxSched,
    "io_priority": Field.IoPriority,
    "memory_policy": Field.MemoryPolicy,
    "hooks": Field.OciHooks,
}
_BY_NAME: Final[Mapping[str, int]] = dict(Field.items())

UNKNOWN: Final = "unknown"
"""Stands for the plugin where NRI does not name it, as for cgroup rules and most removals."""


def owner(item: Item[object], owners: FieldOwners) -> str:
    """Return the plugin that set an item, as `NN-name`.

    Several plugins that added hooks are joined with commas.
    """
    if item.kind in _COMPOUND:
        return _of_key(_COMPOUND[item.kind], item.key, owners)
    if isinstance(item.facts, Removal):
        # NRI names the plugin, with a mark, if it removed what an earlier plugin had added.
        return _of_key(item.facts.field, item.facts.key, owners).removeprefix("-")
    if item.kind in _SIMPLE:
        return owners.simple.get(_SIMPLE[item.kind]) or UNKNOWN
    return _of_field(_BY_NAME[item.key], owners)


def _of_key(field: int, key: str, owners: FieldOwners) -> str:
    found = owners.compound[field].owners.get(key) if field in owners.compound else None
    return found or UNKNOWN


def _of_field(field: int, owners: FieldOwners) -> str:
    """Return the owner of a field, or of all of its keys."""
    if field in owners.compound:
        names = sorted({*owners.compound[field].owners.values()})
        return ",".join(names) or UNKNOWN
    return owners.simple.get(field) or UNKNOWN

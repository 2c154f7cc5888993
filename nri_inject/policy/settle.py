"""The adjustment that comes of decisions: with what was judged, and without what is denied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar

from nri_inject.api import Adjustment
from nri_inject.host.access import rule_number
from nri_inject.policy.device_items import device_number, rule_key
from nri_inject.policy.rules import Item

T = TypeVar("T")


def with_real_sources(adjustment: Adjustment, items: Iterable[Item[object]]) -> Adjustment:
    """Return an adjustment whose mounts have the sources that were judged.

    A path that the pod's author chose may lead elsewhere when the runtime resolves it.
    """
    real = {item.key: item.real for item in items if item.kind == "mounts" and item.real}
    if all(
        real.get(mount.destination, mount.source) == mount.source for mount in adjustment.mounts
    ):
        return adjustment
    settled = Adjustment()
    settled.CopyFrom(adjustment)
    for mount in settled.mounts:
        mount.source = real.get(mount.destination, mount.source)
    return settled


def without(adjustment: Adjustment, items: Iterable[Item[object]]) -> Adjustment:
    """Return an adjustment without these items of it; the rest is as it was."""
    keys: dict[str, set[str]] = {}
    for item in items:
        keys.setdefault(item.kind, set()).add(item.key)
    left = Adjustment()
    left.CopyFrom(adjustment)
    for kind, gone in keys.items():
        _REMOVERS[kind](left, gone)
    return left


def _remove_devices(left: Adjustment, keys: AbstractSet[str]) -> None:
    """Remove devices with the rules for their numbers, and rules that came without a device.

    The rules of a number that another device shares stay: they may remove a permission.
    """
    kept = [device for device in left.linux.devices if device.path not in keys]
    gone = {device_number(device) for device in left.linux.devices if device.path in keys}
    gone -= {device_number(device) for device in kept}
    rules = [
        rule
        for rule in left.linux.resources.devices
        if rule_number(rule) not in gone and not (rule.allow and rule_key(rule) in keys)
    ]
    _replace(left.linux.devices, kept)
    if len(rules) != len(left.linux.resources.devices):
        _replace(left.linux.resources.devices, rules)


def _remove_mounts(left: Adjustment, keys: AbstractSet[str]) -> None:
    _replace(left.mounts, [mount for mount in left.mounts if mount.destination not in keys])


def _remove_limits(left: Adjustment, keys: AbstractSet[str]) -> None:
    _replace(left.rlimits, [limit for limit in left.rlimits if limit.type not in keys])


def _replace(items: MutableSequence[T], kept: list[T]) -> None:
    del items[:]
    items.extend(kept)


def _remove_keys(items: MutableMapping[str, T], keys: AbstractSet[str]) -> None:
    for key in keys:
        del items[key]


_REMOVERS: Final[Mapping[str, Callable[[Adjustment, AbstractSet[str]], None]]] = {
    "devices": _remove_devices,
    "mounts": _remove_mounts,
    "ulimits": _remove_limits,
    "network_devices": lambda left, keys: _remove_keys(left.linux.net_devices, keys),
    "sysctl": lambda left, keys: _remove_keys(left.linux.sysctl, keys),
    "scheduling_policy": lambda left, _: left.linux.ClearField("scheduler"),
    "io_priority": lambda left, _: left.linux.ClearField("io_priority"),
    "memory_policy": lambda left, _: left.linux.ClearField("memory_policy"),
}
"""How what a pod may request by annotation is taken out again; CDI devices and hooks are left
out before they become an adjustment, and other plugins request the rest."""

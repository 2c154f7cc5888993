"""Resources of a running container, changed as runtimes change them; pure."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message

from nri_inject.api import LinuxResources

_CONTAINERD: Final = {
    "memory": {"limit"},
    "cpu": {"shares", "quota", "period", "cpus", "mems"},
    "hugepage_limits": None,
    "unified": None,
}
"""What containerd (1.7 to 2.4) takes from an update; None stands for all of a field."""


def update(current: LinuxResources, wanted: LinuxResources, *, everything: bool) -> None:
    """Change `current` to what a runtime makes of an update.

    containerd loses most fields, and cannot tell a zero from nothing; CRI-O takes `everything`.
    """
    asked = LinuxResources()
    asked.CopyFrom(wanted)
    if not everything:
        _reduce(asked)
    sizes = {limit.page_size for limit in asked.hugepage_limits}
    kept = [limit for limit in current.hugepage_limits if limit.page_size not in sizes]
    current.ClearField("hugepage_limits")
    current.hugepage_limits.extend(kept)
    current.MergeFrom(asked)


def _reduce(asked: LinuxResources) -> None:
    for field, value in asked.ListFields():
        if field.name not in _CONTAINERD:
            asked.ClearField(field.name)
        elif names := _CONTAINERD[field.name]:
            _keep(value, names)


def _keep(message: Any, names: set[str]) -> None:
    for field, value in message.ListFields():
        is_zero = isinstance(value, Message) and not value.ListFields()
        if field.name not in names or is_zero:
            message.ClearField(field.name)

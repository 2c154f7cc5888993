"""What a container may do with a device: what NRI allows by itself, and rules that differ.

For each device of an adjustment a runtime appends an allow rule of its own, and the adjustment's
rules for the device cgroup come after it (pkg/runtime-tools/generate of NRI 0.12).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from nri_inject import api

AUTOMATIC: Final[Mapping[str, frozenset[str]]] = {"c": frozenset("rw"), "b": frozenset("rwm")}
"""The letters that a device of each type gets: reading, writing, and making nodes (m)."""


def letters(access: Iterable[str]) -> str:
    """Write access letters in their usual order."""
    return "".join(letter for letter in "rwm" if letter in access)


def rules(
    number: tuple[str, int, int], has: Iterable[str], wanted: Iterable[str]
) -> list[api.LinuxDeviceCgroup]:
    """Return the rules that make the access to a device what is wanted, instead of what it has.

    `number` is type, major and minor.
    """
    kind, major, minor = number
    made = []
    for allow, access in ((True, {*wanted} - {*has}), (False, {*has} - {*wanted})):
        if access:
            rule = api.LinuxDeviceCgroup(allow=allow, type=kind, access=letters(access))
            rule.major.value, rule.minor.value = major, minor
            made.append(rule)
    return made

"""What a container may do with a device: rules for the device cgroup, and what comes of them.

For each device of an adjustment the runtime appends an allow rule of its own, and the adjustment's
rules come after it (pkg/runtime-tools/generate of NRI 0.12). OCI runtimes read one list of rules
in two ways; this was tried with runc 1.1, 1.3 and 1.5 and crun 1.28:

- crun on cgroup v2 applies the last rule that has every letter of a request. A rule that denies
  `w` leaves opening for reading and writing to the rules before it.
- runc, and crun on cgroup v1, add letters to entries and remove them. A rule removes them from
  the entry of its own type and numbers only: wildcards do not reach into other entries, and a
  number does not reach into a wildcard. Every rule of type `a` means all devices, and any letters.

The rules made here mean the same in both ways, and what is believed of other rules is the most
that either gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from nri_inject import api

Number: TypeAlias = tuple[str, int, int]
"""Type, major and minor of a device; in a rule any negative number is a wildcard."""

ALL: Final = frozenset("rwm")

AUTOMATIC: Final[Mapping[str, frozenset[str]]] = {"c": frozenset("rw"), "b": ALL}
"""The letters that a device of each type gets: reading, writing, and making nodes (m)."""

# The default rules of runc 1.5 and crun 1.28, which come after all others: null, zero, full,
# random, urandom; tty, ptmx, and console with crun; net/tun.
_ALWAYS_OPEN: Final = frozenset(
    {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 200)}
)
_PTS_MAJOR: Final = 136


def letters(access: Iterable[str]) -> str:
    """Write access letters in their usual order."""
    return "".join(letter for letter in "rwm" if letter in access)


# --- rules that are made ------------------------------------------------------------------------


def rules(number: Number, has: Iterable[str], wanted: Iterable[str]) -> list[api.LinuxDeviceCgroup]:
    """Return the rules that change the access to a device from the default to the requested one."""
    has, wanted = {*has}, {*wanted}
    made = []
    if has - wanted:
        made.append(_rule(number, allow=False, access=ALL))
    if wanted and has != wanted:
        made.append(_rule(number, allow=True, access=wanted))
    return made


def _rule(number: Number, *, allow: bool, access: Iterable[str]) -> api.LinuxDeviceCgroup:
    kind, major, minor = number
    rule = api.LinuxDeviceCgroup(allow=allow, type=kind, access=letters(access))
    rule.major.value, rule.minor.value = major, minor
    return rule


def refusal(number: Number, wanted: Iterable[str]) -> str:
    """Say why no rule can make the access to a device what is wanted; empty if one can.

    Making nodes (m) is not looked at: runc and crun let every container make nodes of any number.
    """
    kind, major, minor = number
    is_open = kind == "c" and (major == _PTS_MAJOR or (major, minor) in _ALWAYS_OPEN)
    if not is_open or {*"rw"} <= {*wanted}:
        return ""
    return f"runc and crun let every container open {kind} {major}:{minor}"


# --- rules that are read ------------------------------------------------------------------------


def rule_number(rule: api.LinuxDeviceCgroup) -> Number:
    """Return what a rule is for; a number that it lacks is -1."""
    major = rule.major.value if rule.HasField("major") else -1
    minor = rule.minor.value if rule.HasField("minor") else -1
    return rule.type, major, minor


def possible_access(number: Number, rules: Iterable[api.LinuxDeviceCgroup]) -> frozenset[str]:
    """Return the most that a container may do with a device of the adjustment, on any OCI runtime.

    A rule that denies counts only where it has all letters and is for this number alone, or for
    all devices: any other leaves something with some runtime.
    """
    own, wide = {*AUTOMATIC.get(number[0], ALL)}, set[str]()
    for rule in rules:
        named = rule_number(rule)
        if rule.allow and named == number:
            own |= ALL & {*rule.access}
        elif rule.allow and _covers(named, number):
            wide |= ALL & {*rule.access} if named[0] in AUTOMATIC else ALL
        elif not rule.allow and {*rule.access} >= ALL:
            if named == number:
                own.clear()
            elif named[0] == "a" and max(named[1:]) < 0:
                own.clear()
                wide.clear()
    return frozenset(own | wide)


def _covers(named: Number, number: Number) -> bool:
    if named[0] not in AUTOMATIC:
        return True
    return named[0] == number[0] and all(
        mine < 0 or mine == its for mine, its in zip(named[1:], number[1:], strict=True)
    )

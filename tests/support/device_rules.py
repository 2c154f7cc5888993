"""The two ways in which OCI runtimes read rules for the device cgroup, written down naively.

tests/e2e/test_device_access.py holds both against real runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from nri_inject import api

Number: TypeAlias = tuple[str, int, int]

OPENINGS: Final = {"r": {"r"}, "w": {"w"}, "rw": {"r", "w"}}
"""Ways to open a device, and the letters that each needs."""


class Rule(NamedTuple):
    """A rule; a number of -1 stands for every number, type `a` for all types."""

    allow: bool
    access: str
    kind: str
    major: int
    minor: int

    @property
    def number(self) -> Number:
        return self.kind, self.major, self.minor

    def covers(self, number: Number) -> bool:
        mine = (self.kind.replace("a", number[0]), self.major, self.minor)
        return all(own in (-1, its) for own, its in zip(mine, number, strict=True))

    def message(self) -> api.LinuxDeviceCgroup:
        """Write the rule as NRI does, with nothing for a wildcard."""
        rule = api.LinuxDeviceCgroup(allow=self.allow, type=self.kind, access=self.access)
        for name, number in (("major", self.major), ("minor", self.minor)):
            if number >= 0:
                getattr(rule, name).value = number
        return rule

    def oci(self) -> dict[str, Any]:
        """Write the rule as OCI does."""
        numbers = {"major": self.major, "minor": self.minor}
        given = {name: number for name, number in numbers.items() if number >= 0}
        return {"allow": self.allow, "type": self.kind, "access": self.access, **given}


def of_message(message: api.LinuxDeviceCgroup) -> Rule:
    major = message.major.value if message.HasField("major") else -1
    minor = message.minor.value if message.HasField("minor") else -1
    return Rule(message.allow, message.access, message.type, major, minor)


Reading: TypeAlias = Callable[[Sequence[Rule], Number], set[str]]


def last_match(rules: Sequence[Rule], number: Number) -> set[str]:
    """Return the openings that pass, as with crun on cgroup v2: the last rule with all letters."""
    passed = set()
    for opening, needed in OPENINGS.items():
        verdicts = [r.allow for r in rules if r.covers(number) and needed <= {*r.access}]
        if verdicts and verdicts[-1]:
            passed.add(opening)
    return passed


def entries(rules: Sequence[Rule], number: Number) -> set[str]:
    """Return the openings that pass, as with runc and cgroup v1: letters added and removed."""
    table: dict[Number, set[str]] = {}
    for rule in rules:
        if rule.kind == "a":
            table = {("a", -1, -1): {*"rwm"}} if rule.allow else {}
        elif rule.allow:
            table.setdefault(rule.number, set()).update(rule.access)
        else:
            table.get(rule.number, set()).difference_update(rule.access)
    letters = set().union(*(has for named, has in table.items() if _covers(named, number)))
    return {opening for opening, needed in OPENINGS.items() if needed <= letters}


def _covers(named: Number, number: Number) -> bool:
    return Rule(True, "", *named).covers(number)


READINGS: Final[Sequence[Reading]] = (last_match, entries)

"""Counts that metrics have beyond the status document, in memory that all workers share.

The number of counts is bounded, whatever pods request and whatever names rules have.
"""

from __future__ import annotations

import json
import mmap
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import Message

from nri_inject.api import Adjustment
from nri_inject.service.health.notes import Notes

if TYPE_CHECKING:  # at run time a plugin without a policy has no use for that room
    from nri_inject.policy.rules import Decision

BUCKETS: Final = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.0),
)
"""The upper bounds of the histogram of answers, in seconds; a runtime waits 2 s by default."""

MAX_DENIALS: Final = 200
"""How many combinations of verdict, kind and rule are counted by themselves."""

MAX_RULE: Final = 100
"""How many characters of a rule's name are kept."""

NO_RULE: Final = ""
"""The rule of what no rule allows."""

OTHER_RULES: Final = "(others)"
"""The rule of denials beyond MAX_DENIALS."""

OTHER: Final = "other"
"""The kind of fields that no rule names by a kind of their own."""

_KIND_OF_FIELD: Final[Mapping[str, str]] = {
    "devices": "devices",
    "CDI_devices": "cdi_devices",
    "mounts": "mounts",
    "env": "env",
    "hooks": "hooks",
    "net_devices": "network_devices",
    "sysctl": "sysctl",
    "scheduler": "scheduling_policy",
    "io_priority": "io_priority",
    "memory_policy": "memory_policy",
    "rlimits": "ulimits",
}
INJECTED_KINDS: Final = (*_KIND_OF_FIELD.values(), OTHER)
"""The kinds of things that are injected, called as in rules."""

_NAMES: Final = ("connections", "unchanged", "nanoseconds", *INJECTED_KINDS)
_PLACE: Final = {name: place for place, name in enumerate(_NAMES)}
_BUCKETS_AT: Final = len(_NAMES)
_SIZE: Final = _BUCKETS_AT + len(BUCKETS) + 1
_AT: Final = 3072  # in the page, behind what a life has there
_NOTE: Final = "denial "


class Denied(NamedTuple):
    """A combination that is counted: the verdict, the kind of thing, and the rule's name."""

    verdict: str
    kind: str
    rule: str


class Counters:
    """Counts in the page of a life; `denials` are by Denied, in the notes.

    `connections` counts those on which a runtime has finished the handshake, `unchanged` the
    containers that got nothing, and each kind the things of that kind that were injected.
    """

    def __init__(self, page: mmap.mmap, notes: Notes | None = None) -> None:
        self._counts = memoryview(page)[_AT : _AT + 8 * _SIZE].cast("Q")
        self._notes = notes
        self.denials: dict[Denied, int] = {}

    def __getitem__(self, name: str) -> int:
        """Return a count."""
        return self._counts[_PLACE[name]]

    def add(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self._counts[_PLACE[name]] += number

    def saved(self) -> list[int]:
        """Return all counts but the denials."""
        return self._counts.tolist()

    def restore(self, saved: Sequence[int]) -> None:
        """Go on from counts that were saved; ValueError or TypeError if they are none."""
        if len(saved) != _SIZE:
            raise ValueError(f"{len(saved)} counts instead of {_SIZE}")
        for place, count in enumerate(saved):
            self._counts[place] = count

    def inherit(self) -> None:
        """Take over the denials that a worker before has noted."""
        if self._notes is not None:
            noted = self._notes.items(_NOTE).items()
            self.denials = {Denied(*json.loads(key)): int(count) for key, count in noted}

    def observe(self, seconds: float) -> None:
        """Count an answer that took so long."""
        self._counts[_BUCKETS_AT + bisect_left(BUCKETS, seconds)] += 1
        self.add("nanoseconds", int(seconds * 1e9))

    def histogram(self) -> tuple[list[int], float]:
        """Return how many answers are in each bucket, more than the last bound too, and the sum."""
        return self._counts[_BUCKETS_AT:].tolist(), self["nanoseconds"] / 1e9

    def add_injected(self, adjustment: Adjustment) -> None:
        """Count the things that a container gets."""
        for message in (adjustment, adjustment.linux):
            for field, value in message.ListFields():
                name = field.name
                if name == "linux" or name == "annotations":  # the mark of this plugin
                    continue
                if name == "hooks":
                    number = sum(len(hooks) for _, hooks in value.ListFields())
                else:
                    number = 1 if isinstance(value, Message) else len(value)
                self.add(_KIND_OF_FIELD.get(name, OTHER), number)

    def add_decisions(self, decisions: Iterable[Decision]) -> None:
        """Count those that deny something, or would."""
        for decision in decisions:
            if decision.verdict == "allow":
                continue
            rule = NO_RULE if decision.rule is None else decision.rule[:MAX_RULE]
            one = Denied(decision.verdict, decision.item.kind, rule)
            if one not in self.denials and len(self.denials) >= MAX_DENIALS:
                one = one._replace(rule=OTHER_RULES)
            self.denials[one] = count = self.denials.get(one, 0) + 1
            if self._notes is not None:
                self._notes.put(_NOTE + json.dumps(one), b"%d" % count)

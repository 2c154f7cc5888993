"""The failed requests that are written to the audit; pure.

The kubelet tries a refused container again every few seconds, for as long as its pod exists. So a
failure is written once an hour, a namespace may write so many bytes an hour, and the rest is
counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

HOUR: Final = 3600.0
"""How long the same failure is not written again, in seconds."""

MAX_BYTES: Final = 256 * 1024
"""How many bytes of failures a namespace may write in an hour, but for the last of them."""

MAX_NAMESPACES: Final = 256
"""How many namespaces are told apart; all others share one hour."""

OTHERS: Final = ""
"""Stands for these others; Kubernetes has no namespace without a name."""


class Unwritten(NamedTuple):
    """How many failures of a namespace were not written since a time in seconds since 1970."""

    namespace: str
    since: float
    failures: int


@dataclass(slots=True)
class _Hour:
    began: float
    seen: set[int] = field(default_factory=set)
    length: int = 0
    unwritten: int = 0


class Failures:
    """The failures of the last hour, by namespace. `now` is in seconds since 1970."""

    def __init__(self) -> None:
        self._hours: dict[str, _Hour] = {}

    def admits(self, namespace: str, failure: Hashable, length: int, now: float) -> bool:
        """Tell whether to write a failure that takes `length` bytes, and count it."""
        hour = self._hour(namespace, now)
        known = hash(failure)
        if known in hour.seen or hour.length >= MAX_BYTES:
            hour.unwritten += 1
            return False
        hour.seen.add(known)
        hour.length += length
        return True

    def ended(self, now: float) -> Iterator[Unwritten]:
        """Yield the counts of the hours that are over, and forget these."""
        for namespace, hour in list(self._hours.items()):
            if abs(now - hour.began) >= HOUR:  # the clock may have been set back
                del self._hours[namespace]
                if hour.unwritten:
                    yield Unwritten(namespace, hour.began, hour.unwritten)

    def _hour(self, namespace: str, now: float) -> _Hour:
        if namespace not in self._hours and len(self._hours) >= MAX_NAMESPACES:
            namespace = OTHERS
        return self._hours.setdefault(namespace, _Hour(now))

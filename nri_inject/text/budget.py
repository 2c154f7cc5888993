"""What one request may cost. Pure: it counts steps and reads no clock.

A runtime gives a plugin two seconds for an answer and drops a plugin that takes longer, for the
whole node. So a pod's texts must not decide how long a request takes. Each reader has bounds of
its own; the budget bounds what all of them do for one container together. The same request costs
the same number of steps on every machine, whatever was cached before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias, TypeVar

from nri_inject.errors import RequestError

K = TypeVar("K")
V = TypeVar("V")

MAX_STEPS: Final = 100_000
"""How many steps one request may cost. A step stands for about a microsecond of a slow core."""


Spend: TypeAlias = Callable[[int], None]
"""Counts steps that are about to be done; raises OverBudget if they are too many."""


class OverBudget(RequestError):
    """A container's request costs too much; the sentence names the part above the budget."""


class Budget:
    """The steps of one request. `where` names the container for an error."""

    def __init__(self, where: Callable[[], str] = str, steps: int = MAX_STEPS) -> None:
        self._where = where
        self._steps = steps
        self.spent = 0

    def spend(self, doing: str, steps: int) -> None:
        """Count steps before they are done; raise OverBudget if they are too many.

        `doing` begins the error's sentence, as in `looking for it on the host`.
        """
        self.spent += steps
        if self.spent > self._steps:
            sentence = f"{doing} takes more than {self._steps} steps, the limit for one container"
            raise OverBudget([f"{sentence}; request fewer or shorter things"], where=self._where())


UNLIMITED: Final = Budget(steps=sys.maxsize)
"""The budget of a request that nobody waits for: a test's, or an admin's command."""


def unlimited(_steps: int) -> None:
    """Count nothing: the `Spend` of what an admin wrote."""


def _nothing(_: object, __: object) -> int:
    return 0


class Lookup(Mapping[K, V]):
    """A mapping that is asked for single keys: it lists none, since a list would have no bound."""

    def __iter__(self) -> Iterator[K]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Counted(Lookup[K, V]):
    """A mapping of the host's things whose lookups cost steps.

    `price` is the minimum cost of a lookup, `surcharge` the further cost that depends on its
    result; None stands for a missing key.
    """

    def __init__(
        self,
        source: Mapping[K, V],
        budget: Budget,
        price: Callable[[K], int],
        surcharge: Callable[[K, V | None], int] = _nothing,
    ) -> None:
        self._source = source
        self._spend = partial(budget.spend, "looking for it on the host")
        self._price = price
        self._surcharge = surcharge

    def __getitem__(self, key: K) -> V:
        self._spend(self._price(key))
        try:
            found = self._source[key]
        except KeyError:
            self._spend(self._surcharge(key, None))
            raise
        self._spend(self._surcharge(key, found))
        return found

"""Values that are kept together with the looks at the host that they came from.

A look is made again each time. What was worked out counts again if every one of its looks shows
again what it showed then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Latest(dict[K, V]):
    """The values that were put here last, so many of them."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most: Final = most

    def put(self, key: K, value: V) -> None:
        """Keep a value, in the place of the oldest."""
        self.pop(key, None)
        self[key] = value
        if len(self) > self._most:
            del self[next(iter(self))]


class Noted(Mapping[K, V]):
    """A mapping that notes what it is asked and what comes of it; not for going through."""

    def __init__(self, source: Mapping[K, V]) -> None:
        self._source = source
        self.looks: Final[dict[K, object]] = {}

    def __getitem__(self, key: K) -> V:
        try:
            value = self.looks[key] = self._source[key]
        except KeyError as error:
            self.looks[key] = _absence(error)
            raise
        return value

    def __iter__(self) -> Iterator[K]:
        """Refuse: what is not there is nothing that could be noted."""
        raise TypeError("whoever goes through all that is there cannot be recalled")

    def __len__(self) -> int:
        return len(self.looks)


class _Kept(NamedTuple):
    looks: Sequence[Mapping[Any, object]]
    value: Any


class Recall(Generic[V]):
    """What was worked out last for some keys, each with the looks that it came from.

    A key has to hold everything that the value depends on, but for what is looked up in the
    sources. These are mappings, of the same things in the same order each time.
    """

    def __init__(self, most: int) -> None:
        self._kept: Latest[Hashable, _Kept] = Latest(most)

    def find(self, key: Hashable, *sources: Mapping[Any, object]) -> V | None:
        """Return a key's value, None if it has to be worked out; the sources are looked at."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        for looks, source in zip(kept.looks, sources, strict=True):
            for place, before in looks.items():
                try:
                    now = source[place]
                except KeyError as error:
                    now = _absence(error)
                if now != before:
                    return None
        value: V = kept.value
        return value

    def keep(self, key: Hashable, value: V, *noted: Noted[Any, Any]) -> None:
        """Keep what was worked out with looks at these sources only."""
        self._kept.put(key, _Kept([one.looks for one in noted], value))


def _absence(error: KeyError) -> object:
    """Return what tells one reason for not being there from another; no value is like it."""
    return type(error), error.args

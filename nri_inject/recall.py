"""A mapping that keeps a bounded number of values."""

from __future__ import annotations

from typing import Final, TypeVar

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

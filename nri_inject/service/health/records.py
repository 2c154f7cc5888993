"""Messages that wait for a later turn, as bytes, within a bound.

A protobuf message keeps the whole request in memory that it was part of; its bytes do not.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

OVERHEAD: Final = 512
"""What a record costs beside its bytes: keys, entries of tables, headers of objects."""


class Records:
    """Records by key, at most `most` bytes together; beyond that the longest are left out first.

    So pods of one author that are made to be long cost only these pods their records.
    `left_out` counts those.
    """

    def __init__(self, most: int) -> None:
        self.left_out = 0
        self._most = most
        self._size = 0
        self._records: dict[str, bytes] = {}
        self._longest: list[tuple[int, str]] = []

    def put(self, key: str, record: bytes) -> None:
        """Keep a record, in the place of one with the same key."""
        self.pop(key)
        self._records[key] = record
        self._size += _cost(key, record)
        heapq.heappush(self._longest, (-_cost(key, record), key))
        while self._size > self._most:
            cost, longest = heapq.heappop(self._longest)
            kept = self._records.get(longest)
            if kept is not None and _cost(longest, kept) == -cost:  # else it was replaced
                self.pop(longest)
                self.left_out += 1

    def get(self, key: str) -> bytes | None:
        """Return a record, None if there is none."""
        return self._records.get(key)

    def pop(self, key: str) -> bytes | None:
        """Return a record and keep it no longer, None if there is none."""
        record = self._records.pop(key, None)
        if record is not None:
            self._size -= _cost(key, record)
        return record

    def pop_first(self) -> bytes | None:
        """Return the record that was put here first, and keep it no longer."""
        key = next(iter(self._records), None)
        return None if key is None else self.pop(key)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def _cost(key: str, record: bytes) -> int:
    return len(record) + len(key) + OVERHEAD

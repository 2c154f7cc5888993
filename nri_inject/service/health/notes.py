"""Notes that outlive a worker: values by key, in memory that the next worker inherits.

A service notes what it could learn from the runtime only once, as part of the work on a request and
before its answer: the runtime does not say it again because a worker has died.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Final

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 << 20
"""How many bytes all notes may take; what comes beyond that is not kept."""

_GARBAGE: Final = 1 << 20  # bytes of old notes in a file before it is written anew
_GENERATION: Final = struct.Struct(">Q")
_LENGTHS: Final = struct.Struct(">II")
_DROPPED: Final = 0xFFFFFFFF


class Notes:
    """Two anonymous files: one in use, and one to which the notes are moved when it is long.

    The one with the greater generation counts. A generation is written last, and a note that was
    written in part is left out, so a worker may be killed at any step. Call `inherit` in each new
    worker.
    """

    def __init__(self) -> None:
        self._files = [os.memfd_create("notes"), os.memfd_create("notes")]
        self._file = self._files[0]
        self._values: dict[str, bytes] = {}
        self._size = 0
        self._end = 0
        self._generation = 0
        self._is_full = False
        self._move()

    def saved(self) -> bytes:
        """Return the notes for another process; any process that has the files may call."""
        _, file = max((_generation(file), file) for file in self._files)
        return os.pread(file, os.fstat(file).st_size, _GENERATION.size)

    def restore(self, saved: bytes) -> None:
        """Have the next worker inherit what another process has saved."""
        os.pwrite(self._file, saved, _GENERATION.size)

    def inherit(self) -> None:
        """Read what the worker before has noted."""
        self._generation, self._file = max((_generation(file), file) for file in self._files)
        self._values = dict(_read(self._file))
        self._size = sum(len(key) + len(value) for key, value in self._values.items())
        self._move()

    def clear(self, prefix: str) -> None:
        """Forget the notes whose keys begin with a prefix."""
        for key in self.items(prefix):
            self.drop(prefix + key)

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, None if there is none."""
        return self._values.get(key)

    def items(self, prefix: str) -> Mapping[str, bytes]:
        """Return the notes whose keys begin with a prefix, by the rest of their keys."""
        return {
            key.removeprefix(prefix): value
            for key, value in self._values.items()
            if key.startswith(prefix)
        }

    def put(self, key: str, value: bytes) -> None:
        """Note a value in place of that of the same key."""
        before = self._values.get(key)
        size = self._size + len(key) + len(value)
        if before is not None:
            size -= len(key) + len(before)
        if size > MAX_BYTES:
            if not self._is_full:
                log.warning(
                    "a worker after this one does not inherit more than %d bytes", MAX_BYTES
                )
            self._is_full = True
            return
        self._values[key] = value
        self._size = size
        self._append(_record(key, value))

    def drop(self, key: str) -> None:
        """Forget a value."""
        value = self._values.pop(key, None)
        if value is not None:
            self._size -= len(key) + len(value)
            self._append(_record(key, None))

    def _append(self, record: bytes) -> None:
        self._end += os.pwrite(self._file, record, self._end)
        if self._end > self._size + _GARBAGE:
            self._move()

    def _move(self) -> None:
        """Write all notes into the other file, and use that from then on."""
        (self._file,) = set(self._files) - {self._file}
        self._generation += 1
        os.ftruncate(self._file, 0)
        records = b"".join(_record(key, value) for key, value in self._values.items())
        self._end = _GENERATION.size + os.pwrite(self._file, records, _GENERATION.size)
        os.pwrite(self._file, _GENERATION.pack(self._generation), 0)


def _generation(file: int) -> int:
    data = os.pread(file, _GENERATION.size, 0)
    return int(_GENERATION.unpack(data)[0]) if len(data) == _GENERATION.size else 0


def _record(key: str, value: bytes | None) -> bytes:
    encoded = key.encode()
    length = _DROPPED if value is None else len(value)
    return _LENGTHS.pack(len(encoded), length) + encoded + (value or b"")


def _read(file: int) -> Iterator[tuple[str, bytes]]:
    values: dict[str, bytes] = {}
    data = os.pread(file, os.fstat(file).st_size, 0)
    position = _GENERATION.size
    while position + _LENGTHS.size <= len(data):
        of_key, of_value = _LENGTHS.unpack_from(data, position)
        is_dropped = of_value == _DROPPED
        begin = position + _LENGTHS.size
        middle = begin + of_key
        position = middle + (0 if is_dropped else of_value)
        if position > len(data):
            break
        key = data[begin:middle].decode()
        if is_dropped:
            values.pop(key, None)
        else:
            values[key] = data[middle:position]
    yield from values.items()

"""How many fields a message has, before anything is made of them (Protocol Buffers, encoding).

An empty message within a message takes two bytes on the wire, and hundreds in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

MAX_FIELDS: Final = 1 << 17
"""How many fields a message may have, those within its fields not counted. A Synchronize has one
for each pod and each container of its part, any other message a handful."""

_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32 = range(6)
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT: Final = 10


def has_too_many_fields(data: bytes) -> bool:
    """Tell whether a message has more than MAX_FIELDS; what is no message is left to the parser."""
    position, end, count = 0, len(data), 0
    try:
        while position < end:
            count += 1
            if count > MAX_FIELDS:
                return True
            tag, position = _varint(data, position)
            kind = tag & 7
            if kind == _LENGTH:
                length, position = _varint(data, position)
                position += length
            elif kind == _VARINT:
                _, position = _varint(data, position)
            elif kind in (_FIXED64, _FIXED32):
                position += 8 if kind == _FIXED64 else 4
            elif kind not in (_START, _END):  # what is within a group counts as well
                return False
    except (IndexError, ValueError):
        return False
    return False


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and where it ends; IndexError where the data ends before it."""
    value = 0
    for index in range(_MAX_VARINT):
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a varint has at most 10 bytes")


def walk(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field, in order; what is no message ends it early.

    This is for a reader that must outlive whatever bytes come: nothing but Python's own integers
    and slices, and at most MAX_FIELDS fields.
    """
    position, end = 0, len(data)
    with contextlib.suppress(IndexError, ValueError):
        for _ in range(MAX_FIELDS):
            if position >= end:
                return
            tag, position = _varint(data, position)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, position = _varint(data, position)
                yield number, value
                continue
            length = _FIXED.get(kind, 0)
            if kind == _LENGTH:
                length, position = _varint(data, position)
            elif not length:
                return
            if position + length > end:
                return
            yield number, data[position : position + length]
            position += length

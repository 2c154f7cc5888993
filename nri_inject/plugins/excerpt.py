"""Which fields of a message are too large to be reported.

A report is worded between two requests, and the next container waits for it. A pod's author can
put a megabyte of tiny values into a container.
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping, MutableSequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

MAX_BYTES: Final = 32 * 1024
"""How many bytes of a message are reported, as protobuf encodes them."""

MAX_ENTRIES: Final = 1000
"""How many entries a list or map may have that is reported from a message above MAX_BYTES."""


def large_fields(message: Message) -> list[str]:
    """Return the largest fields of a message, sorted, without which it has at most MAX_BYTES."""
    if message.ByteSize() <= MAX_BYTES:
        return []
    sizes = sorted((_size(message, f.name, value), f.name) for f, value in message.ListFields())
    kept = 0
    large: list[str] = []
    for size, name in sizes:
        kept += size
        if kept > MAX_BYTES:
            large.append(name)
    return sorted(large)


def _size(message: Message, name: str, value: Any) -> int:
    """Return how many bytes a field has; more than MAX_BYTES for one with many entries."""
    alone = type(message)()
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, MutableMapping | MutableSequence):
        if len(value) > MAX_ENTRIES:
            return MAX_BYTES + len(value)
        getattr(alone, name).MergeFrom(value)
    else:
        setattr(alone, name, value)
    return alone.ByteSize()


def without(message: M, fields: Collection[str]) -> M:
    """Return a message without these fields; the message itself if there are none."""
    if not fields:
        return message
    rest = type(message)()
    for field, value in message.ListFields():
        if field.name in fields:
            continue
        if isinstance(value, Message):
            getattr(rest, field.name).CopyFrom(value)
        elif isinstance(value, MutableMapping | MutableSequence):
            getattr(rest, field.name).MergeFrom(value)
        else:
            setattr(rest, field.name, value)
    return rest

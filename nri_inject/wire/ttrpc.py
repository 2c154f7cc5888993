"""ttrpc messages of one channel: split from its stream, and joined for sending.

A message is 4 bytes of data length, 4 bytes of stream number, both big-endian, a byte of type,
a byte of flags, and the data (ttrpc 1.2, channel.go). What the data means is the session's
business.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

MAX_DATA = 4 << 20
"""The longest data of a message, in bytes. Both ends of every ttrpc release agree on it."""

_HEADER = struct.Struct(">IIBB")


class MessageType(enum.IntEnum):
    """Types of messages. NRI has no streaming calls, so data should never come."""

    REQUEST = 1
    RESPONSE = 2
    DATA = 3


class Code(enum.IntEnum):
    """The status codes in use here, with the numbers of google.rpc.Code."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class Message(NamedTuple):
    """One message. `data` is None when it was longer than MAX_DATA and has been skipped."""

    stream: int
    type: int
    data: bytes | None


class Decoder:
    """Put one channel's pieces together into messages.

    Never keeps more than one message; one that is too long is never kept at all.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = _HEADER.size
        self._skip = 0

    @property
    def is_idle(self) -> bool:
        """Whether the next byte begins a message."""
        return not self._buffer and not self._skip

    def receive(self, piece: bytes) -> list[Message]:
        """Return the messages that `piece` completes, in order."""
        if self._skip:
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:]
        if not self._buffer and (whole := _whole(piece)):
            return [whole]
        self._buffer += piece
        if len(self._buffer) < self._wanted:
            return []
        return self._messages()

    def _messages(self) -> list[Message]:
        messages: list[Message] = []
        buffer, position = self._buffer, 0
        while True:
            body = position + _HEADER.size
            self._wanted = _HEADER.size
            if len(buffer) < body:
                break
            length, stream, kind, _flags = _HEADER.unpack_from(buffer, position)
            if length > MAX_DATA:
                messages.append(Message(stream, kind, None))
                position = min(body + length, len(buffer))
                self._skip = body + length - position
                continue
            if len(buffer) < body + length:
                self._wanted += length
                break
            position = body + length
            messages.append(Message(stream, kind, bytes(buffer[body:position])))
        del buffer[:position]
        return messages


def _whole(piece: bytes) -> Message | None:
    """Return the message that a piece is, as nearly all are, without a copy on the way."""
    if len(piece) < _HEADER.size:
        return None
    length, stream, kind, _flags = _HEADER.unpack_from(piece)
    body = piece[_HEADER.size :]
    return Message(stream, kind, body) if length == len(body) <= MAX_DATA else None


def encode(stream: int, kind: MessageType, data: bytes) -> bytes:
    """Return one message as bytes. `data` may not be longer than MAX_DATA."""
    return _HEADER.pack(len(data), stream, kind, 0) + data

"""The multiplexer: several byte streams, called channels, over one socket.

A frame is 4 bytes of channel number and 4 bytes of payload length, both big-endian, and then
the payload. There is no handshake, no closing and no flow control (NRI, pkg/net/multiplex).
"""

from __future__ import annotations

import struct

from nri_inject.errors import ProtocolError

PLUGIN_CHANNEL = 1
"""Carries the service Plugin: the runtime calls, the plugin answers."""

RUNTIME_CHANNEL = 2
"""Carries the service Runtime: the plugin calls, the runtime answers."""

MAX_PAYLOAD = (4 << 20) + 10
"""The longest payload of a frame, in bytes: the longest ttrpc message with its header."""

FIRST_PAYLOAD = 4096
"""What the Go receiver reads at once where a message may begin, in bytes."""

_HEADER = struct.Struct(">II")


class Demux:
    """Take a socket's bytes apart into pieces of the channels' streams.

    Pieces are handed on as they arrive, so nothing but an unfinished header is ever kept.
    """

    def __init__(self) -> None:
        self._header = b""
        self._channel = 0
        self._missing = 0

    @property
    def is_idle(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._header and self._missing == 0

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return (channel, piece) for all of `data`, in order; no piece is empty.

        Raises ProtocolError for a frame longer than MAX_PAYLOAD, as soon as its header is there.
        """
        pieces: list[tuple[int, bytes]] = []
        if self._header:
            data = self._header + data
            self._header = b""
        position, end = 0, len(data)
        while position < end:
            if self._missing == 0:
                if end - position < _HEADER.size:
                    self._header = data[position:]
                    break
                self._channel, self._missing = _HEADER.unpack_from(data, position)
                position += _HEADER.size
                if self._missing > MAX_PAYLOAD:
                    raise ProtocolError(
                        f"multiplexer frame of {self._missing} bytes on channel {self._channel},"
                        f" at most {MAX_PAYLOAD} allowed"
                    )
                continue
            piece = data[position : position + self._missing]
            position += len(piece)
            self._missing -= len(piece)
            pieces.append((self._channel, piece))
        return pieces


def frames(channel: int, message: bytes) -> bytes:
    """Return `message` as one frame, or as the two that a Go receiver understands.

    The Go receiver gives up a connection without a word when a frame is longer than what it
    wants to read next: 4096 bytes where a message may begin, and then all that is missing of
    the message. Shorter parts would do as well, but it queues at most 256 frames.
    """
    if len(message) <= FIRST_PAYLOAD:
        return _HEADER.pack(channel, len(message)) + message
    return b"".join(
        (
            _HEADER.pack(channel, FIRST_PAYLOAD),
            message[:FIRST_PAYLOAD],
            _HEADER.pack(channel, len(message) - FIRST_PAYLOAD),
            message[FIRST_PAYLOAD:],
        )
    )

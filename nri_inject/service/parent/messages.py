"""Whole messages of both channels of a connection, with the frames that carry them.

The parent hands on nothing but these, so neither side ever sees half a message of a dead worker.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from nri_inject.wire import mux, ttrpc
from nri_inject.wire.mux import FIRST_PAYLOAD, PLUGIN_CHANNEL, RUNTIME_CHANNEL
from nri_inject.wire.ttrpc import MessageType

_HEADERS: Final = struct.Struct(">IIIIBB")  # of a frame, and of the message that begins in it
_FRAME_HEADER: Final = 8
_HEADER: Final = 10
_STREAM: Final = slice(12, 16)
_KINDS: Final = frozenset(MessageType)


class WholeMessage(NamedTuple):
    """A message of a channel. `frames` are the bytes to send; None if it was too long to keep."""

    channel: int
    stream: int
    kind: int
    frames: bytes | None

    def numbered(self, stream: int) -> bytes:
        """Return the frames under another number of the stream."""
        frames = self.frames or b""
        number = stream.to_bytes(4, "big")
        return frames[: _STREAM.start] + number + frames[_STREAM.stop :]

    @property
    def data(self) -> bytes:
        """The data within the frames."""
        frames = self.frames or b""
        if len(frames) <= _FRAME_HEADER + FIRST_PAYLOAD:
            return frames[_FRAME_HEADER + _HEADER :]
        pieces = [piece for _, piece in mux.Demux().receive(frames)]
        return b"".join(pieces)[_HEADER:]


def message(channel: int, stream: int, kind: MessageType, data: bytes) -> WholeMessage:
    """Make a message of its data."""
    return WholeMessage(
        channel, stream, kind, mux.frames(channel, ttrpc.encode(stream, kind, data))
    )


class Splitter:
    """Cut one side's bytes into messages; what is unfinished waits for the rest."""

    def __init__(self) -> None:
        self._demux = mux.Demux()
        self._decoders = {PLUGIN_CHANNEL: ttrpc.Decoder(), RUNTIME_CHANNEL: ttrpc.Decoder()}
        self._is_idle = True

    @property
    def is_idle(self) -> bool:
        """Whether the next byte begins a message."""
        return self._is_idle

    def receive(self, data: bytes) -> list[WholeMessage]:
        """Return the messages that `data` completes. Raises ProtocolError for a broken frame."""
        if self._is_idle and (whole := _whole(data)):
            return [whole]
        messages: list[WholeMessage] = []
        for channel, piece in self._demux.receive(data):
            if decoder := self._decoders.get(channel):
                messages += [
                    _framed(channel, m) for m in decoder.receive(piece) if m.type in _KINDS
                ]
        self._is_idle = self._demux.is_idle and all(d.is_idle for d in self._decoders.values())
        return messages


def _whole(data: bytes) -> WholeMessage | None:
    """Return the one message that some bytes are, as nearly always, without a copy."""
    if len(data) < _HEADERS.size:
        return None
    channel, payload, length, stream, kind, _flags = _HEADERS.unpack_from(data)
    is_whole = payload == len(data) - _FRAME_HEADER and length == payload - _HEADER
    is_known = payload <= FIRST_PAYLOAD and channel in (PLUGIN_CHANNEL, RUNTIME_CHANNEL)
    return WholeMessage(channel, stream, kind, data) if is_whole and is_known else None


def _framed(channel: int, one: ttrpc.Message) -> WholeMessage:
    if one.data is None:
        return WholeMessage(channel, one.stream, one.type, None)
    encoded = ttrpc.encode(one.stream, MessageType(one.type), one.data)
    return WholeMessage(channel, one.stream, one.type, mux.frames(channel, encoded))

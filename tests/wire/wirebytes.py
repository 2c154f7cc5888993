"""Bytes of the wire made and read with nothing but struct, for the tests to compare with."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from nri_inject._pb import ttrpc_pb2

PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
RUNTIME = "nri.pkg.api.v1alpha1.Runtime"

REQUEST, RESPONSE, DATA = 1, 2, 3
LIMIT = 4 * 1024 * 1024


def frame(channel: int, payload: bytes) -> bytes:
    """Return one frame of the multiplexer, however long."""
    return struct.pack(">II", channel, len(payload)) + payload


def message(stream: int, kind: int, data: bytes = b"", flags: int = 0) -> bytes:
    """Return one ttrpc message, however long."""
    return struct.pack(">IIBB", len(data), stream, kind, flags) + data


def request(
    stream: int,
    method: str,
    payload: bytes = b"",
    *,
    service: str = PLUGIN,
    timeout: int = 0,
    metadata: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return a ttrpc request."""
    pairs = [ttrpc_pb2.KeyValue(key=key, value=value) for key, value in metadata]
    envelope = ttrpc_pb2.Request(
        service=service, method=method, payload=payload, timeout_nano=timeout, metadata=pairs
    )
    return message(stream, REQUEST, envelope.SerializeToString())


def response(stream: int, payload: bytes = b"", code: int = 0, text: str = "") -> bytes:
    """Return a ttrpc response; without a code it has no status."""
    envelope = ttrpc_pb2.Response(payload=payload)
    if code or text:
        envelope.status.CopyFrom(ttrpc_pb2.Status(code=code, message=text))
    return message(stream, RESPONSE, envelope.SerializeToString())


def frames_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield channel and payload of each frame; the data must end with one."""
    position = 0
    while position < len(data):
        channel, length = struct.unpack_from(">II", data, position)
        position += 8
        payload = data[position : position + length]
        assert len(payload) == length, "the data ends within a frame"
        position += length
        yield channel, payload


class Raw(NamedTuple):
    """A ttrpc message of a channel."""

    channel: int
    stream: int
    kind: int
    data: bytes


def messages_in(data: bytes) -> list[Raw]:
    """Return the ttrpc messages in whole frames, in the order in which they begin to be whole."""
    streams: dict[int, bytes] = {}
    found = []
    for channel, payload in frames_in(data):
        left = streams.get(channel, b"") + payload
        while len(left) >= 10:
            length, stream, kind, _ = struct.unpack_from(">IIBB", left)
            if len(left) < 10 + length:
                break
            found.append(Raw(channel, stream, kind, left[10 : 10 + length]))
            left = left[10 + length :]
        streams[channel] = left
    assert not any(streams.values()), "the data ends within a message"
    return found


class Reply(NamedTuple):
    """What one response says."""

    stream: int
    code: int
    text: str
    payload: bytes


def replies_in(data: bytes, channel: int) -> list[Reply]:
    """Return the responses in `data`, all of which must be on `channel`."""
    replies = []
    for raw in messages_in(data):
        assert (raw.channel, raw.kind) == (channel, RESPONSE)
        envelope = ttrpc_pb2.Response.FromString(raw.data)
        status = envelope.status
        replies.append(Reply(raw.stream, status.code, status.message, envelope.payload))
    return replies

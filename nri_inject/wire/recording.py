"""The bytes of a plugin's connections, written down so that they can be played again.

A recording is a text file of JSON lines, one for each piece of bytes as it was read or handed out:

    {"seconds": 0.004217, "from": "runtime", "bytes": "AAAAAgAAAAoA...", "about": "response 1 ok"}

- `seconds` since the first piece, by a clock that never goes back; 0 where nobody looked at one
- `from` is who sends: `runtime` or `plugin`
- `bytes` in base64 (RFC 4648, section 4), with all headers, cut as the connection happened to be
- `about` says which messages end in the piece, for people; nobody reads it back

No bytes (`""`) mean that `from` closed the connection; each connection has one such piece at its
end, and the next piece begins another connection. A file that stops before was cut off. Keys that
are not known are to be ignored, so that more may be told one day.

What stands in a recording is all that the runtime told: the environment of containers, too.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nri_inject._pb import nri_pb2, ttrpc_pb2
from nri_inject.errors import NriError, ProtocolError
from nri_inject.wire import mux, ttrpc
from nri_inject.wire.session import DECODE_ERRORS, Role
from nri_inject.wire.ttrpc import Code, MessageType

_SERVICES: Final = {
    mux.PLUGIN_CHANNEL: nri_pb2.DESCRIPTOR.services_by_name["Plugin"],
    mux.RUNTIME_CHANNEL: nri_pb2.DESCRIPTOR.services_by_name["Runtime"],
}


class RecordingError(NriError):
    """Say where a recording is none, or what in it cannot be understood."""


class Piece(NamedTuple):
    """What one side said at once, and when; no bytes where it closed."""

    sender: Role
    data: bytes
    seconds: float = 0.0


@dataclass(slots=True)
class Exchange:
    """A call and its answer: a message, a status, or neither if the recording ends before.

    `caller` is the side that called, `timeout` its deadline, in nanoseconds.
    """

    caller: Role
    method: str
    request: Message
    timeout: int
    response: Message | None = None
    status: tuple[int, str] | None = None


class Recorder:
    """Record a session: a function to be called with each sender and its bytes.

    `write` gets whole lines, as the `write` of a text file takes them.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._messages = _Messages()

    def __call__(self, sender: Role, data: bytes, seconds: float = 0.0) -> None:
        """Write one piece."""
        try:
            about = "; ".join(_about(*found) for found in self._messages.receive(sender, data))
        except ProtocolError as error:
            about = str(error)
        if not data:
            self._messages = _Messages()
        self._write(encode(Piece(sender, data, seconds), about) + "\n")


def encode(piece: Piece, about: str = "") -> str:
    """Return the piece's line, without a line feed."""
    fields = {
        "seconds": round(piece.seconds, 6),
        "from": piece.sender.value,
        "bytes": base64.b64encode(piece.data).decode(),
    }
    return json.dumps(fields | ({"about": about} if about else {}), ensure_ascii=False)


def decode(line: str | bytes) -> Piece:
    """Return the piece of a line; RecordingError says why a line is not one."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RecordingError("an object with seconds, from, bytes expected")
    seconds = _seconds(fields.get("seconds"))
    return Piece(_sender(fields.get("from")), _bytes(fields.get("bytes")), seconds)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise RecordingError(f"seconds: {value!r} is not a number from 0 on")
    return float(value)


def _sender(value: Any) -> Role:
    try:
        return Role(value)
    except ValueError:
        raise RecordingError(f"from: {value!r} is neither runtime nor plugin") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise RecordingError(f"bytes: {value!r} is not base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordingError(f"bytes: not base64: {error}") from error


def read(lines: Iterable[str]) -> Iterator[Piece]:
    """Read a recording; RecordingError names the first line that is none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield decode(line)
            except RecordingError as error:
                raise RecordingError(f"line {number}: {error}") from error


def exchanges(pieces: Iterable[Piece]) -> list[Exchange]:
    """Return the calls of both sides, in the order in which they were made.

    RecordingError for calls or answers that cannot be decoded, and for ones of unknown methods.
    """
    messages = _Messages()
    found: list[Exchange] = []
    waiting: dict[tuple[int, int], Exchange] = {}
    for sender, data, _ in pieces:
        if not data:  # what follows is another connection
            messages = _Messages()
            waiting.clear()
        try:
            for channel, message in messages.receive(sender, data):
                place = channel, message.stream
                if message.type == MessageType.REQUEST:
                    waiting[place] = _exchange(sender, channel, message)
                    found.append(waiting[place])
                elif message.type == MessageType.RESPONSE and place in waiting:
                    _answer(waiting.pop(place), channel, message)
        except (*DECODE_ERRORS, ProtocolError) as error:
            raise RecordingError(f"what the {sender.value} says: {error}") from error
    return found


class _Messages:
    """Put the pieces of both sides together into messages."""

    def __init__(self) -> None:
        self._demux = {role: mux.Demux() for role in Role}
        self._decoders = {
            (role, channel): ttrpc.Decoder() for role in Role for channel in _SERVICES
        }

    def receive(self, sender: Role, data: bytes) -> Iterator[tuple[int, ttrpc.Message]]:
        """Yield the messages that end in a piece, with the channel of each."""
        for channel, piece in self._demux[sender].receive(data):
            if decoder := self._decoders.get((sender, channel)):
                for message in decoder.receive(piece):
                    yield channel, message


def _exchange(sender: Role, channel: int, message: ttrpc.Message) -> Exchange:
    envelope = ttrpc_pb2.Request.FromString(message.data or b"")
    request = GetMessageClass(_method(channel, envelope.method).input_type)
    return Exchange(
        sender, envelope.method, request.FromString(envelope.payload), envelope.timeout_nano
    )


def _answer(exchange: Exchange, channel: int, message: ttrpc.Message) -> None:
    envelope = ttrpc_pb2.Response.FromString(message.data or b"")
    if envelope.status.code != Code.OK:
        exchange.status = envelope.status.code, envelope.status.message
    else:
        response = GetMessageClass(_method(channel, exchange.method).output_type)
        exchange.response = response.FromString(envelope.payload)


def _method(channel: int, name: str) -> MethodDescriptor:
    method = _SERVICES[channel].methods_by_name.get(name)
    if method is None:
        raise RecordingError(f"no method {name!r} in service {_SERVICES[channel].name}")
    return method


def _about(channel: int, message: ttrpc.Message) -> str:
    kind = _KINDS.get(message.type, f"message of type {message.type},")
    return f"{kind} {message.stream} {_content(channel, message)}".rstrip()


_KINDS: Final[dict[int, str]] = {MessageType.REQUEST: "request", MessageType.RESPONSE: "response"}


def _content(channel: int, message: ttrpc.Message) -> str:
    if message.data is None:
        return "longer than any message may be"
    try:
        if message.type == MessageType.REQUEST:
            method = ttrpc_pb2.Request.FromString(message.data).method
            return f"{_SERVICES[channel].name}.{method}"
        if message.type == MessageType.RESPONSE:
            envelope = ttrpc_pb2.Response.FromString(message.data)
            code, text = envelope.status.code, envelope.status.message
            return f"status {code} {json.dumps(text)}" if code else "ok"
    except DECODE_ERRORS:
        return "that cannot be decoded"
    return ""

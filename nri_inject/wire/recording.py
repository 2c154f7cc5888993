"""A session's bytes as text: a line of JSON for each piece that one side said, and back.

    {"dir": "plugin>runtime", "hex": "0000...", "about": "request 1 Runtime.RegisterPlugin"}

`hex` is what was read or written at once, with all headers; it is empty where that side closed.
`about` says which messages end in it, for people; nobody reads it back. docs/test-a-plugin.md
has the format as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from nri_inject._pb import nri_pb2, ttrpc_pb2
from nri_inject.errors import NriError, ProtocolError
from nri_inject.wire import mux, ttrpc
from nri_inject.wire.session import Role
from nri_inject.wire.ttrpc import Code, Type

_DIRECTIONS: Final = {Role.PLUGIN: "plugin>runtime", Role.RUNTIME: "runtime>plugin"}
_SENDERS: Final = {text: role for role, text in _DIRECTIONS.items()}
_SERVICES: Final = {
    mux.PLUGIN_CHANNEL: nri_pb2.DESCRIPTOR.services_by_name["Plugin"],
    mux.RUNTIME_CHANNEL: nri_pb2.DESCRIPTOR.services_by_name["Runtime"],
}


class RecordingError(NriError):
    """Say where a recording is none, or what in it cannot be understood."""


class Piece(NamedTuple):
    """What one side said at once; no bytes where it closed."""

    sender: Role
    data: bytes


@dataclass(slots=True)
class Exchange:
    """A call and what was answered to it: a message, a status, or neither if the recording ends.

    `caller` is the side that called, `timeout` what it told of its deadline, in nanoseconds.
    """

    caller: Role
    method: str
    request: Message
    timeout: int
    response: Message | None = None
    status: tuple[int, str] | None = None


class Recorder:
    """Write down a session as it goes on: to be called with whoever speaks, and the bytes.

    `write` gets whole lines, as the `write` of a text file takes them.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._messages = _Messages()

    def __call__(self, sender: Role, data: bytes) -> None:
        """Write one piece."""
        try:
            about = "; ".join(_about(*found) for found in self._messages.receive(sender, data))
        except ProtocolError as error:
            about = str(error)
        line = {"dir": _DIRECTIONS[sender], "hex": data.hex(), "about": about}
        self._write(json.dumps(line, ensure_ascii=False) + "\n")


def read(lines: Iterable[str]) -> Iterator[Piece]:
    """Read a recording; RecordingError names the first line that is none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entry = json.loads(line)
                yield Piece(_SENDERS[entry["dir"]], bytes.fromhex(entry["hex"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RecordingError(f"line {number}: no piece of a recording") from error


def exchanges(pieces: Iterable[Piece]) -> list[Exchange]:
    """Return the calls of both sides, in the order in which they were made.

    RecordingError for calls or answers that cannot be decoded, and for ones of unknown methods.
    """
    messages = _Messages()
    found: list[Exchange] = []
    waiting: dict[tuple[int, int], Exchange] = {}
    for sender, data in pieces:
        try:
            for channel, message in messages.receive(sender, data):
                place = channel, message.stream
                if message.type == Type.REQUEST:
                    waiting[place] = _exchange(sender, channel, message)
                    found.append(waiting[place])
                elif message.type == Type.RESPONSE and place in waiting:
                    _answer(waiting.pop(place), channel, message)
        except (DecodeError, ProtocolError) as error:
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


_KINDS: Final[dict[int, str]] = {Type.REQUEST: "request", Type.RESPONSE: "response"}


def _content(channel: int, message: ttrpc.Message) -> str:
    if message.data is None:
        return "longer than any message may be"
    try:
        if message.type == Type.REQUEST:
            method = ttrpc_pb2.Request.FromString(message.data).method
            return f"{_SERVICES[channel].name}.{method}"
        if message.type == Type.RESPONSE:
            envelope = ttrpc_pb2.Response.FromString(message.data)
            code, text = envelope.status.code, envelope.status.message
            return f"status {code} {json.dumps(text)}" if code else "ok"
    except DecodeError:
        return "that cannot be decoded"
    return ""

"""One conversation between a runtime and a plugin, in either role: bytes in, events out.

The session numbers calls, matches answers, decodes and encodes, and answers by itself where no
decision is needed (unknown services and methods, broken requests). `outgoing()` returns the bytes
to send. It owns no socket, no clock, no thread and no log.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from nri_inject._pb import nri_pb2, ttrpc_pb2
from nri_inject.errors import ProtocolError
from nri_inject.wire import mux, ttrpc
from nri_inject.wire.fields import MAX_FIELDS, has_too_many_fields
from nri_inject.wire.ttrpc import Code, MessageType


class Role(enum.Enum):
    """Which end of the conversation a session is."""

    PLUGIN = "plugin"
    RUNTIME = "runtime"


class Call(NamedTuple):
    """The peer calls a method of ours and waits for `answer` or `refuse`.

    `timeout` is what was left of the caller's deadline in nanoseconds, 0 when it has none;
    `metadata` are ttrpc's key-value pairs as the caller wrote them.
    """

    stream: int
    method: str
    request: Message
    timeout: int = 0
    metadata: tuple[tuple[str, str], ...] = ()


class Answer(NamedTuple):
    """The peer answered the call that we made on `stream`."""

    stream: int
    method: str
    response: Message


class Failure(NamedTuple):
    """The peer answered our call with a status, or with something that cannot be read."""

    stream: int
    method: str
    code: int
    text: str


Event = Call | Answer | Failure


class _ServiceMethods:
    """A service's full name and the message classes of its methods, from its descriptor."""

    def __init__(self, descriptor: ServiceDescriptor, channel: int) -> None:
        self.name = descriptor.full_name
        self.channel = channel
        self.methods: dict[str, tuple[type[Message], type[Message]]] = {
            method.name: (
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
            )
            for method in descriptor.methods
        }


_SERVICES = nri_pb2.DESCRIPTOR.services_by_name
_PLUGIN = _ServiceMethods(_SERVICES["Plugin"], mux.PLUGIN_CHANNEL)
_RUNTIME = _ServiceMethods(_SERVICES["Runtime"], mux.RUNTIME_CHANNEL)
_SERVES_AND_CALLS = {Role.PLUGIN: (_PLUGIN, _RUNTIME), Role.RUNTIME: (_RUNTIME, _PLUGIN)}

DECODE_ERRORS: Final = (DecodeError, UnicodeDecodeError)
"""Raised for bytes that are no message; the second one by protobuf's implementation in Python."""

# ttrpc's own words: Go clients look for the first two to tell an old plugin from a broken one.
_EVEN_STREAM = "StreamID must be odd for client initiated streams"
_OLD_STREAM = "StreamID cannot be re-used and must increment"
_NO_STREAM = "StreamID is no longer active"
_TOO_MANY = f"request has more than {MAX_FIELDS} fields"


class Session:
    """One end of a conversation.

    A driver passes what it read to `receive`, acts on the events, and sends what `outgoing`
    returns. After a ProtocolError the session is of no further use.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._serves, self._calls = _SERVES_AND_CALLS[role]
        self._demux = mux.Demux()
        self._requests = ttrpc.Decoder()
        self._responses = ttrpc.Decoder()
        self._last_stream = 0
        self._next_stream = 1
        self._waiting: dict[int, str] = {}
        self._outgoing: list[bytes] = []

    def receive(self, data: bytes) -> list[Event]:
        """Return what the peer's bytes mean, in order, however they are cut.

        `b""` means that the peer closed the connection, as with `socket.recv`; it is an error
        while a call of ours has no answer. Raises ProtocolError, and nothing else, for bytes
        that break the protocol beyond what a status can tell.
        """
        if not data:
            return self._end()
        events: list[Event] = []
        for channel, piece in self._demux.receive(data):
            if channel == self._serves.channel:
                events += filter(None, map(self._requested, self._requests.receive(piece)))
            elif channel == self._calls.channel:
                events += filter(None, map(self._responded, self._responses.receive(piece)))
        return events

    def call(self, method: str, request: Message, timeout: int = 0) -> int:
        """Call a method of the peer; return the stream number of the answer to come.

        `timeout` in nanoseconds is sent to the peer; keeping to it is the driver's business,
        with `forget` for a call that is given up. Raises KeyError for a method
        that the peer's service does not have and ValueError for a request that is too long.
        """
        expected = self._calls.methods[method][0]
        if not isinstance(request, expected):
            raise TypeError(f"{method} takes {expected.__name__}, not {type(request).__name__}")
        envelope = ttrpc_pb2.Request(
            service=self._calls.name,
            method=method,
            payload=request.SerializeToString(),
            timeout_nano=timeout,
        ).SerializeToString()
        if len(envelope) > ttrpc.MAX_DATA:
            raise ValueError(
                f"{method} request of {len(envelope)} bytes, at most {ttrpc.MAX_DATA} can be sent"
            )
        stream = self._next_stream
        self._next_stream += 2
        self._waiting[stream] = method
        self._send(self._calls.channel, stream, MessageType.REQUEST, envelope)
        return stream

    def forget(self, stream: int) -> None:
        """Give up a call: a late answer to it is dropped in silence."""
        self._waiting.pop(stream, None)

    def answer(self, call: Call, response: Message) -> None:
        """Answer a call of the peer's.

        A response that is too long becomes a RESOURCE_EXHAUSTED status: the caller has to
        learn that it gets none.
        """
        expected = self._serves.methods[call.method][1]
        if not isinstance(response, expected):
            raise TypeError(
                f"{call.method} returns {expected.__name__}, not {type(response).__name__}"
            )
        envelope = ttrpc_pb2.Response(payload=response.SerializeToString()).SerializeToString()
        if len(envelope) > ttrpc.MAX_DATA:
            self.refuse(
                call,
                Code.RESOURCE_EXHAUSTED,
                f"{call.method} response of {len(envelope)} bytes,"
                f" at most {ttrpc.MAX_DATA} can be sent",
            )
            return
        self._send(self._serves.channel, call.stream, MessageType.RESPONSE, envelope)

    def refuse(self, call: Call, code: Code, text: str) -> None:
        """Answer a call of the peer's with a status; `text` is what people will read."""
        self._refuse(call.stream, code, text)

    def outgoing(self) -> bytes:
        """Return the bytes to be sent to the peer, and forget them."""
        if not self._outgoing:  # as after each piece of a message but the last
            return b""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def _end(self) -> list[Event]:
        if self._waiting:
            methods = ", ".join(self._waiting.values())
            raise ProtocolError(f"the connection ended before the answer to {methods}")
        return []

    def _requested(self, message: ttrpc.Message) -> Event | None:
        if message.type == MessageType.DATA:
            return self._refused(message.stream, Code.INVALID_ARGUMENT, _NO_STREAM)
        if message.type != MessageType.REQUEST:
            return None
        if message.stream % 2 == 0:
            return self._refused(message.stream, Code.INVALID_ARGUMENT, _EVEN_STREAM)
        if message.stream <= self._last_stream:
            return self._refused(message.stream, Code.INVALID_ARGUMENT, _OLD_STREAM)
        self._last_stream = message.stream
        return self._called(message)

    def _called(self, message: ttrpc.Message) -> Event | None:
        stream = message.stream
        if message.data is None:
            text = f"message is longer than the {ttrpc.MAX_DATA} bytes that are allowed"
            return self._refused(stream, Code.RESOURCE_EXHAUSTED, text)
        if has_too_many_fields(message.data):
            return self._refused(stream, Code.RESOURCE_EXHAUSTED, _TOO_MANY)
        try:
            envelope = ttrpc_pb2.Request.FromString(message.data)
        except DECODE_ERRORS as error:
            text = f"request cannot be decoded: {error}"
            return self._refused(stream, Code.INVALID_ARGUMENT, text)
        if envelope.service != self._serves.name:
            return self._refused(stream, Code.UNIMPLEMENTED, f"service {envelope.service}")
        types = self._serves.methods.get(envelope.method)
        if types is None:
            return self._refused(stream, Code.UNIMPLEMENTED, f"method {envelope.method}")
        if envelope.timeout_nano < 0:
            return self._refused(stream, Code.DEADLINE_EXCEEDED, "the caller's deadline has passed")
        if has_too_many_fields(envelope.payload):
            return self._refused(stream, Code.RESOURCE_EXHAUSTED, _TOO_MANY)
        try:
            request = types[0].FromString(envelope.payload)
        except DECODE_ERRORS as error:
            text = f"payload cannot be decoded as {types[0].DESCRIPTOR.full_name}: {error}"
            return self._refused(stream, Code.INTERNAL, text)
        metadata = tuple([(pair.key, pair.value) for pair in envelope.metadata])
        return Call(stream, envelope.method, request, envelope.timeout_nano, metadata)

    def _responded(self, message: ttrpc.Message) -> Event | None:
        if message.type != MessageType.RESPONSE:
            return None
        method = self._waiting.pop(message.stream, None)
        return None if method is None else self._answered(message, method)

    def _answered(self, message: ttrpc.Message, method: str) -> Answer | Failure:
        if message.data is None:
            text = f"the answer is longer than the {ttrpc.MAX_DATA} bytes that are allowed"
            return Failure(message.stream, method, Code.RESOURCE_EXHAUSTED, text)
        response_type = self._calls.methods[method][1]
        try:
            envelope = ttrpc_pb2.Response.FromString(message.data)
            if has_too_many_fields(envelope.payload):
                text = f"the answer has more than {MAX_FIELDS} fields"
                return Failure(message.stream, method, Code.RESOURCE_EXHAUSTED, text)
            response = response_type.FromString(envelope.payload)
        except DECODE_ERRORS as error:
            text = f"the answer cannot be decoded: {error}"
            return Failure(message.stream, method, Code.INTERNAL, text)
        if envelope.status.code != Code.OK:
            status = envelope.status
            return Failure(message.stream, method, status.code, status.message)
        return Answer(message.stream, method, response)

    def _refused(self, stream: int, code: Code, text: str) -> Event | None:
        """Refuse what is then no event for anybody."""
        self._refuse(stream, code, text)
        return None

    def _refuse(self, stream: int, code: Code, text: str) -> None:
        readable = text[: ttrpc.MAX_DATA // 8].encode(errors="backslashreplace").decode()
        status = ttrpc_pb2.Status(code=code, message=readable)
        envelope = ttrpc_pb2.Response(status=status).SerializeToString()
        self._send(self._serves.channel, stream, MessageType.RESPONSE, envelope)

    def _send(self, channel: int, stream: int, kind: MessageType, envelope: bytes) -> None:
        self._outgoing.append(mux.frames(channel, ttrpc.encode(stream, kind, envelope)))

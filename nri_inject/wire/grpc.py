"""One unary call of gRPC over HTTP/2 (RFC 9113), on a connection of its own: bytes in, bytes out.

A new connection for each call has one stream, so there is nothing to number and nothing to index.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple
from urllib.parse import unquote

from nri_inject.errors import ProtocolError
from nri_inject.wire import hpack
from nri_inject.wire.ttrpc import Code

MAX_RECEIVED: Final = 64 * 1024
"""How many bytes a peer may send for one call, frames included."""

MAX_FRAME: Final = 16 * 1024
"""How many bytes a frame may have, the default of HTTP/2."""

MAX_STATUS: Final = 512
"""How many characters of a status are kept."""

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_STREAM: Final = 1
_PREFIX: Final = 5  # of a message in gRPC: a byte for compression, four for the length
_TABLE_SIZE: Final = struct.pack(">HI", 1, 0)  # the peer is to index nothing
_NO_PUSH: Final = struct.pack(">HI", 2, 0)


class CallResult(NamedTuple):
    """How a call ended: a code of google.rpc.Code, 0 for success, and the peer's own text."""

    code: int
    text: str


class UnaryCall:
    """A call of a method, `/package.Service/Method`, with an encoded message.

    `timeout` in seconds is sent to the peer; keeping to it is the driver's business. What the peer
    answers with is not kept, since nobody here needs it.
    """

    def __init__(self, method: str, message: bytes, timeout: float) -> None:
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", f"{max(int(timeout * 1000), 1)}m"),
        )
        body = struct.pack(">?I", False, len(message)) + message
        self._outgoing = [
            _PREFACE,
            _frame(_SETTINGS, 0, _TABLE_SIZE + _NO_PUSH, stream=0),
            _frame(_HEADERS, _END_HEADERS, hpack.encode(fields)),
            _frame(_DATA, _END_STREAM, body),
        ]
        self._buffer = b""
        self._received = 0
        self._block: bytes | None = None  # of headers that go on in the next frame
        self._ends_with_block = False
        self._status: int | None = None
        self._text = ""

    def outgoing(self) -> bytes:
        """Return the bytes to be sent to the peer, and forget them."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: bytes) -> CallResult | None:
        """Take bytes of the peer, however they are cut; return how the call ended, once it has.

        `b""` means that the peer closed the connection. ProtocolError for bytes that are no HTTP/2
        or no answer, and for more of them than MAX_RECEIVED.
        """
        if not data:
            raise ProtocolError("the connection ended before the answer")
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            raise ProtocolError(f"the answer has more than {MAX_RECEIVED} bytes")
        self._buffer += data
        while (frame := self._next_frame()) is not None:
            if self._take(*frame):
                return self._result()
        return None

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        """Return type, flags, stream and content of the next whole frame."""
        if len(self._buffer) < 9:
            return None
        high, low, kind, flags, stream = struct.unpack_from(">BHBBI", self._buffer)
        length = high << 16 | low
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes, at most {MAX_FRAME} allowed")
        end = 9 + length
        if len(self._buffer) < end:
            return None
        content, self._buffer = self._buffer[9:end], self._buffer[end:]
        return kind, flags, stream & 0x7FFFFFFF, content

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> bool:
        """Act on a frame; return whether it ends the call."""
        if (self._block is not None) != (kind == _CONTINUATION):
            raise ProtocolError("headers are not followed by the rest of them")
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._outgoing.append(_frame(kind, _ACK, content if kind == _PING else b"", stream=0))
        elif kind == _GO_AWAY:
            raise ProtocolError(f"the peer ends the connection{_why(content[4:8])}")
        if stream != _STREAM:
            return False
        if kind == _RESET:
            raise ProtocolError(f"the peer ends the call{_why(content)}")
        if kind in (_HEADERS, _CONTINUATION):
            return self._take_headers(kind, flags, content)
        return kind == _DATA and bool(flags & _END_STREAM)

    def _take_headers(self, kind: int, flags: int, content: bytes) -> bool:
        if kind == _HEADERS:
            self._block, self._ends_with_block = b"", bool(flags & _END_STREAM)
            if flags & _PADDED:
                padding = content[0] if content else 0
                content = content[1 : max(len(content) - padding, 1)]
            if flags & _PRIORITY:
                content = content[5:]
        block = (self._block or b"") + content
        if not flags & _END_HEADERS:
            self._block = block
            return False
        self._block = None
        for name, value in hpack.decode(block):
            if name == "grpc-status":
                self._status = int(value) if re.fullmatch("[0-9]{1,3}", value) else Code.UNKNOWN
            elif name == "grpc-message":
                self._text = unquote(value, errors="replace")[:MAX_STATUS]
        return self._ends_with_block

    def _result(self) -> CallResult:
        if self._status is None:
            raise ProtocolError("the answer has no status of gRPC")
        return CallResult(self._status, self._text)


def _frame(kind: int, flags: int, content: bytes, *, stream: int = _STREAM) -> bytes:
    length = len(content)
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + content


def _why(code: bytes) -> str:
    return f" with error {int.from_bytes(code)} of HTTP/2" if len(code) == 4 else ""

"""The socket of a runtime for the kubelet, played by a test: it reads calls and answers by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nri_inject.wire import hpack

DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS = 1, 4


class Frame(NamedTuple):
    """A frame of HTTP/2."""

    kind: int
    flags: int
    stream: int
    content: bytes


def frame(kind: int, flags: int = 0, content: bytes = b"", stream: int = 1) -> bytes:
    head = struct.pack(">I", len(content))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + content


def frames(data: bytes) -> Iterator[Frame]:
    """Yield the frames of bytes that have nothing but whole ones."""
    while data:
        length = int.from_bytes(data[:3])
        yield Frame(data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + length])
        data = data[9 + length :]


def answer(status: int = 0, text: str = "") -> bytes:
    """Return what a server sends: an empty message, or a status alone."""
    first = frame(SETTINGS, stream=0) + frame(SETTINGS, 1, stream=0)
    fields = [("grpc-status", str(status)), ("grpc-message", text)]
    if status:
        block = b"\x88" + hpack.encode([("content-type", "application/grpc"), *fields])
        return first + frame(HEADERS, END_HEADERS | END_STREAM, block)
    return (
        first
        + frame(HEADERS, END_HEADERS, b"\x88")  # :status 200 of the static table
        + frame(DATA, 0, bytes(5))
        + frame(HEADERS, END_HEADERS | END_STREAM, hpack.encode(fields[:1]))
    )


class Connection:
    """A connection of a caller, and the call that came on it."""

    def __init__(self, one: socket.socket) -> None:
        self._socket = one
        data = one.recv(1 << 16)
        assert data.startswith(PREFACE)
        self.frames = list(frames(data.removeprefix(PREFACE)))

    @property
    def headers(self) -> dict[str, str]:
        (block,) = (each.content for each in self.frames if each.kind == HEADERS)
        return dict(hpack.decode(block))

    @property
    def message(self) -> bytes:
        (content,) = (each.content for each in self.frames if each.kind == DATA)
        assert content[:5] == b"\0" + struct.pack(">I", len(content) - 5)
        return content[5:]

    @property
    def container(self) -> str:
        """The id in the StopContainerRequest that came."""
        return self.message[2 : 2 + self.message[1]].decode()

    def answer(self, status: int = 0, text: str = "") -> None:
        self.send(answer(status, text))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()


class FakeCri:
    """A listening socket; each connection is one call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections: list[Connection] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.setblocking(False)

    def calls(self) -> list[Connection]:
        """Return the calls that have come since the last look."""
        new: list[Connection] = []
        while True:
            try:
                one, _ = self._socket.accept()
            except BlockingIOError:
                self._connections += new
                return new
            one.setblocking(True)
            new.append(Connection(one))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._socket.close()


@contextmanager
def cri_at(path: Path) -> Iterator[FakeCri]:
    cri = FakeCri(path)
    try:
        yield cri
    finally:
        cri.close()

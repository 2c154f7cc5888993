"""One call to the runtime's CRI socket: stop a container. It never waits.

The messages of CRI have more fields than this call needs; its two are encoded here.
"""

from __future__ import annotations

import socket
from typing import Final

from nri_inject.errors import ProtocolError
from nri_inject.wire.grpc import CallResult, UnaryCall

METHOD: Final = "/runtime.v1.RuntimeService/StopContainer"
"""CRI v1: containerd 1.6, CRI-O 1.23 and later."""

MAX_ANSWER_TIME: Final = 30.0
"""How many seconds the runtime has beyond the grace of the container."""

_MAX_PART: Final = 1 << 14


class StopCall:
    """Have a runtime stop a container, which has `grace` seconds between SIGTERM and SIGKILL.

    The constructor connects and sends. OSError if the runtime takes no connection or no data.
    """

    def __init__(self, path: str, container_id: str, grace: int) -> None:
        self.time: Final = grace + MAX_ANSWER_TIME
        self._call = UnaryCall(METHOD, stop_request(container_id, grace), self.time)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
            self._send()
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that can be read when the runtime has sent something."""
        return self._socket.fileno()

    def receive(self) -> CallResult | None:
        """Return the answer once it is there whole; OSError or ProtocolError if there is none."""
        try:
            data = self._socket.recv(_MAX_PART)
        except BlockingIOError:
            return None
        result = self._call.receive(data)
        if result is None:
            self._send()
        return result

    def close(self) -> None:
        """Close the connection, whether or not there was an answer."""
        self._socket.close()

    def _send(self) -> None:
        """Send what there is; it is so little that it fits into the socket of a peer that reads."""
        data = self._call.outgoing()
        if data and self._socket.send(data, socket.MSG_NOSIGNAL) < len(data):
            raise ProtocolError("the runtime does not read")


def stop_request(container_id: str, grace: int) -> bytes:
    """Return a StopContainerRequest: `container_id` is field 1, `timeout` in seconds field 2."""
    encoded = container_id.encode()
    return b"\x0a" + _varint(len(encoded)) + encoded + b"\x10" + _varint(grace)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])

"""The status socket of a running plugin, and asking it.

A client that connects gets one JSON document and then the end of the connection. An answer proves
that the loop is alive; a file could not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from nri_inject.service.health.timer import EXPIRATIONS, timer

DIRECTORY: Final = "/run/nri-inject"
VARIABLE: Final = "NRI_INJECT_STATUS_DIR"
"""The environment's word for the directory; empty means that no plugin has a status socket."""

CLIENT_TIMEOUT: Final = 2.0
"""How long a plugin may take to answer, in seconds: a runtime would wait no longer either."""

MAX_READERS: Final = 16
"""How many clients may be slow to read at one time; a further one takes the oldest one's place."""

MAX_READING: Final = 2.0
"""How long a client may take to read its document, in seconds."""

_BACKLOG: Final = 128
_MAX_BYTES: Final = 1 << 20
_MAX_AT_ONCE: Final = 16  # clients that connect all the time must not keep us from the runtime


def directory(environ: Mapping[str, str] = os.environ) -> str:
    """Return where status sockets are; empty text for nowhere."""
    return environ.get(VARIABLE, DIRECTORY)


class _SlowClient:
    """A client whose socket was full before the document was sent."""

    def __init__(self, connection: socket.socket, rest: bytes) -> None:
        self.connection = connection
        self.rest = rest
        self.deadline = time.monotonic() + MAX_READING


class StatusSocket:
    """Answer every client with `document()`; a Watch of the stub's loop.

    The socket is `<title>.<pid>.sock` in a directory for root alone, with the process that the
    service is known by. OSError if it can't be made.
    Nothing here waits: what does not fit into a client's socket is sent when the client has read,
    to at most MAX_READERS clients and for at most MAX_READING seconds.
    """

    def __init__(
        self, where: str, title: str, document: Callable[[], Mapping[str, Any]], pid: int = 0
    ) -> None:
        self._document = document
        self._readers: dict[int, _SlowClient] = {}
        self._timer = -1
        self.path = f"{where}/{title}.{pid or os.getpid()}.sock"
        _make_directory(Path(where))
        sweep(where, title)
        Path(self.path).unlink(missing_ok=True)  # of a worker that the kernel has not ended yet
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self.path)
            Path(self.path).chmod(0o600)
            self._socket.listen(_BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that can be read when there is a client to accept or to send to."""
        return self._epoll.fileno()

    def ready(self) -> None:
        """Accept clients, and send what there is room for."""
        for descriptor, _ in self._epoll.poll(0, MAX_READERS + 2):
            if descriptor == self._socket.fileno():
                self._accept()
            elif descriptor == self._timer:
                os.read(self._timer, EXPIRATIONS)
            elif descriptor in self._readers:
                self._send(self._readers[descriptor])
        if self._readers:
            self._end_overdue()

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        for reader in list(self._readers.values()):
            self._end(reader)
        self._socket.close()
        self._epoll.close()
        Path(self.path).unlink(missing_ok=True)

    def _accept(self) -> None:
        answer = json.dumps(self._document()).encode()
        for _ in range(_MAX_AT_ONCE):
            try:
                connection, _address = self._socket.accept()
            except OSError:  # no client waits any more, or it has gone
                return
            connection.setblocking(False)
            self._add(_SlowClient(connection, answer))

    def _add(self, reader: _SlowClient) -> None:
        """Send what fits at once, nearly always all of it, and keep the rest."""
        if len(self._readers) == MAX_READERS:
            self._end(next(iter(self._readers.values())))
        self._readers[reader.connection.fileno()] = reader
        self._epoll.register(reader.connection, select.EPOLLOUT)
        self._send(reader)
        if self._readers and self._timer < 0:
            self._timer = timer(MAX_READING)
            self._epoll.register(self._timer, select.EPOLLIN)

    def _send(self, reader: _SlowClient) -> None:
        try:
            sent = reader.connection.send(reader.rest, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:  # the client has gone
            sent = len(reader.rest)
        reader.rest = reader.rest[sent:]
        if not reader.rest:
            self._end(reader)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for reader in list(self._readers.values()):
            if now >= reader.deadline:
                self._end(reader)

    def _end(self, reader: _SlowClient) -> None:
        self._epoll.unregister(reader.connection)
        del self._readers[reader.connection.fileno()]
        reader.connection.close()
        if not self._readers and self._timer >= 0:
            self._epoll.unregister(self._timer)
            os.close(self._timer)
            self._timer = -1


def sweep(where: str, title: str) -> None:
    """Remove the sockets that plugins of this name have left behind when they were killed."""
    for path in _sockets(where, f"{title}."):
        if _is_dead(path):
            Path(path).unlink(missing_ok=True)


def ask_all(where: str) -> dict[str, dict[str, Any] | None]:
    """Return the document of each plugin that has a socket there, by the socket's name.

    None stands for one that does not answer: it was killed, or it hangs. OSError if the
    directory cannot be read; a directory that is missing has no sockets.
    """
    return {name: ask(path) for name, path in found(where).items()}


def found(where: str) -> dict[str, str]:
    """Return the path of each status socket in a directory, by the socket's name.

    OSError if the directory cannot be read; a directory that is missing has no sockets.
    """
    try:
        paths = _sockets(where)
    except FileNotFoundError:
        return {}
    return {path.rpartition("/")[2].removesuffix(".sock"): path for path in paths}


def ask(path: str) -> dict[str, Any] | None:
    """Return the document that a status socket answers with, None if it does not."""
    data = b""
    try:
        with _connected(path) as connection:
            while (part := connection.recv(1 << 16)) and len(data) < _MAX_BYTES:
                data += part
        answer = json.loads(data)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def is_alive(path: str) -> bool:
    """Tell whether a plugin answers, however long its document is."""
    try:
        with _connected(path) as connection:
            return connection.recv(1) != b""
    except OSError:
        return False


@contextlib.contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    """Connect, and let each step take CLIENT_TIMEOUT.

    Python's own timeout would not do: with it, connecting fails at once while the backlog is full
    (unix(7), EAGAIN), and a busy plugin would pass for a dead one.
    """
    seconds, fraction = divmod(CLIENT_TIMEOUT, 1)
    patience = struct.pack("ll", int(seconds), int(fraction * 1e6))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        connection.connect(path)
        yield connection


def _make_directory(where: Path) -> None:
    """Make a directory and those that are missing above it, for root alone whatever the umask."""
    missing = [directory for directory in (where, *where.parents) if not directory.is_dir()]
    for directory in reversed(missing):
        directory.mkdir(0o700, exist_ok=True)  # another plugin may make it meanwhile


def _sockets(where: str, prefix: str = "") -> list[str]:
    """Return the paths of the status sockets in a directory; OSError if it can't be read."""
    paths = [
        f"{where}/{name}"
        for name in sorted(os.listdir(where))
        if name.startswith(prefix) and name.endswith(".sock")
    ]
    return [path for path in paths if _is_socket(path)]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        return connection.connect_ex(path) == errno.ECONNREFUSED

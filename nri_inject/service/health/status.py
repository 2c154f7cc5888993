"""The status socket of a running plugin, and asking it.

A client that connects gets one JSON document and then the end of the connection. An answer proves
that the loop is alive; a file could not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from nri_inject.service.health.clients import Clients

DIRECTORY: Final = "/run/nri-inject"
VARIABLE: Final = "NRI_INJECT_STATUS_DIR"
"""The environment's word for the directory; empty means that no plugin has a status socket."""

CLIENT_TIMEOUT: Final = 2.0
"""How long a plugin may take to answer, in seconds: a runtime would wait no longer either."""

_BACKLOG: Final = 128
_MAX_BYTES: Final = 1 << 20


def directory(environ: Mapping[str, str] = os.environ) -> str:
    """Return where status sockets are; empty text for nowhere."""
    return environ.get(VARIABLE, DIRECTORY)


class StatusSocket(Clients):
    """Answer every client with `document()`; a Watch of the stub's loop.

    The socket is `<title>.<pid>.sock` in a directory for root alone, with the process that the
    service is known by. OSError if it can't be made.
    """

    def __init__(
        self, where: str, title: str, document: Callable[[], Mapping[str, Any]], pid: int = 0
    ) -> None:
        self.path = f"{where}/{title}.{pid or os.getpid()}.sock"
        _make_directory(Path(where))
        sweep(where, title)
        Path(self.path).unlink(missing_ok=True)  # of a worker that the kernel has not ended yet
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listening.bind(self.path)
            Path(self.path).chmod(0o600)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        super().__init__(listening, lambda _: json.dumps(document()).encode())

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        super().close()
        Path(self.path).unlink(missing_ok=True)


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

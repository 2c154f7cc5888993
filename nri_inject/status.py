"""The status socket of a running plugin, and asking it.

Whoever connects gets one JSON document and the end. That the loop answers at all is the proof
that it is alive; a file could not tell that. Paths are text here: every plugin that is launched has
a status socket, and pathlib would cost it 0.6 MB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any, Final

DIRECTORY: Final = "/run/nri-inject"
VARIABLE: Final = "NRI_INJECT_STATUS_DIR"
"""The environment's word for the directory; empty means that no plugin has a status socket."""

PATIENCE: Final = 2.0
"""How long a plugin may take to answer, in seconds: a runtime would wait no longer either."""

_BACKLOG: Final = 8
_MOST_BYTES: Final = 1 << 20
_MOST_AT_ONCE: Final = 16  # who connects all the time must not keep us from the runtime


def directory(environ: Mapping[str, str] = os.environ) -> str:
    """Return where status sockets are; empty text for nowhere."""
    return environ.get(VARIABLE, DIRECTORY)


class StatusSocket:
    """Answer everybody who connects with `document()`; a Watch of the stub's loop.

    The socket is `<title>.<pid>.sock` in a directory for root alone. OSError if it can't be made.
    """

    def __init__(self, where: str, title: str, document: Callable[[], Mapping[str, Any]]) -> None:
        self._document = document
        self.path = f"{where}/{title}.{os.getpid()}.sock"
        os.makedirs(where, mode=0o700, exist_ok=True)  # noqa: PTH103 - no pathlib
        sweep(where, title)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self.path)
            os.chmod(self.path, 0o600)  # noqa: PTH101 - no pathlib
            self._socket.listen(_BACKLOG)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the listening descriptor."""
        return self._socket.fileno()

    def ready(self) -> None:
        """Answer who waits; what does not fit into a socket's buffer is not sent."""
        import json

        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _address = self._socket.accept()
            except OSError:  # nobody waits any more, or they have gone
                return
            with connection, contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.send(json.dumps(self._document()).encode(), socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._socket.close()
        _remove(self.path)


def sweep(where: str, title: str) -> None:
    """Remove the sockets that plugins of this name have left behind when they were killed."""
    for path in _sockets(where, f"{title}."):
        if _is_dead(path):
            _remove(path)


def ask_all(where: str) -> dict[str, dict[str, Any] | None]:
    """Return the document of each plugin that has a socket there, by the socket's name.

    None stands for one that does not answer: it was killed, or it hangs. OSError if the
    directory cannot be read; a directory that is missing has no sockets.
    """
    try:
        paths = _sockets(where)
    except FileNotFoundError:
        return {}
    return {path.rpartition("/")[2].removesuffix(".sock"): ask(path) for path in paths}


def ask(path: str) -> dict[str, Any] | None:
    """Return the document that a status socket answers with, None if it does not."""
    import json

    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
            while (part := connection.recv(1 << 16)) and len(data) < _MOST_BYTES:
                data += part
            answer = json.loads(data)
        except (OSError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None


def _sockets(where: str, prefix: str = "") -> list[str]:
    """Return the paths of the status sockets in a directory; OSError if it can't be read."""
    paths = [
        f"{where}/{name}"
        for name in sorted(os.listdir(where))  # noqa: PTH208 - no pathlib
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


def _remove(path: str) -> None:
    """Remove a socket, or find that another plugin has done so."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - no pathlib

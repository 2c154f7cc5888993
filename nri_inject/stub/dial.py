"""The connection to a runtime: passed on by a runtime that launched us, or dialled."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator, Mapping
from typing import Final

from nri_inject.errors import ConnectionLost

DEFAULT_SOCKET: Final = "/var/run/nri/nri.sock"


def launched_connection(environ: Mapping[str, str]) -> socket.socket | None:
    """Return the connection that a runtime passed on, None if there is none.

    A runtime passes the descriptor of a connected socket in NRI_PLUGIN_SOCKET (NRI,
    pkg/api/plugin.go). Raises ConnectionLost if the variable has something else.
    """
    text = environ.get("NRI_PLUGIN_SOCKET", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConnectionLost(f"NRI_PLUGIN_SOCKET is {text!r}, the number of a descriptor expected")
    try:
        connection = socket.socket(fileno=int(text))
        try:
            connection.getpeername()
        except OSError:
            connection.close()
            raise
    except OSError as error:
        raise ConnectionLost(
            f"NRI_PLUGIN_SOCKET is {text}, which is not a connected socket: {error.strerror}"
        ) from error
    os.set_inheritable(connection.fileno(), False)
    return connection


def dial(path: str, count: int, timeout: float) -> list[socket.socket]:
    """Return `count` connections to the socket at `path`; OSError unless all can be made."""
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(_dial_one(path, timeout)) for _ in range(count)]
        opened.pop_all()
    return connections


def _dial_one(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def pauses(first: float, longest: float) -> Iterator[float]:
    """Yield pauses in seconds, which double from `first` to `longest`, each spread by half.

    The plugins of a node lose their runtime at the same time; the spread keeps them from
    connecting again at the same time.
    """
    pause = first
    while True:
        yield min(pause, longest) * random.uniform(0.5, 1.5)  # noqa: S311 - a spread, no secret
        pause *= 2

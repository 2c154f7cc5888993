"""The connection to a runtime: passed on by a runtime that launched us, or dialled."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from nri_inject.errors import ConnectionLost
from nri_inject.host.watch import FileWatch
from nri_inject.stub.limits import Limits
from nri_inject.stub.loop import Loop

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


APPEARED_PAUSE: Final = 0.01
"""The first pause after a change of the socket, in seconds: a runtime listens on it very soon."""


class Appearance:
    """Whether a runtime may have made its socket; a Watch of the loop.

    Without inotify nothing is seen, and the pauses between two attempts are as long as they are.
    """

    def __init__(self, path: str) -> None:
        self._seen = False
        self._watch = FileWatch(())
        self._watch.follow([path])
        self._watch.changed()

    def fileno(self) -> int:
        """Return a descriptor that can be read when something has changed."""
        return self._watch.fileno()

    def ready(self) -> None:
        """Look whether the change concerns the socket."""
        self._seen |= self._watch.changed()

    def seen(self) -> bool:
        """Tell whether the socket has changed."""
        return self._seen

    def forget(self) -> None:
        """Forget the changes until now."""
        self._seen = False

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()


class Dialler:
    """Dials a socket, again and again, with pauses that grow until `succeeded`.

    `warn` gets a sentence before each pause. `sleep` waits so many seconds, or until its function
    is true, and returns whether to go on.
    """

    def __init__(
        self,
        path: str,
        limits: Limits,
        loop: Loop,
        *,
        warn: Callable[[str], None],
        sleep: Callable[[float, Callable[[], bool]], bool],
    ) -> None:
        self._path = path
        self._limits = limits
        self._loop = loop
        self._warn = warn
        self._sleep = sleep
        self._appearance: Appearance | None = None
        self.succeeded()

    def succeeded(self) -> None:
        """Begin with the shortest pause the next time."""
        self._pauses = pauses(self._limits.first_pause, self._limits.max_pause)

    def dialled(self, count: int, *, again: bool) -> list[socket.socket]:
        """Dial until all connections are made, and return them; none when it is over before.

        `again` if there was a connection: then there is a pause before the first attempt, too.
        """
        reason = f"lost the connection to {self._path}" if again else ""
        with self._loop.watching(Appearance(self._path)) as self._appearance:
            while True:
                pause = 0.0
                if reason:
                    pause = next(self._pauses)
                    self._warn(f"{reason}; reconnecting in {pause:.1f} s")
                goes_on = self._sleep(pause, self._appearance.seen)
                if self._appearance.seen():  # a runtime may have made its socket
                    self._appearance.forget()
                    self._pauses = pauses(APPEARED_PAUSE, self._limits.max_pause)
                if not goes_on:
                    return []
                try:
                    return dial(self._path, count, self._limits.connect_timeout)
                except OSError as error:
                    reason = f"cannot connect to {self._path}: {error.strerror or error}"

    def close_copies(self) -> None:
        """Close this process's copy of the descriptor that is watched: a fork has no use for it."""
        if self._appearance is not None:
            self._appearance.close()


def pauses(first: float, longest: float) -> Iterator[float]:
    """Yield pauses in seconds, which double from `first` to `longest`, each spread by half.

    The plugins of a node lose their runtime at the same time; the spread keeps them from
    connecting again at the same time.
    """
    pause = first
    while True:
        yield min(pause, longest) * random.uniform(0.5, 1.5)  # noqa: S311 - a spread, no secret
        pause *= 2

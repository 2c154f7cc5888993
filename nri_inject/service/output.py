"""Text for a file or a pipe, written between two requests.

A handler that waited for a slow reader would hold up the whole node, and the runtime would drop
the plugin. So a handler enqueues a function that makes the text; it is called, and the text is
written, between two requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from nri_inject.errors import ConfigError

log = logging.getLogger(__name__)

STANDARD_OUTPUT: Final = 1
MAX_WAITING: Final = 4096
"""How many texts may wait for a slow reader; further texts are lost, and the log counts them."""

MAX_WAITING_BYTES: Final = 32 << 20
"""How many bytes the waiting texts may keep in memory; further texts are lost as well."""

_TURN: Final = 0.02  # seconds of writing before the loop goes on
_PIECE: Final = 4096  # PIPE_BUF of Linux: what poll promises that a pipe takes without waiting
_DRAIN_TIMEOUT: Final = 2.0  # seconds for the rest, when the plugin ends

Render = Callable[[], str]
"""Makes the text to write, line feed included."""


class Output:
    """Text for a file, or for standard output if `path` is None; a `stub.Watch`.

    A file is appended to and readable by its owner only, since containers' environments have
    secrets. It is opened again when it has been renamed or removed, as log rotation does.
    ConfigError if it cannot be opened. `on_reader_gone` is called when a pipe has no reader any
    more.
    """

    def __init__(
        self, path: str | None = None, on_reader_gone: Callable[[], None] = lambda: None
    ) -> None:
        self.on_reader_gone = on_reader_gone
        self._path: str | None = None
        self._target = STANDARD_OUTPUT
        self._epoll = select.epoll()
        self._always = os.eventfd(1, os.EFD_CLOEXEC)  # can be read, always: files cannot be polled
        self._armed: int | None = None
        self._waiting: deque[tuple[Render, int]] = deque()
        self._waiting_bytes = 0
        self._rest = memoryview(b"")
        self._lost = 0
        self._failing = False
        self._astray = False
        self.set_path(path)

    def __repr__(self) -> str:
        return f"output to {self._path or 'standard output'}"

    def set_path(self, path: str | None) -> None:
        """Write to this file from now on; None or an empty text is standard output.

        ConfigError if it cannot be opened; the file before it stays in use.
        """
        if (path or None) == self._path:
            return
        target = _opened(path) if path else STANDARD_OUTPUT
        self._retarget(target)
        self._path = path or None

    def enqueue(self, render: Render, size: int) -> None:
        """Write the text of `render` when the loop has nothing else to do. Never waits.

        `size` is how many bytes of messages `render` keeps in memory until then.
        """
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._lost += 1
            return
        self._waiting.append((render, size))
        self._waiting_bytes += size
        self._arm()

    def fileno(self) -> int:
        """Return a descriptor that can be read when there is something to write, and room."""
        return self._epoll.fileno()

    def ready(self) -> None:
        """Write what is there, for a moment, as far as the reader takes it."""
        self._write(time.monotonic() + _TURN)

    def close(self) -> None:
        """Write the rest, if the reader takes it soon, and close."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT
        while self._armed is not None and (left := deadline - time.monotonic()) > 0:
            if self._epoll.poll(left):
                self._write(deadline)
        self._retarget(STANDARD_OUTPUT)
        self._epoll.close()
        os.close(self._always)

    def _write(self, deadline: float) -> None:
        while self._rest or self._waiting:
            if not self._rest:
                self._follow()
                render, size = self._waiting.popleft()
                self._waiting_bytes -= size
                self._rest = memoryview(render().encode("utf-8", "backslashreplace"))
            if not self._take() or time.monotonic() > deadline:
                return
        self._disarm()
        if self._lost:
            log.warning("%r is too slow: %d texts are lost", self, self._lost)
            self._lost = 0

    def _take(self) -> bool:
        """Write a piece of the rest; False if there is no room for it now."""
        is_file = self._armed == self._always
        if not is_file and not _has_room(self._target):
            return False
        try:
            done = os.write(self._target, self._rest if is_file else self._rest[:_PIECE])
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed(error)
            return True
        self._failing = False
        self._rest = self._rest[done:]
        return True

    def _failed(self, error: OSError) -> None:
        """Give up what could not be written; say so when it begins."""
        self._rest = memoryview(b"")
        if not self._failing:
            log.error("cannot write to %r: %s; further output is lost", self, error.strerror)
            self._failing = True
        if isinstance(error, BrokenPipeError):
            self.on_reader_gone()

    def _follow(self) -> None:
        """Open the file again if its name leads to another file now."""
        if self._path is None or _same_file(self._path, self._target):
            return
        try:
            self._retarget(_opened(self._path))
        except ConfigError as error:
            if not self._astray:
                log.error("%s; output continues to the old file", error)
            self._astray = True
        else:
            self._astray = False

    def _retarget(self, target: int) -> None:
        """Write to another descriptor; it becomes ours unless it is standard output."""
        was_armed = self._armed is not None
        self._disarm()
        if self._target != STANDARD_OUTPUT:
            os.close(self._target)
        self._target = target
        if was_armed:
            self._arm()

    def _arm(self) -> None:
        if self._armed is not None:
            return
        try:
            self._epoll.register(self._target, select.EPOLLOUT)
            self._armed = self._target
        except OSError:  # a regular file, which is always ready
            self._epoll.register(self._always, select.EPOLLIN)
            self._armed = self._always

    def _disarm(self) -> None:
        if self._armed is not None:
            self._epoll.unregister(self._armed)
            self._armed = None


def _opened(path: str) -> int:
    """Open a file to append to; a FIFO without a reader fails rather than waits."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot write to {path!r}: {why}") from error


def _same_file(path: str, descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def _has_room(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))

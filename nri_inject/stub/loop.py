"""The loop of a plugin: the only place of the plugin side that waits.

One thread waits for the runtime's socket, for signals and for everything else that a plugin
watches. So a handler never runs while another one does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType, MappingProxyType
from typing import Final, Protocol, TypeVar

log = logging.getLogger(__name__)

_MAX_READY: Final = 16
_WAITED: Final = 0.001  # seconds after which nothing can have been ready before
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Watch(Protocol):
    """A descriptor to wait for, and a function for when it can be read."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def ready(self) -> None:
        """Read what is there; must not wait."""


class ClosableWatch(Watch, Protocol):
    """A watch that holds its descriptor."""

    def close(self) -> None:
        """Give the descriptor back."""


W = TypeVar("W", bound=ClosableWatch)


class Loop:
    """Wait for descriptors, and call the function of each one that is ready.

    `on_wake` is called in the loop's thread after each `wake`. Any thread may call `wake` and
    `stop`; all other methods are for the loop's own thread. What can be read in this turn came
    after `quiet_until`, in seconds of time.monotonic; where another process reads it first and
    hands it on, after its `holder_quiet_until`.
    """

    def __init__(
        self,
        on_wake: Callable[[], None],
        *,
        holder_quiet_until: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.stopping = False
        self.quiet_until = self._returned = time.monotonic()
        self.holder_quiet_until = holder_quiet_until
        self._on_wake = on_wake
        self._epoll = select.epoll()
        self._functions: dict[int, Callable[[], None]] = {}
        self._after_response: deque[Callable[[], None]] = deque()
        self._wake_end, self._woken_end = socket.socketpair()
        for end in (self._wake_end, self._woken_end):
            end.setblocking(False)
        self.add(self._woken_end.fileno(), self._woken)

    def add(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever the descriptor can be read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._functions[descriptor] = ready

    def remove(self, descriptor: int) -> None:
        """Stop waiting for a descriptor, which must still be open."""
        if self._functions.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def wait_for_room(self, descriptor: int, wanted: bool, *, reads: bool = False) -> None:
        """Wait until the descriptor can be written to instead of read, or read again.

        With `reads` it is read meanwhile, too.
        """
        room = select.EPOLLOUT | (select.EPOLLIN if reads else 0)
        self._epoll.modify(descriptor, room if wanted else select.EPOLLIN)

    def watch(self, watch: Watch) -> None:
        """Call `watch.ready`; a watch that fails is logged and removed."""
        self.add(watch.fileno(), partial(self._watched, watch))

    def unwatch(self, watch: Watch) -> None:
        """Remove a watch; its descriptor must still be open."""
        self.remove(watch.fileno())

    def after_response(self, callback: Callable[[], None]) -> None:
        """Call `callback` once after the function that runs now."""
        self._after_response.append(callback)

    def turn(self, timeout: float | None) -> None:
        """Wait at most `timeout` seconds (None: without end), then call what is ready."""
        if self._after_response:
            self._call_after_response()
        before = time.monotonic()
        ready_now = self._epoll.poll(timeout, _MAX_READY)
        now = time.monotonic()
        self.quiet_until = before if now - before > _WAITED else self._returned
        # A process that was stopped while it waited may find nothing although something is there.
        self._returned = now if ready_now else self.quiet_until
        for descriptor, _ in ready_now:
            # A function that was called before it may have removed this one.
            if ready := self._functions.get(descriptor):
                ready()
            if self._after_response:
                self._call_after_response()

    @contextlib.contextmanager
    def watching(self, watch: W) -> Iterator[W]:
        """Watch in this context, then close the watch."""
        self.watch(watch)
        try:
            yield watch
        finally:
            self.unwatch(watch)
            watch.close()

    def sleep(self, seconds: float, until: Callable[[], bool] = bool) -> None:
        """Go on for some seconds, or until `until` is true, or until `stop`."""
        end = time.monotonic() + seconds
        while not (self.stopping or until()) and (left := end - time.monotonic()) > 0:
            self.turn(left)

    def stop(self) -> None:
        """Set `stopping`, and end the wait that is going on."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """End the wait that is going on."""
        with contextlib.suppress(OSError):  # the socket is full of wakes, or the loop is closed
            self._wake_end.send(b"\0")

    @contextlib.contextmanager
    def stopped_by_signals(
        self, others: Mapping[int, Callable[[], None]] = MappingProxyType({})
    ) -> Iterator[None]:
        """Let SIGTERM and SIGINT call `stop` in this context, in the main thread only.

        The signals of `others` call its functions, and end the wait that is going on.

        Python runs a signal's handler between two steps of the program. For a signal that comes
        just before the wait that would be after the wait, so the signal also writes to the socket
        that the loop waits for.
        """
        try:
            descriptor = signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        except ValueError:  # another thread
            yield
            return
        called: dict[int, Callable[[], None]] = dict.fromkeys(_SIGNALS, self.stop)
        handlers = {
            number: signal.signal(number, partial(_call, function))
            for number, function in (called | dict(others)).items()
        }
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Call what `after_response` still holds, and close the loop's own descriptors."""
        self._call_after_response()
        self._epoll.close()
        self._wake_end.close()
        self._woken_end.close()

    def _call_after_response(self) -> None:
        # A callback that a callback adds waits for the next response.
        for _ in range(len(self._after_response)):
            try:
                self._after_response.popleft()()
            except Exception:  # a plugin's bug must not end the service of other containers
                log.exception("a callback after the response failed")

    def _watched(self, watch: Watch) -> None:
        try:
            watch.ready()
        except Exception:  # as above
            log.exception("%r failed and is no longer watched", watch)
            self.unwatch(watch)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken_end.recv(1 << 16)
        self._on_wake()


def _call(function: Callable[[], None], _number: int, _frame: FrameType | None) -> None:
    function()


def wait_for_room(connection: socket.socket, seconds: float) -> None:
    """Wait until a socket can be written to, at most so many seconds."""
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    poll.poll(seconds * 1000)

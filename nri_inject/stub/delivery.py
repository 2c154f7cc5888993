"""Whether the responses of a connection have reached the runtime in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from nri_inject.stub.loop import Loop

PATIENCE: Final = 2.0
"""How long a runtime waits for a response if it does not say, in seconds (NRI, pkg/adaptation)."""

Delivered: TypeAlias = Callable[[bool], None]
"""Gets whether the runtime has the response, and was still waiting for it."""


class Deliveries:
    """The callbacks that wait for the responses of one connection, oldest first.

    Handlers put theirs into `added`. `patience` is how long the runtime waits. A runtime closes the
    connection of a plugin that is too late, so nothing can be sent then. With `stays_connected` it
    keeps it, and the time counts: from the moment at which nothing was there to read, since a
    process that is stopped does not see when a request comes.
    """

    def __init__(self, loop: Loop, added: list[Delivered]) -> None:
        self.patience = PATIENCE
        self.stays_connected = False
        self._loop = loop
        self._added = added
        self._waiting: list[tuple[float, Delivered]] = []

    @property
    def longest_wait(self) -> float | None:
        """How long the loop may wait at a time; None if that does not matter."""
        return self.patience / 4 if self.stays_connected else None

    def take(self) -> None:
        """Take what the handlers have added for the requests that were just read."""
        since = min(self._loop.quiet_until, self._loop.holder_quiet_until())
        self._waiting += [(since, callback) for callback in self._added]
        self._added.clear()

    def settle(self, *, sent: bool) -> None:
        """Call the callbacks after the function that runs now: all is sent, or never will be."""
        now = time.monotonic()
        for since, callback in self._waiting:
            in_time = sent and (not self.stays_connected or now - since <= self.patience)
            self._loop.after_response(partial(callback, in_time))
        self._waiting.clear()

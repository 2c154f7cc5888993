"""Plugins that have connected and do not serve yet: their handshake with the runtime.

    registration ──> Configure ──> Synchronize ──> the plugin serves

A runtime must not wait for one plugin while others have messages. So the handshake is a generator:
it yields each answer that it waits for, as a `Pending`; the caller waits for those of many plugins
together and then lets each plugin advance by one step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeAlias

from nri_inject.api import ConfigureResponse, Container, ContainerUpdate, Empty, Pod
from nri_inject.capabilities import Runtime
from nri_inject.errors import NriError
from nri_inject.runtime.peer import Peer, Pending, Timeouts, configuration, wait

Existing: TypeAlias = Callable[[], tuple[Sequence[Pod], Sequence[Container]]]
"""Returns the pods that are known and the containers that are created, running or paused."""

PendingHandshake: TypeAlias = Generator[Pending, None, list[ContainerUpdate]]
"""Yields the answers that it waits for; returns the updates that the plugin requests."""


def handshake(
    peer: Peer, runtime: Runtime, config: str, timeouts: Timeouts, existing: Existing
) -> PendingHandshake:
    """Register, configure and synchronize a plugin; raises NriError where that fails."""
    registration = peer.registration(timeouts.registration)
    yield registration
    registration.result(Empty)
    request = configuration(runtime, config, timeouts)
    configured = peer.begin("Configure", request, timeouts.request)
    yield configured
    peer.subscribe(configured.result(ConfigureResponse), runtime)
    splits = runtime.nri >= (0, 7, 0)
    if not splits and peer.pid is not None:  # before 0.7.0 a launched plugin is not synchronized
        return []
    pods, containers = existing()
    return (yield from peer.synchronization(pods, containers, timeouts.request, splits=splits))


@contextlib.contextmanager
def noting(faults: list[str]) -> Generator[None, None, None]:
    """Add the sentence of an error to those that there are, and go on."""
    try:
        yield
    except NriError as error:
        faults.append(str(error))


class PendingPlugin:
    """A plugin in its handshake.

    `pending` is the answer that it waits for. `updates` are those that it requests, once the
    handshake is over.
    """

    def __init__(self, peer: Peer, handshake: PendingHandshake) -> None:
        self.peer = peer
        self.updates: list[ContainerUpdate] = []
        self._handshake = handshake
        self.pending = next(handshake)

    def advance(self) -> bool:
        """Take the next step; return False after the last one. Raises the fault of a step."""
        try:
            self.pending = next(self._handshake)
        except StopIteration as end:
            self.updates = end.value
            return False
        return True


def finish(plugins: Iterable[PendingPlugin], faults: list[str]) -> list[PendingPlugin]:
    """Wait until the handshakes of all plugins are over; return those that succeeded.

    The connections of the others are closed, and their faults added to `faults`.
    """
    succeeded = waiting = list(plugins)
    while waiting:
        wait(*(plugin.pending for plugin in waiting))
        going_on: list[PendingPlugin] = []
        for plugin in waiting:
            try:
                if plugin.advance():
                    going_on.append(plugin)
            except NriError as error:
                faults.append(str(error))
                plugin.peer.close()
                succeeded = [other for other in succeeded if other is not plugin]
        waiting = going_on
    return succeeded

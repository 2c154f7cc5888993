"""The runtime's half of NRI: it asks the plugins, in order, and puts their answers together."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nri_inject.api import (
    Container,
    CreateContainerRequest,
    CreateContainerResponse,
    Event,
    OwningPlugins,
    Pod,
)
from nri_inject.errors import ConnectionLost
from nri_inject.runtime.merge import Collected, Merged
from nri_inject.runtime.peer import Peer
from nri_inject.runtimes import NEWEST, Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Created:
    """What the plugins made of one container: the merged answers, and who set what."""

    merged: Merged
    owners: OwningPlugins


class Adaptation:
    """A runtime's plugins, in the order of their indexes.

    A plugin whose connection ends, that answers late or that breaks the protocol is dropped,
    and the request goes on without it, as in the reference. `dropped` says which and why.
    """

    def __init__(self, runtime: Runtime = NEWEST) -> None:
        self.runtime = runtime
        self.dropped: list[str] = []
        self._peers: list[Peer] = []

    def __enter__(self) -> Self:
        """Give the adaptation itself, which `with` closes in the end."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def add(self, peer: Peer, config: str = "") -> None:
        """Register, configure and synchronize a plugin, with nothing there yet to be told.

        Raises NriError if the plugin fails in any of it; its connection is closed then.
        """
        try:
            peer.register()
            peer.configure(self.runtime, config)
            peer.synchronize([], [])
        except Exception:
            peer.close()
            raise
        # Stable: plugins of one index are asked in the order in which they came.
        self._peers = sorted([*self._peers, peer], key=lambda known: known.index)

    def create_container(self, pod: Pod, container: Container) -> Created:
        """Ask every plugin about a container that is to be created.

        Raises RemoteError with a plugin's own text, and Conflict where two plugins want one
        field: either fails the container.
        """
        collected = Collected(CreateContainerRequest(pod=pod, container=container))
        for peer in self._subscribed(Event.CREATE_CONTAINER):
            try:
                response = peer.request(
                    "CreateContainer", collected.request_for_next(), CreateContainerResponse
                )
            except ConnectionLost as error:
                self._drop(peer, error)
                continue
            collected.take(peer.title, response)
        return Created(collected.result(), collected.owners)

    def close(self) -> None:
        """Close all connections; launched plugins are killed."""
        for peer in self._peers:
            peer.close()
        self._peers.clear()

    def _subscribed(self, event: int) -> Iterable[Peer]:
        return [peer for peer in self._peers if peer.wants(event)]

    def _drop(self, peer: Peer, error: ConnectionLost) -> None:
        log.warning("%s; it is dropped", error)
        self.dropped.append(str(error))
        self._peers.remove(peer)
        peer.close()

"""A peer of the runtime side, and the plugin's end of its connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from nri_inject.api import ContainerUpdate, CreateContainerRequest, CreateContainerResponse, Pod
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import Peer
from nri_inject.stub import Stub
from nri_inject.wire.session import Call, Session
from support.stubs import Running

BOUND = 10.0
SHORT = 0.05


@contextmanager
def connected(title: str = "10-web") -> Iterator[tuple[Peer, socket.socket]]:
    """Give a peer that knows its plugin's name, and the plugin's end of the connection."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(BOUND)
    peer = Peer(ours)
    peer.index, _, peer.name = title.partition("-")
    with closing(peer), theirs:
        yield peer, theirs


@contextmanager
def served(
    plugin: Plugin, update: Callable[..., list[ContainerUpdate]] | None = None
) -> Iterator[tuple[Peer, Stub]]:
    """Run our own stub in a thread; give the runtime's side of it."""
    ours, theirs = socket.socketpair()
    peer = Peer(ours, update)
    with Running(Stub(plugin, connection=theirs)) as running:
        try:
            yield peer, running.stub
        finally:
            peer.close()
            running.outcome()  # its errors are for other tests


def next_call(theirs: socket.socket, session: Session) -> Call:
    """Read as a plugin until the runtime calls."""
    while True:
        for event in session.receive(theirs.recv(1 << 16)):
            if isinstance(event, Call):
                return event


def create(peer: Peer, timeout: float = BOUND) -> CreateContainerResponse:
    request = CreateContainerRequest(pod=Pod(name="web"))
    return peer.request("CreateContainer", request, CreateContainerResponse, timeout)

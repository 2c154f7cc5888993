"""Connections that another process holds for a stub: served for each plugin, to their end."""

from __future__ import annotations

import socket
import threading

from nri_inject.capabilities import NEWEST
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import Peer
from nri_inject.stub import Stub

BOUND = 20.0


def test_each_plugin_has_its_connection_and_the_end_of_one_ends_all() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    stub = Stub(Plugin(name="a", index="10"), held=[theirs for _, theirs in pairs])
    stub.add_plugin(Plugin(name="b", index="20"))
    assert not stub.launched
    running = threading.Thread(target=stub.run)
    running.start()
    peers = [Peer(ours) for ours, _ in pairs]
    for peer in peers:
        peer.register(BOUND)
    assert [peer.title for peer in peers] == ["10-a", "20-b"]
    assert stub.phase == "disconnected"  # the runtime may not be there yet
    for peer in peers:
        peer.configure(NEWEST, timeout=BOUND)
        peer.synchronize([], [], BOUND)
    assert str(stub.phase) == "synchronized"
    peers[0].close()
    running.join(BOUND)
    assert not running.is_alive()
    assert peers[1].has_ended()
    peers[1].close()

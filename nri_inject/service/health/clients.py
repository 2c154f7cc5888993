"""The clients of a socket on which a plugin reports: few, for a short time, and none is waited for.

An unanswered client must not delay a container, whoever may connect.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from nri_inject.service.health.timer import EXPIRATIONS, timer

MAX_CLIENTS: Final = 16
"""How many clients are kept at one time; a further one takes the oldest one's place."""

MAX_TIME: Final = 2.0
"""How long a client may take to send its request and to read the answer, in seconds."""

MAX_REQUEST: Final = 8192
"""How many bytes of a request are read."""

_MAX_AT_ONCE: Final = 4  # steps of clients in one turn of the loop: the runtime comes next

Answering = Callable[[bytes], bytes | None]
"""Returns the whole answer to what a client has sent so far, or None until that is enough.

It is called with nothing first, and must answer MAX_REQUEST bytes.
"""


class _Client:
    """A client from its connection to the end of its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.rest: bytes | None = None
        self.deadline = time.monotonic() + MAX_TIME


class Clients:
    """Answer the clients of a listening socket, each one once; a Watch of the stub's loop.

    A turn takes at most _MAX_AT_ONCE steps: a client is accepted, or read once and answered, or
    sent what there is room for.
    """

    def __init__(self, listening: socket.socket, answer: Answering) -> None:
        self._listening = listening
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self._timer = -1
        self._epoll = select.epoll()
        self._epoll.register(listening, select.EPOLLIN)
        listening.setblocking(False)

    def fileno(self) -> int:
        """Return a descriptor that can be read when there is a step to take."""
        return self._epoll.fileno()

    def ready(self) -> None:
        """Take the next steps, and give up clients that were too slow."""
        for descriptor, _ in self._epoll.poll(0, _MAX_AT_ONCE):
            if descriptor == self._listening.fileno():
                self._accept()
            elif descriptor == self._timer:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._timer, EXPIRATIONS)
            elif (client := self._clients.get(descriptor)) is None:
                continue  # a newer client has taken its place in this turn
            elif client.rest is None:
                self._receive(client)
            else:
                self._send(client)
        if self._clients:
            self._end_overdue()

    def close(self) -> None:
        """Give up all clients, and close the listening socket."""
        for client in list(self._clients.values()):
            self._end(client)
        self._epoll.close()
        self._listening.close()

    def _accept(self) -> None:
        try:
            connection, _address = self._listening.accept()
        except OSError:  # it has gone, or another process has accepted it
            return
        connection.setblocking(False)
        if len(self._clients) == MAX_CLIENTS:
            self._end(next(iter(self._clients.values())))
        client = _Client(connection)
        self._clients[connection.fileno()] = client
        self._epoll.register(connection, select.EPOLLIN)
        if self._timer < 0:
            self._timer = timer(MAX_TIME)
            self._epoll.register(self._timer, select.EPOLLIN)
        self._advance(client)
        if client.rest is None:
            self._receive(client)

    def _receive(self, client: _Client) -> None:
        try:
            part = client.connection.recv(MAX_REQUEST - len(client.received))
        except BlockingIOError:
            return
        except OSError:
            part = b""
        client.received += part
        if part:
            self._advance(client)
        else:  # the client has gone
            self._end(client)

    def _advance(self, client: _Client) -> None:
        client.rest = self._answer(client.received)
        if client.rest is not None:
            self._epoll.modify(client.connection, select.EPOLLOUT)
            self._send(client)

    def _send(self, client: _Client) -> None:
        rest = client.rest or b""
        try:
            sent = client.connection.send(rest, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:  # the client has gone
            sent = len(rest)
        client.rest = rest[sent:]
        if not client.rest:
            self._end(client)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if now >= client.deadline:
                self._end(client)

    def _end(self, client: _Client) -> None:
        self._epoll.unregister(client.connection)
        del self._clients[client.connection.fileno()]
        client.connection.close()
        if not self._clients and self._timer >= 0:
            self._epoll.unregister(self._timer)
            os.close(self._timer)
            self._timer = -1

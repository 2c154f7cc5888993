"""The stub: a plugin, its connections to a runtime, and the attempts to connect again."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from nri_inject.api import ContainerUpdate
from nri_inject.errors import ConnectionLost, ProtocolError, RemoteError
from nri_inject.plugin import Plugin
from nri_inject.stub.connection import Connection, Observer
from nri_inject.stub.delivery import Delivered
from nri_inject.stub.deprecated import OldNames, renamed
from nri_inject.stub.dial import DEFAULT_SOCKET, Dialler, launched_connection
from nri_inject.stub.limits import DEFAULT_LIMITS, Limits
from nri_inject.stub.loop import Loop, Watch
from nri_inject.stub.updates import Callback, UpdateQueue

log = logging.getLogger(__name__)

Phase = Literal["disconnected", "registering", "configured", "synchronized"]
"""The progress of the handshake; runtimes before NRI 0.7 leave what they launch at "configured"."""


class Stub(OldNames):
    """Run a plugin on connections to one runtime.

    `connection` is a connected socket of a runtime that launched the plugin; `run` ends when the
    runtime closes it. Without it `run` dials `socket_path`, and dials again, with growing pauses,
    whenever the connection is lost; it ends on SIGTERM and SIGINT. `held` are connections that
    another process holds for us, one for each plugin: `run` serves them and ends with them.
    `holder_quiet_until` tells when that process last had nothing to read.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        connection: socket.socket | None = None,
        held: Sequence[socket.socket] = (),
        holder_quiet_until: Callable[[], float] = lambda: math.inf,
        socket_path: str = DEFAULT_SOCKET,
        watches: Iterable[Watch] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.plugin = plugin
        self._others: list[Plugin] = []
        self._observer: Observer | None = None
        self._given = connection
        self._held = held
        self._limits = limits
        self._updates = UpdateQueue()
        self._delivered: list[Delivered] = []
        self._connections: Sequence[Connection] = ()
        self._has_served = False
        self._loop = Loop(on_wake=self._flush, holder_quiet_until=holder_quiet_until)
        self._dialler = Dialler(
            socket_path, limits, self._loop, warn=log.warning, sleep=self._sleep
        )
        for watch in watches:
            self.watch(watch)

    @property
    def launched(self) -> bool:
        """Whether a runtime launched the plugin, and made its one connection."""
        return self._given is not None

    @property
    def phase(self) -> Phase:
        """The progress of the first plugin's handshake."""
        phase = self._connections[0].phase if self._connections else "ended"
        if self._held and phase == "registering":  # the runtime may not be there yet
            return "disconnected"
        return "disconnected" if phase == "leaving" or phase == "ended" else phase

    def add_plugin(self, plugin: Plugin) -> None:
        """Serve another plugin in the same loop, on a connection of its own to `socket_path`.

        If one connection is lost, all are closed and dialled again: this is for plugins that are
        of use together only. Updates go out on the first plugin's connection. ValueError for a
        launched plugin, which has one connection.
        """
        if self.launched:
            raise ValueError("a launched plugin has one connection")
        self._others.append(plugin)

    def on_bytes(self, observer: Observer) -> None:
        """Pass all bytes of the first plugin's connections to `observer`, which must not wait."""
        self._observer = observer

    def watch(self, watch: Watch) -> None:
        """Wait for another descriptor, too; `watch.ready` is called in the same thread.

        A watch that fails is logged and removed.
        """
        self._loop.watch(watch)

    def unwatch(self, watch: Watch) -> None:
        """Remove a watch; its descriptor must still be open."""
        self._loop.unwatch(watch)

    def update(
        self,
        updates: Iterable[ContainerUpdate],
        callback: Callback | None = None,
        *,
        then: Callback | None = None,
    ) -> None:
        """Request updates of containers that exist. Any thread, and any handler, may call.

        Nothing waits: the request is sent after the current handler has answered, since the
        runtime would not take it before. `callback` gets the updates that failed, or the error.
        Before the plugin is configured, and without a connection, requests are kept. An update
        changes resources; it can neither add a device nor stop a container, since NRI's adaptation
        drops evictions (0.2.0 to 0.12.5).
        """
        if then is not None:
            renamed("Stub.update(then=...)", "callback")
            callback = then
        self._updates.add(updates, callback)
        self._loop.wake()

    def after_response(self, callback: Callable[[], None]) -> None:
        """Call `callback` after the response of the handler that calls this.

        That is for work that no container waits for, such as a log. The callback runs in the same
        thread, when the response has gone to the socket and before anything else is read; it also
        runs if the response is an error, or cannot be sent, or is sent only in part. A callback
        that fails is logged. A callback that a callback adds runs after the next response.
        """
        self._loop.after_response(callback)

    def after_delivery(self, callback: Delivered) -> None:
        """Call `callback` once the response of the handler that calls this is sent, or cannot be.

        It gets whether the runtime has the response and was still waiting for it. Otherwise the
        container failed or was created without the plugin, as the runtime does with a plugin that
        does not answer. Where a runtime keeps the connection of a plugin that is too late, False
        also stands for a response that may have been too late. The callback runs as those of
        `after_response` do.
        """
        self._delivered.append(callback)

    def stop(self) -> None:
        """End `run` as soon as the current handler has answered. Any thread may call."""
        self._loop.stop()

    def run(self) -> None:
        """Serve until the runtime or a signal ends it; once in the life of a stub.

        Raises ConnectionLost when a given connection ends before the plugin was configured,
        and NriError when the runtime or the plugin itself refuses the configuration.
        """
        try:
            with self._loop.stopped_by_signals():
                if self._given is not None:
                    self._serve([self._given])
                elif self._held:
                    self._serve(self._held)
                else:
                    self._serve_and_reconnect()
        finally:
            self._loop.close()

    def _serve_and_reconnect(self) -> None:
        is_lost = False
        while sockets := self._dialler.dialled(1 + len(self._others), again=is_lost):
            try:
                self._serve(sockets)
            except (ConnectionLost, ProtocolError) as error:
                log.warning("%s", error)
            except RemoteError as error:
                if not self._has_served:  # a runtime that has served us may do so again
                    raise
                log.warning("%s", error)
            is_lost = True

    def _sleep(self, seconds: float, until: Callable[[], bool]) -> bool:
        self._loop.sleep(seconds, until)
        return not self._loop.stopping

    def _serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until one connection ends; raise the fault of the first that has one."""
        connections = self._connections = self._open(sockets)
        try:
            for connection in connections:
                connection.start()
            self._finish_handshakes()
            while not self._is_over():
                self._loop.turn(self._longest_wait())
        finally:
            self._connections = ()
            for connection in connections:
                connection.close()
        for connection in connections:
            if connection.fault is not None:
                raise connection.fault

    def _open(self, sockets: Sequence[socket.socket]) -> list[Connection]:
        first = Connection(
            sockets[0],
            self.plugin,
            self._loop,
            updates=self._updates,
            delivered=self._delivered,
            limits=self._limits,
            launched=self.launched,
            on_bytes=self._observer,
        )
        others = [
            Connection(
                connection,
                plugin,
                self._loop,
                updates=UpdateQueue(),
                delivered=self._delivered,
                limits=self._limits,
            )
            for connection, plugin in zip(sockets[1:], self._others, strict=True)
        ]
        return [first, *others]

    def _finish_handshakes(self) -> None:
        """Serve until no connection has a deadline any more, or until the end."""
        while not self._is_over():
            deadlines = [one.deadline for one in self._connections if one.deadline is not None]
            if not deadlines:
                break
            self._loop.turn(max(min(deadlines) - time.monotonic(), 0.0))
            for connection in self._connections:
                connection.check_deadline()
        if all(connection.phase == "synchronized" for connection in self._connections):
            self._has_served = True
            self._dialler.succeeded()

    def _longest_wait(self) -> float | None:
        waits = [one.longest_wait for one in self._connections if one.longest_wait is not None]
        return min(waits, default=None)

    def _is_over(self) -> bool:
        return self._loop.stopping or any(one.phase == "ended" for one in self._connections)

    def _flush(self) -> None:
        for connection in self._connections:
            connection.flush()


def serve(plugin: Plugin, *, socket_path: str = DEFAULT_SOCKET) -> None:
    """Run `plugin` as it was started: launched by a runtime, or by hand.

    A runtime that launches a plugin passes a connected socket's descriptor in
    NRI_PLUGIN_SOCKET (NRI, pkg/api/plugin.go). Without it `socket_path` is dialled.
    """
    connection = launched_connection(os.environ)
    Stub(plugin, connection=connection, socket_path=socket_path).run()

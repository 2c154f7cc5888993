"""A plugin as a runtime sees it: one connection, one request at a time, each with a deadline."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf.message import Message

from nri_inject.api import (
    ConfigureRequest,
    ConfigureResponse,
    Container,
    ContainerUpdate,
    Empty,
    Pod,
    RegisterPluginRequest,
    SynchronizeRequest,
    SynchronizeResponse,
    UpdateContainersRequest,
    UpdateContainersResponse,
)
from nri_inject.errors import ConnectionLost, NriError, ProtocolError, RemoteError
from nri_inject.runtimes import Runtime, known_events
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

REGISTRATION_TIMEOUT: Final = 5.0
REQUEST_TIMEOUT: Final = 2.0
"""The defaults of NRI's runtimes, in seconds."""

_READ: Final = 1 << 16

Response = TypeVar("Response", bound=Message)
Updater = Callable[[list[ContainerUpdate]], list[ContainerUpdate]]


class Peer:
    """One connected plugin.

    Every method raises ConnectionLost when the plugin is gone, late, or breaks the protocol: a
    runtime drops it then. RemoteError is the plugin's own answer, and it stays.
    """

    def __init__(
        self, connection: socket.socket, update: Updater | None = None, pid: int | None = None
    ) -> None:
        self.index = ""
        self.name = ""
        self.events = 0
        self._registered = False
        self._socket = connection
        self._session = Session(Role.RUNTIME)
        self._update = update
        self.pid = pid

    @property
    def title(self) -> str:
        """The plugin's name as runtimes write it, `10-device-injector`."""
        return f"{self.index}-{self.name}"

    def wants(self, event: int) -> bool:
        """Tell whether the plugin subscribed to an event, by its number."""
        return bool(self.events >> (event - 1) & 1)

    def register(self, timeout: float = REGISTRATION_TIMEOUT) -> None:
        """Wait for the plugin to say who it is."""
        deadline = time.monotonic() + timeout
        while not self._registered:
            for event in self._receive(deadline, "registration"):
                self._serve(event)

    def configure(
        self, runtime: Runtime, config: str = "", timeout: float = REQUEST_TIMEOUT
    ) -> None:
        """Hand the plugin its configuration, and learn which events it wants.

        NriError if it wants an event that this runtime does not know.
        """
        told = ".".join(map(str, runtime.nri)) if runtime.nri >= (0, 12, 0) else ""
        milliseconds = runtime.nri >= (0, 7, 0)
        request = ConfigureRequest(
            config=config,
            runtime_name=runtime.name,
            runtime_version=runtime.version,
            NRI_version=f"v{told}" if told else "",
            registration_timeout=int(REGISTRATION_TIMEOUT * 1000) if milliseconds else 0,
            request_timeout=int(REQUEST_TIMEOUT * 1000) if milliseconds else 0,
        )
        events = self.request("Configure", request, ConfigureResponse, timeout).events
        known = known_events(runtime)
        if events & ~known:
            raise NriError(f"plugin {self.title} wants invalid events: {events & ~known:#x}")
        self.events = events or known

    def synchronize(
        self, pods: list[Pod], containers: list[Container], timeout: float = REQUEST_TIMEOUT
    ) -> list[ContainerUpdate]:
        """Tell the plugin what exists, and return the updates that it wants."""
        request = SynchronizeRequest(pods=pods, containers=containers)
        return list(self.request("Synchronize", request, SynchronizeResponse, timeout).update)

    def request(
        self,
        method: str,
        message: Message,
        response_type: type[Response],
        timeout: float = REQUEST_TIMEOUT,
    ) -> Response:
        """Call a method of the plugin and wait for its answer, `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        try:
            stream = self._session.call(method, message, int(timeout * 1e9))
        except ValueError as error:  # too long to be sent
            raise NriError(f"plugin {self.title}: {error}") from error
        self._flush(deadline, method)
        while True:
            outcome: Answer | Failure | None = None
            for event in self._receive(deadline, method):
                if isinstance(event, Call):
                    self._serve(event)
                elif event.stream == stream:
                    outcome = event
            if isinstance(outcome, Failure):
                raise RemoteError(outcome.code, outcome.text)
            if outcome is not None and isinstance(outcome.response, response_type):
                return outcome.response

    def close(self) -> None:
        """Close the connection; a launched plugin is killed, as runtimes do."""
        self._socket.close()
        if self.pid is not None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.pid = None

    def _serve(self, event: Event) -> None:
        if not isinstance(event, Call):
            return
        if isinstance(event.request, RegisterPluginRequest):
            self._registered = True
            self.name = self.name or event.request.plugin_name
            self.index = self.index or event.request.plugin_idx
            self._session.answer(event, Empty())
        elif isinstance(event.request, UpdateContainersRequest):
            self._serve_update(event, list(event.request.update))
        self._flush(time.monotonic() + REQUEST_TIMEOUT, event.method)

    def _serve_update(self, call: Call, updates: list[ContainerUpdate]) -> None:
        failed = updates if self._update is None else self._update(updates)
        if any(not update.ignore_failure for update in failed):
            # With a status, as every runtime does: an answer with the list would say that all
            # is well to plugins that look at nothing but the status.
            self._session.refuse(call, Code.UNKNOWN, "NRI update of some containers failed")
        else:
            self._session.answer(call, UpdateContainersResponse(failed=failed))

    def _receive(self, deadline: float, what: str) -> list[Event]:
        self._wait(select.POLLIN, deadline, what)
        try:
            data = self._socket.recv(_READ)
            events = self._session.receive(data)
        except OSError as error:
            raise ConnectionLost(f"plugin {self.title}: {error.strerror}") from error
        except ProtocolError as error:
            raise ConnectionLost(f"plugin {self.title}: {error}") from error
        if not data:
            raise ConnectionLost(f"plugin {self.title} ended")
        return events

    def _flush(self, deadline: float, what: str) -> None:
        data = memoryview(self._session.outgoing())
        while data:
            self._wait(select.POLLOUT, deadline, what)
            try:
                sent = self._socket.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"plugin {self.title}: {error.strerror}") from error
            data = data[sent:]

    def _wait(self, event: int, deadline: float, what: str) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        # A plugin that never stops talking is late as well: there is always something to read.
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise ConnectionLost(f"plugin {self.title} did not answer {what} in time")


def launch(path: str | Path, update: Updater | None = None, *, log: bool = False) -> Peer:
    """Start a plugin the way a runtime starts a pre-installed one, and return its connection.

    The file's name is `NN-name`. The plugin gets its path as only argument, three variables as
    its environment, a connected socket as descriptor 3, and nothing on descriptors 0 to 2
    (NRI, pkg/adaptation/plugin.go); with `log` it writes to our standard error. Raises NriError
    for a name of another form, and for a file that cannot be executed.
    """
    index, dash, name = Path(path).name.partition("-")
    if not (dash and len(index) == 2 and index.isascii() and index.isdigit()):
        raise NriError(f"plugin {path}: a file name such as 10-name expected")
    return launch_as(path, index, name, update, log=log)


def launch_as(
    path: str | Path, index: str, name: str, update: Updater | None = None, *, log: bool = False
) -> Peer:
    """Do what `launch` does for a file of any name."""
    ours, theirs = socket.socketpair()
    environment = {"NRI_PLUGIN_NAME": name, "NRI_PLUGIN_IDX": index, "NRI_PLUGIN_SOCKET": "3"}
    null = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in ((0, 1) if log else (0, 1, 2))
    ]
    try:
        with theirs:
            pid = os.posix_spawn(
                path,
                [str(path)],
                environment,
                file_actions=[*null, (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
            )
    except OSError as error:
        ours.close()
        raise NriError(f"cannot start plugin {path}: {error.strerror}") from error
    peer = Peer(ours, update, pid)
    peer.index, peer.name = index, name
    return peer

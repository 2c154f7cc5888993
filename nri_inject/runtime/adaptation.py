"""The runtime's half of NRI: it calls the plugins, in order, and merges their answers.

The embedding program reports the existing pods and containers: a runtime knows them already, and
two records of one truth drift apart. `nri_inject.runtime.world` is for programs that keep none.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from google.protobuf.message import Message

from nri_inject import api, capabilities
from nri_inject.api import (
    Adjustment,
    Container,
    ContainerUpdate,
    CreateContainerRequest,
    Empty,
    Event,
    LinuxResources,
    OwningPlugins,
    PluginInstance,
    Pod,
    StateChangeEvent,
    StopContainerRequest,
    UpdateContainerRequest,
    UpdatePodSandboxRequest,
    UpdatePodSandboxResponse,
)
from nri_inject.capabilities import NEWEST, Runtime, Unsupported
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.runtime import discovery, validators
from nri_inject.runtime.discovery import Installed
from nri_inject.runtime.launcher import launch_as
from nri_inject.runtime.listener import listen
from nri_inject.runtime.merge import Merge, Merged, Request
from nri_inject.runtime.peer import (
    Late,
    Peer,
    Pending,
    Response,
    Timeouts,
    Unanswered,
    Updater,
    expire,
    process_of,
    wait,
)
from nri_inject.runtime.pending import Existing, PendingPlugin, finish, handshake, noting
from nri_inject.runtime.validate import Rejection, Rules
from nri_inject.wire.ttrpc import Code

log = logging.getLogger(__name__)

_MAX_PENDING: Final = 64
"""How many connections may wait for their registration at once; further ones wait in the socket."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A part of a plugin's adjustment that this runtime does not know and drops in silence."""

    plugin: str
    loss: Unsupported
    part: Adjustment


@dataclass(frozen=True, slots=True)
class Created:
    """The result of the plugins for one container: merged answers, owners, and lost fields."""

    merged: Merged
    owners: OwningPlugins
    lost: tuple[Lost, ...] = ()


class Adaptation:
    """A runtime's plugins, in the order of their indexes.

    A plugin whose connection ends, that answers late or that breaks the protocol is dropped, and
    the request goes on without it, unless its failure policy says otherwise (NRI 0.12.4). `dropped`
    says which and why, `passed` which requests went on without a plugin that stays.

    `runtime` is the runtime to imitate: its version of NRI decides which events it sends and which
    fields it drops. `existing` returns the objects that are reported to plugins when they connect,
    `update` makes the updates that they request by themselves and returns those that failed; it may
    not call plugins. `rules` are those of the default validator, None if it is off.

    Every request raises RemoteError with a plugin's own text, and Unanswered if a plugin's failure
    policy fails it; plugins after it are not called.
    """

    def __init__(
        self,
        runtime: Runtime = NEWEST,
        *,
        existing: Existing = lambda: ((), ()),
        update: Updater | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        rules: Rules | None = None,
    ) -> None:
        self.runtime = runtime
        self.existing = existing
        self.update = update
        self.timeouts = timeouts
        self.rules = rules
        self.dropped: list[str] = []
        self.passed: list[str] = []
        self._peers: list[Peer] = []
        self._pending: list[PendingPlugin] = []
        self._listener: socket.socket | None = None
        self._socket_path = Path()
        self._deadline = math.inf

    def __enter__(self) -> Self:
        """Give the adaptation itself, which `with` closes in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def plugins(self) -> list[str]:
        """The plugins that are asked, in their order, as `NN-name`."""
        return [peer.title for peer in self._peers]

    # --- how plugins come -------------------------------------------------------------------------

    def launch(
        self,
        directory: str | Path = discovery.PLUGINS,
        config_directory: str | Path | None = discovery.CONFIGURATION,
        *,
        log: bool = False,
    ) -> list[str]:
        """Start a directory's plugins; return a sentence for each that does not serve.

        All are started at once, and synchronized when all are configured. `log` lets them
        write to our standard error. NriError if the directory cannot be read.
        """
        found, faults = discovery.find(directory)
        launched: list[PendingPlugin] = []
        try:
            for installed in found:
                with noting(faults):
                    launched.append(self._launched(installed, config_directory, log=log))
            serving = finish(launched, faults)
        except BaseException:  # an interrupt must not leave processes behind
            for plugin in launched:
                plugin.peer.close()
            raise
        for plugin in serving:
            self._join(plugin)
        return faults

    def add(self, peer: Peer, config: str = "") -> None:
        """Register, configure and synchronize a plugin.

        Raises NriError if the plugin fails in any of it; its connection is closed then.
        """
        try:
            plugin = self._connected(peer, config)
            wait(plugin.pending)
            while plugin.advance():
                wait(plugin.pending)
        except BaseException:  # an interrupt, too
            peer.close()
            raise
        self._join(plugin)

    def listen(self, path: str | Path) -> None:
        """Let external plugins connect to a unix socket, which `serve` and requests attend to.

        NriError if that cannot be done.
        """
        self._listener, self._socket_path = listen(path), Path(path)

    def serve(self, seconds: float = 0.0) -> None:
        """Serve the plugins for this time: new connections, requested updates, ended connections.

        With 0 it handles all pending events and returns; every request begins with that.
        """
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            self._turn(max(left, 0.0))
            if left <= 0:
                return

    def close(self) -> None:
        """Close all connections; launched plugins are killed."""
        if self._listener is not None:
            self._listener.close()
            self._socket_path.unlink(missing_ok=True)
            self._listener = None
        for peer in (*self._peers, *(plugin.peer for plugin in self._pending)):
            peer.close()
        self._peers.clear()
        self._pending.clear()

    # --- the life of pods and containers ----------------------------------------------------------

    @contextlib.contextmanager
    def until(self, deadline: float) -> Generator[None, None, None]:
        """End later requests at this time, in seconds of time.monotonic.

        They end with an NriError then. No plugin is dropped for it, since none was too late.
        """
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = math.inf

    def tell(self, event: Event, pod: Pod, container: Container | None = None) -> None:
        """Report one of the nine events that have an empty response.

        Runtimes before NRI 0.12.0 send them as StateChange, later ones only plugins that do not
        know the call of its own. A container goes with the events of containers.
        """
        with self._requesting():
            for peer in self._subscribed(event):
                with self._answering(peer, _METHODS_OF_EVENTS[event]):
                    self._tell(peer, event, pod, container)

    def update_pod_sandbox(
        self, pod: Pod, overhead: LinuxResources, resources: LinuxResources
    ) -> None:
        """Ask whether a pod's resources may change."""
        request = UpdatePodSandboxRequest(
            pod=pod, overhead_linux_resources=overhead, linux_resources=resources
        )
        with self._requesting():
            for peer in self._subscribed(Event.UPDATE_POD_SANDBOX):
                with self._answering(peer, "UpdatePodSandbox"):
                    self._request(peer, "UpdatePodSandbox", request, UpdatePodSandboxResponse)

    def create_container(self, pod: Pod, container: Container) -> Created:
        """Ask every plugin about a container that is to be created, then the validators.

        Raises RemoteError with a plugin's own text, Conflict where two plugins want one field,
        and Rejection with the validators' reasons: each fails the container.
        """
        with self._requesting():
            request = CreateContainerRequest(pod=pod, container=container)
            collected, lost, connected = self._collect(request)
            self._validate(collected, connected)
        return Created(collected.result(), collected.owners, tuple(lost))

    def update_container(self, pod: Pod, container: Container, resources: LinuxResources) -> Merged:
        """Ask every plugin about new resources of a container; Conflict as at creation."""
        request = UpdateContainerRequest(pod=pod, container=container, linux_resources=resources)
        with self._requesting():
            return self._collect(request)[0].result()

    def stop_container(self, pod: Pod, container: Container) -> Merged:
        """Report to every plugin that a container has stopped, and collect updates of others."""
        with self._requesting():
            return self._collect(StopContainerRequest(pod=pod, container=container))[0].result()

    # --- inside -----------------------------------------------------------------------------------

    def _launched(
        self, installed: Installed, config_directory: str | Path | None, *, log: bool
    ) -> PendingPlugin:
        index, name = installed.index, installed.name
        config = discovery.configuration(config_directory, index, name)
        return self._connected(launch_as(installed.path, index, name, log=log), config)

    def _connected(self, peer: Peer, config: str = "") -> PendingPlugin:
        peer.update = peer.update or self._update
        steps = handshake(peer, self.runtime, config, self.timeouts, self.existing)
        return PendingPlugin(peer, steps)

    def _join(self, plugin: PendingPlugin) -> None:
        """Ask a plugin from now on, and make the updates that it requests."""
        # Stable: plugins of one index are asked in the order in which they came.
        self._peers = sorted([*self._peers, plugin.peer], key=lambda known: known.index)
        if plugin.updates and (failed := self._update(plugin.updates)):
            names = ", ".join(update.container_id for update in failed)
            log.warning("plugin %s: updates failed: %s", plugin.peer.title, names)

    def _update(self, updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        return updates if self.update is None else self.update(updates)

    def _turn(self, timeout: float) -> None:
        """Wait for the next event, and handle all that are pending."""
        for peer in self._peers:
            peer.serve_postponed()
        peers = {peer.fileno(): peer for peer in self._peers}
        peers |= {plugin.peer.fileno(): plugin.peer for plugin in self._pending}
        poll = select.poll()
        for descriptor, peer in peers.items():
            poll.register(descriptor, peer.interest())
        if self._listener is not None and len(self._pending) < _MAX_PENDING:
            poll.register(self._listener, select.POLLIN)
        deadlines = [plugin.pending.deadline - time.monotonic() for plugin in self._pending]
        for descriptor, _ in poll.poll(max(min([timeout, *deadlines]), 0) * 1000):
            if descriptor in peers:
                peers[descriptor].ready()
            elif self._listener is not None:
                self._accept(self._listener)
        expire([plugin.pending for plugin in self._pending])
        for peer in [peer for peer in self._peers if peer.lost]:
            self._drop(peer)
        for plugin in [plugin for plugin in self._pending if plugin.pending.done]:
            self._advance(plugin)

    @contextlib.contextmanager
    def _requesting(self) -> Generator[None, None, None]:
        """Handle pending events before a request, and delay updates until its end.

        A plugin that is being synchronized must not miss the request. An update may be of the very
        container that is being created.
        """
        self.serve()
        while busy := [plugin for plugin in self._pending if plugin.pending.what == "Synchronize"]:
            wait(*(plugin.pending for plugin in busy))
            for plugin in busy:
                self._advance(plugin)
        asked = tuple(self._peers)
        for peer in asked:
            peer.holds_updates = True
        try:
            yield
        finally:
            for peer in asked:
                peer.holds_updates = False

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            log.warning("cannot take a plugin's connection: %s", error.strerror)
            return
        log.info("process %d connected as a plugin", process_of(connection))
        strict = self.runtime.nri >= (0, 12, 0)
        self._pending.append(self._connected(Peer(connection, checks_name=strict)))

    def _advance(self, plugin: PendingPlugin) -> None:
        """Take the next step of a handshake; after the last one the plugin joins."""
        try:
            if plugin.advance():
                return
        except NriError as error:
            log.warning("a plugin failed to register: %s", error)
            plugin.peer.close()
        else:
            self._join(plugin)
        self._pending.remove(plugin)

    def _open(self) -> Iterator[Peer]:
        """Yield the plugins in their order; one that has ended by itself is dropped instead.

        No request was sent to it, so its failure policy does not count.
        """
        for peer in tuple(self._peers):
            if peer.has_ended():
                self._drop(peer)
            else:
                yield peer

    def _subscribed(self, event: int) -> Iterator[Peer]:
        return (peer for peer in self._open() if peer.wants(event))

    @contextlib.contextmanager
    def _answering(self, peer: Peer, method: str) -> Generator[None, None, None]:
        """Do what the plugin's failure policy says if it does not answer; without one, drop it."""
        try:
            yield
        except (ConnectionLost, Late) as error:
            if peer.lost:
                self._drop(peer)
            if peer.policy.fail_request:
                raise Unanswered(f"{error}, so {method} fails") from error
            if not peer.lost:
                log.warning("%s; the request goes on without it", error)
                self.passed.append(str(error))

    def _drop(self, peer: Peer) -> None:
        log.warning("%s; it is disconnected", peer.lost)
        self.dropped.append(str(peer.lost))
        self._peers.remove(peer)
        peer.close()

    def _request(
        self, peer: Peer, method: str, message: Message, response_type: type[Response]
    ) -> Response:
        pending = self._begin(peer, method, message)
        wait(pending)
        return pending.result(response_type)

    def _begin(self, peer: Peer, method: str, message: Message) -> Pending:
        """Call a method of a plugin, until it is late or the caller stops waiting."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NriError(f"the request ended before plugin {peer.title} was asked {method}")
        if left < self.timeouts.request:
            return peer.begin(method, message, left, on_behalf=True)
        return peer.begin(method, message, self.timeouts.request)

    def _tell(self, peer: Peer, event: Event, pod: Pod, container: Container | None) -> None:
        if self.runtime.nri >= (0, 12, 0) and peer.knows_dedicated_calls:
            try:
                self._call(peer, event, pod, container)
            except RemoteError as error:
                if error.code != Code.UNIMPLEMENTED:
                    raise
                peer.knows_dedicated_calls = False  # nor any other of the nine
            else:
                return
        change = StateChangeEvent(event=event, pod=pod, container=container)
        self._request(peer, "StateChange", change, Empty)

    def _call(self, peer: Peer, event: Event, pod: Pod, container: Container | None) -> None:
        method = _METHODS_OF_EVENTS[event]
        request: Message = getattr(api, f"{method}Request")(pod=pod)
        if container is not None:
            request.container.CopyFrom(container)  # type: ignore[attr-defined]  # by its event
        self._request(peer, method, request, getattr(api, f"{method}Response"))

    def _collect(self, request: Request) -> tuple[Merge, list[Lost], list[PluginInstance]]:
        """Call the subscribed plugins in order, each with the changes of those before it.

        The third result is for validators: each plugin that was connected at its turn.
        """
        method = type(request).__name__.removesuffix("Request")
        response_type = getattr(api, f"{method}Response")
        collected = Merge(request, self.runtime.nri)
        lost: list[Lost] = []
        connected: list[PluginInstance] = []
        for peer in self._open():
            connected.append(PluginInstance(index=peer.index, name=peer.name))
            if not peer.wants(_EVENTS[method]):
                continue
            with self._answering(peer, method):
                message = collected.request_for_next()
                response = self._request(peer, method, message, response_type)
                if isinstance(request, CreateContainerRequest):
                    parts = capabilities.drop_unknown(response.adjust, self.runtime)
                    lost.extend(Lost(peer.title, loss, part) for loss, part in parts)
                collected.add(peer.title, response)
        return collected, lost, connected

    def _validate(self, collected: Merge, connected: list[PluginInstance]) -> None:
        """Ask all validators at once, as the reference does; raise Rejection with every reason."""
        peers = list(self._subscribed(Event.VALIDATE_CONTAINER_ADJUSTMENT))
        if not peers and self.rules is None:
            return
        built_in = [] if self.rules is None else [validators.BUILT_IN]
        request = collected.validation([*built_in, *connected])
        asked = [self._begin(peer, "ValidateContainerAdjustment", request) for peer in peers]
        wait(*asked)
        reasons = validators.reasons(self.rules, request, asked)
        for peer in [peer for peer in peers if peer.lost]:
            self._drop(peer)
        if reasons:
            raise Rejection("; ".join(reasons))


def _method(event: int) -> str:
    return "".join(word.capitalize() for word in Event.Name(event).split("_"))


_EVENTS: Final = {
    _method(event): event
    for event in (Event.CREATE_CONTAINER, Event.UPDATE_CONTAINER, Event.STOP_CONTAINER)
}
_METHODS_OF_EVENTS: Final = {
    event: _method(event)
    for event in (
        *(Event.RUN_POD_SANDBOX, Event.STOP_POD_SANDBOX, Event.REMOVE_POD_SANDBOX),
        *(Event.POST_CREATE_CONTAINER, Event.START_CONTAINER, Event.POST_START_CONTAINER),
        *(Event.POST_UPDATE_CONTAINER, Event.REMOVE_CONTAINER, Event.POST_UPDATE_POD_SANDBOX),
    )
}
"""Number of each event that plugins are only told of -> the method of its own, since NRI 0.12.0."""

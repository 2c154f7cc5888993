"""The runtime's half of NRI: it asks the plugins, in order, and puts their answers together.

Which pods and containers exist is told by whoever embeds it: a runtime knows them already, and
two records of one truth drift apart. `nri_inject.runtime.world` is for those who have none.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from google.protobuf.message import Message

from nri_inject import api, runtimes
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
    ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
)
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.runtime import discovery
from nri_inject.runtime.discovery import Installed
from nri_inject.runtime.listener import listen
from nri_inject.runtime.merge import Collected, Merged, Request
from nri_inject.runtime.peer import (
    Peer,
    Pending,
    Response,
    Timeouts,
    Updater,
    expire,
    launch_as,
    process_of,
    wait,
)
from nri_inject.runtime.pending import Existing, PendingPlugin, finish, handshake
from nri_inject.runtime.validate import Rejection, Rules, validate
from nri_inject.runtimes import NEWEST, Loss, Runtime
from nri_inject.wire.ttrpc import Code

log = logging.getLogger(__name__)

DEFAULT_VALIDATOR: Final = PluginInstance(index="00", name="default-validator")
"""How the built-in validator appears among the plugins that validators are told of."""

_MAX_PENDING: Final = 64
"""How many connections may wait for their registration at once; further ones wait in the socket."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A part of a plugin's adjustment that this runtime does not know and drops in silence."""

    plugin: str
    loss: Loss
    part: Adjustment


@dataclass(frozen=True, slots=True)
class Created:
    """What the plugins made of one container: the merged answers, who set what, what got lost."""

    merged: Merged
    owners: OwningPlugins
    lost: tuple[Lost, ...] = ()


class Adaptation:
    """A runtime's plugins, in the order of their indexes.

    A plugin whose connection ends, that answers late or that breaks the protocol is dropped,
    and the request goes on without it, as in the reference. `dropped` says which and why.

    `runtime` is the runtime to be: what it tells, asks and drops follows from its version of
    NRI. `existing` gives what plugins are told when they join, `update` makes the updates that
    they ask for by themselves and returns those that failed; it may not ask plugins anything.
    `rules` are those of the default validator, None where it is off.

    Every request raises RemoteError with a plugin's own text; plugins after it are not asked.
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
        self._peers: list[Peer] = []
        self._pending: list[PendingPlugin] = []
        self._listener: socket.socket | None = None
        self._socket_path = Path()

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
                with _noting(faults):
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
        """Attend to what plugins do by themselves, for so long: connect, ask for updates, end.

        With 0 it does what there is to do and returns; every request begins with that.
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

    def tell(self, event: Event, pod: Pod, container: Container | None = None) -> None:
        """Tell of one of the nine events that are answered with nothing but leave.

        Runtimes before NRI 0.12.0 tell them by StateChange, later ones only plugins that do not
        know the call of its own. A container goes with the events of containers.
        """
        with self._requesting():
            for peer in self._subscribed(event):
                with self._dropping(peer):
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
                with self._dropping(peer):
                    self._request(peer, "UpdatePodSandbox", request, UpdatePodSandboxResponse)

    def create_container(self, pod: Pod, container: Container) -> Created:
        """Ask every plugin about a container that is to be created, then the validators.

        Raises RemoteError with a plugin's own text, Conflict where two plugins want one field,
        and Rejection with the validators' reasons: each fails the container.
        """
        with self._requesting():
            collected, lost = self._collect(CreateContainerRequest(pod=pod, container=container))
            self._validate(collected)
        return Created(collected.result(), collected.owners, tuple(lost))

    def update_container(self, pod: Pod, container: Container, resources: LinuxResources) -> Merged:
        """Ask every plugin about new resources of a container; Conflict as at creation."""
        request = UpdateContainerRequest(pod=pod, container=container, linux_resources=resources)
        with self._requesting():
            return self._collect(request)[0].result()

    def stop_container(self, pod: Pod, container: Container) -> Merged:
        """Tell every plugin that a container has stopped, and collect updates of others."""
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
        """Wait for whatever comes first, and do what is to be done at once."""
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
        """Do what there is to do before a request, and keep updates out of it until its end.

        Who is being synchronized must not miss it. An update may be of the very container that
        is being created.
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
        log.info("process %d connects as a plugin", process_of(connection))
        strict = self.runtime.nri >= (0, 12, 0)
        self._pending.append(self._connected(Peer(connection, checks_name=strict)))

    def _advance(self, plugin: PendingPlugin) -> None:
        """Take the next step of a handshake; after the last one the plugin joins."""
        try:
            if plugin.advance():
                return
        except NriError as error:
            log.warning("a plugin could not join: %s", error)
            plugin.peer.close()
        else:
            self._join(plugin)
        self._pending.remove(plugin)

    def _subscribed(self, event: int) -> Iterable[Peer]:
        return [peer for peer in self._peers if peer.wants(event)]

    @contextlib.contextmanager
    def _dropping(self, peer: Peer) -> Generator[None, None, None]:
        """Drop the plugin if it is lost meanwhile, and go on without it."""
        try:
            yield
        except ConnectionLost:
            self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        log.warning("%s; it is dropped", peer.lost)
        self.dropped.append(str(peer.lost))
        self._peers.remove(peer)
        peer.close()

    def _request(
        self, peer: Peer, method: str, message: Message, response_type: type[Response]
    ) -> Response:
        return peer.request(method, message, response_type, self.timeouts.request)

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
        method = _TOLD[event]
        request: Message = getattr(api, f"{method}Request")(pod=pod)
        if container is not None:
            request.container.CopyFrom(container)  # type: ignore[attr-defined]  # by its event
        self._request(peer, method, request, getattr(api, f"{method}Response"))

    def _collect(self, request: Request) -> tuple[Collected, list[Lost]]:
        """Ask the subscribed plugins one after the other, each with what those before it did."""
        method = type(request).__name__.removesuffix("Request")
        response_type = getattr(api, f"{method}Response")
        collected = Collected(request, self.runtime.nri)
        lost: list[Lost] = []
        for peer in self._subscribed(_EVENTS[method]):
            with self._dropping(peer):
                message = collected.request_for_next()
                response = self._request(peer, method, message, response_type)
                if isinstance(request, CreateContainerRequest):
                    parts = runtimes.drop_unknown(response.adjust, self.runtime)
                    lost.extend(Lost(peer.title, loss, part) for loss, part in parts)
                collected.take(peer.title, response)
        return collected, lost

    def _validate(self, collected: Collected) -> None:
        """Ask all validators at once, as the reference does; raise Rejection with every reason."""
        validators = list(self._subscribed(Event.VALIDATE_CONTAINER_ADJUSTMENT))
        if not validators and self.rules is None:
            return
        request = collected.validation(self._consulted())
        asked = [
            peer.begin("ValidateContainerAdjustment", request, self.timeouts.request)
            for peer in validators
        ]
        wait(*asked)
        reasons = [
            *_reasons_of_rules(self.rules, request),
            *(reason for pending in asked if (reason := _reason(pending))),
        ]
        for peer in [peer for peer in validators if peer.lost]:
            self._drop(peer)
        if reasons:
            raise Rejection("; ".join(reasons))

    def _consulted(self) -> list[PluginInstance]:
        built_in = [] if self.rules is None else [DEFAULT_VALIDATOR]
        return [*built_in, *(PluginInstance(index=p.index, name=p.name) for p in self._peers)]


@contextlib.contextmanager
def _noting(faults: list[str]) -> Generator[None, None, None]:
    """Add the sentence of an error to those that there are, and go on."""
    try:
        yield
    except NriError as error:
        faults.append(str(error))


def _reasons_of_rules(
    rules: Rules | None, request: ValidateContainerAdjustmentRequest
) -> list[str]:
    try:
        if rules is not None:
            validate(rules, request)
    except Rejection as rejection:
        return [_rejected(f"{DEFAULT_VALIDATOR.index}-{DEFAULT_VALIDATOR.name}", str(rejection))]
    return []


def _reason(pending: Pending) -> str:
    """Return why a validator is against the container: any error is a reason, too."""
    title = pending.peer.title
    try:
        verdict = pending.result(ValidateContainerAdjustmentResponse)
    except NriError as error:
        return f'validator "{title}" failed: {error.reason}'
    if not verdict.reject:
        return ""
    return _rejected(title, verdict.reason or "unknown rejection reason")


def _rejected(title: str, reason: str) -> str:
    return f'validator "{title}" rejected container adjustment, reason: {reason}'


def _method(event: int) -> str:
    return "".join(word.capitalize() for word in Event.Name(event).split("_"))


_EVENTS: Final = {
    _method(event): event
    for event in (Event.CREATE_CONTAINER, Event.UPDATE_CONTAINER, Event.STOP_CONTAINER)
}
_TOLD: Final = {
    event: _method(event)
    for event in (
        *(Event.RUN_POD_SANDBOX, Event.STOP_POD_SANDBOX, Event.REMOVE_POD_SANDBOX),
        *(Event.POST_CREATE_CONTAINER, Event.START_CONTAINER, Event.POST_START_CONTAINER),
        *(Event.POST_UPDATE_CONTAINER, Event.REMOVE_CONTAINER, Event.POST_UPDATE_POD_SANDBOX),
    )
}
"""Number of each event that plugins are only told of -> the method of its own, since NRI 0.12.0."""

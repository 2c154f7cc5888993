"""A wrapper of any service: status, systemd notification, metrics, and missed containers.

It stands between a service and its stub and changes no answer; it counts them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from nri_inject import capabilities
from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    Container,
    CreateContainerResponse,
    Pod,
)
from nri_inject.errors import RequestError
from nri_inject.plugin import Plugin, Updates
from nri_inject.service.base import Service
from nri_inject.service.health import status
from nri_inject.service.health.life import Life
from nri_inject.service.health.missed import DriftCheck
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import MAX_TEXT, document, shortened
from nri_inject.service.health.systemd import Watchdog, notify, watchdog_pause
from nri_inject.service.logs import one_line
from nri_inject.stub import Stub

log = logging.getLogger(__name__)


@runtime_checkable
class Expecting(Protocol):
    """A service that can compute the adjustment that a container should have got."""

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        """Return it, without a word in the log; raises NriError where it cannot be had."""


@runtime_checkable
class Reloading(Protocol):
    """A service whose configuration can change while it runs."""

    config_error: str
    """Why the newest version of its configuration file is not in force; empty if it is."""


@runtime_checkable
class Noting(Protocol):
    """A service that knows what it cannot see of the node."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the node's admin."""


@runtime_checkable
class Remembering(Protocol):
    """A service that cannot learn again from the runtime what a worker before it has learned."""

    def remember(self, notes: Notes, *, resumes: bool) -> None:
        """Note what the next worker needs; one that `resumes` begins with what is noted."""


class _HeldWatch(Protocol):
    """A watch of the stub's loop that holds something to be given back."""

    def fileno(self) -> int: ...

    def ready(self) -> None: ...

    def close(self) -> None: ...


P = TypeVar("P", bound=_HeldWatch)


class Supervisor:
    """A service that reports its status. `close` it when its stub has ended."""

    def __init__(
        self, service: Service, *, metrics_address: str = "", life: Life | None = None
    ) -> None:
        self._life = life or Life()
        self._service = service
        self._inner = service.plugin
        self._metrics_address = metrics_address
        self._stub: Stub | None = None
        self._parts = ExitStack()
        self._comparison: DriftCheck | None = None
        self.state: Final = self._life.state(self._inner.index, self._inner.name)
        self.plugin: Final = self._observed(self._inner)

    def attach(self, stub: Stub) -> None:
        """Attach the service, and open what watches over it."""
        self._stub = stub
        self._service.attach(stub)
        if isinstance(self._service, Remembering) and self._life.notes is not None:
            self._service.remember(self._life.notes, resumes=self._life.resumes)
        if isinstance(self._service, Expecting):
            self._comparison = self._watch(DriftCheck(self.state, self._service.expected))
            self._comparison.on_progress = partial(self._life.keep_found, self.state)
        self._life.restore(self.state)
        pause = watchdog_pause()
        if pause is not None:
            self._watch(Watchdog(pause))
        if where := status.directory():
            self._open_status(where)
        if self._metrics_address:
            from nri_inject.service.health import metrics

            self._watch(metrics.Endpoint(self._metrics_address, self.document, stub))

    def close(self) -> None:
        """Say good-bye, and give everything back."""
        if os.getpid() == self.state.pid:  # a worker may end while its parent goes on
            notify("STOPPING=1")
        self._parts.close()
        self._service.close()

    def document(self) -> dict[str, Any]:
        """Return what `nri-inject status` shows."""
        if isinstance(self._service, Reloading):
            self.state.config_error = self._service.config_error
        if isinstance(self._service, Noting):
            self.state.notes = self._service.notes
        if self._stub is None:
            return document(self.state, "disconnected", launched=False)
        return document(self.state, self._stub.phase, launched=self._stub.launched)

    def _observed(self, plugin: Plugin) -> Plugin:
        """Return a plugin whose handlers also count their calls."""
        takes_whole = plugin.synchronize is not None and plugin.synchronize_part is None
        created = plugin.create_container
        removed = plugin.remove_container
        return dataclasses.replace(
            plugin,
            configure=self._configure,
            synchronize=self._synchronize,
            synchronize_part=None if takes_whole else self._synchronize_part,
            create_container=created and self._counting(created),
            remove_container=self._remove_container if created or removed else None,
        )

    def _watch(self, part: P) -> P:
        self._parts.callback(part.close)
        if self._stub is not None:
            self._stub.watch(part)
        return part

    def _open_status(self, where: str) -> None:
        try:
            self._watch(status.StatusSocket(where, self.state.title, self.document, self.state.pid))
        except OSError as error:
            log.info("no status socket in %s: %s", where, error.strerror)

    def _configure(self, request: ConfigureRequest) -> Plugin | None:
        chosen = None
        if self._service.plugin.configure is not None:
            chosen = self._service.plugin.configure(request)
        self._inner = chosen or self._service.plugin
        if self._comparison is not None and not self._life.resumes:
            self._comparison.restart()
        runtime = capabilities.of_request(request)
        self.state.runtime = f"{runtime.name} {runtime.version}".strip()
        policy = self._inner.failure_policy
        if policy is None or not policy.fail_request:
            self.state.no_answer = "passes"
        else:
            keeps = capabilities.keeps_failure_policy(runtime)
            self.state.no_answer = "fails" if keeps else "ignored"
        self.state.configured = time.time()
        return None if chosen is None else self._observed(chosen)

    def _synchronize_part(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        if self._inner.synchronize_part is not None:
            self._inner.synchronize_part(pods, containers)
        if self._comparison is not None:
            self._comparison.add(pods, containers)

    def _synchronize(self, pods: Sequence[Pod], containers: Sequence[Container]) -> Updates:
        updates = None
        if not self._life.resumes:
            updates = self._told(pods, containers)
        # systemd reads a line as an assignment, and a datagram has a bound.
        runtime = one_line(shortened(self.state.runtime, MAX_TEXT))
        notify(f"READY=1\nSTATUS=synchronized with {runtime}")
        return updates

    def _told(self, pods: Sequence[Pod], containers: Sequence[Container]) -> Updates:
        """Take what exists, or the rest of it; one that resumes is told of nothing."""
        updates = None
        if self._inner.synchronize is not None:
            updates = self._inner.synchronize(pods, containers)
        if self._comparison is not None:
            self._comparison.add(pods, containers)  # none where they came in parts
            self._comparison.begin()
        self.state.synchronized = time.time()
        self._life.keep_found(self.state)
        return updates

    def _counting(
        self, create: Callable[[Pod, Container], Adjustment | CreateContainerResponse | None]
    ) -> Callable[[Pod, Container], Adjustment | CreateContainerResponse | None]:
        state, keep_counts = self.state, self._life.keep_counts

        def create_container(
            pod: Pod, container: Container
        ) -> Adjustment | CreateContainerResponse | None:
            state.asked += 1
            try:
                result = create(pod, container)
            except Exception as error:
                state.failed += 1
                state.denied += isinstance(error, RequestError) and error.denied
                raise
            else:
                state.changed += result is not None and result.ByteSize() > 0
                return result
            finally:
                keep_counts(state)

        return create_container

    def _remove_container(self, pod: Pod, container: Container) -> None:
        if self.state.missed.pop(container.id, None) is not None:
            self._life.keep_found(self.state)
        if self._comparison is not None:
            self._comparison.forget(container.id)
        if self._inner.remove_container is not None:
            self._inner.remove_container(pod, container)

"""A wrapper of any service: status, systemd notification, metrics, and missed containers.

It stands between a service and its stub and changes no answer; it counts them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from nri_inject import capabilities
from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    Container,
    CreateContainerResponse,
    Pod,
)
from nri_inject.errors import ConfigError, RequestError
from nri_inject.host.follow import FollowedFile
from nri_inject.plugin import Plugin, Updates
from nri_inject.service.base import Service
from nri_inject.service.config import Config
from nri_inject.service.config_file import ConfigFile
from nri_inject.service.health import mark, metrics, status
from nri_inject.service.health.http_server import HttpServer, Page, Pages
from nri_inject.service.health.life import Life
from nri_inject.service.health.missed import DriftCheck, Expected, lighten, shown
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.restart import Restarting, RestartQueue
from nri_inject.service.health.restart_record import STATE_VARIABLE
from nri_inject.service.health.stale import Following, StaleCheck
from nri_inject.service.health.state import MAX_TEXT, document, in_words, shortened, unready
from nri_inject.service.health.systemd import Watchdog, notify, watchdog_pause
from nri_inject.service.logs import one_line
from nri_inject.stub import Stub
from nri_inject.stub.loop import W
from nri_inject.text.annotations import where

if TYPE_CHECKING:  # at run time a plugin without a policy has no use for that room
    from nri_inject.policy.rules import Decision
    from nri_inject.policy.source import Standing

log = logging.getLogger(__name__)


MAX_ASKED: Final = 10_000
"""How many containers are remembered between their creation and their start."""


@runtime_checkable
class Judging(Protocol):
    """A service with a policy, and with a view of the node."""

    @property
    def notes(self) -> Sequence[str]:
        """What the service cannot see of the node, in sentences for its admin."""

    @property
    def policy_standing(self) -> Standing | None:
        """Which version of the policy file is in force; None without such a file."""

    @property
    def policy_generation(self) -> int:
        """How many versions of the policy file have been in force."""

    @property
    def files_in_error(self) -> Mapping[str, int]:
        """How many files have a newest version that is not in use, by the field that has them."""

    def on_policy(self, changed: Callable[[], None]) -> None:
        """Call when another policy is in force."""

    def on_decisions(self, made: Callable[[Sequence[Decision]], None]) -> None:
        """Call with the decisions about each container."""


@runtime_checkable
class Remembering(Protocol):
    """A service that cannot learn again from the runtime what a worker before it has learned."""

    def remember(self, notes: Notes, *, resumes: bool) -> None:
        """Note what the next worker needs; one that `resumes` begins with what is noted."""


class Supervisor:
    """A service that reports its status. `close` it when its stub has ended."""

    def __init__(
        self,
        service: Service,
        *,
        config_file: ConfigFile | None = None,
        life: Life | None = None,
    ) -> None:
        self._life = life or Life()
        self._service = service
        self._inner = service.plugin
        self._config_file = config_file
        self._configured = None if config_file is None else config_file.current()
        self._is_dropped_in = False
        self._stub: Stub | None = None
        self._parts = ExitStack()
        self._comparison: DriftCheck | None = None
        self._restarts: RestartQueue | None = None
        self._stale: StaleCheck | None = None
        self._asked: dict[str, None] = {}
        self.state: Final = self._life.state(self._inner.index, self._inner.name)
        self.plugin: Final = self._observed(self._inner)

    def attach(self, stub: Stub) -> None:
        """Attach the service, and open what watches over it."""
        self._stub = stub
        self._service.attach(stub)
        if self._config_file is not None:
            self._config_file.on_change = self._follow
            self._watch(self._config_file)
        if isinstance(self._service, Remembering) and self._life.notes is not None:
            self._service.remember(self._life.notes, resumes=self._life.resumes)
        if isinstance(self._service, Expected):
            self._comparison = self._watch(DriftCheck(self.state, self._service))
            self._comparison.on_progress = partial(self._life.keep_found, self.state)
            if isinstance(self._service, Judging):
                self._service.on_policy(self._comparison.compare_again)
        if isinstance(self._service, Judging):
            self._service.on_decisions(self.state.counters.add_decisions)
        self._life.restore(self.state)
        if self._comparison is not None and isinstance(self._service, Following):
            self._follow_devices(self._comparison, self._service)
        self._open_reports()
        if self._comparison is not None and isinstance(self._service, Restarting):
            directory = os.environ.get(STATE_VARIABLE) or status.directory()
            record = f"{directory}/{self.state.title}.restarts" if directory else ""
            self._restarts = self._watch(RestartQueue(self.state, self._service, record))
            self._restarts.on_progress = self._keep_all
            self._comparison.on_missed = self._restart_missed

    def _open_reports(self) -> None:
        """Report to systemd, at the status socket and at the HTTP address."""
        pause = watchdog_pause()
        if pause is not None:
            self._watch(Watchdog(pause))
        directory = status.directory()
        if directory:
            self._open_status(directory)
        if self._life.listener is not None:
            self._watch(HttpServer(self._life.listener.socket, self._pages))

    def reconfigure(self, configured: Config) -> None:
        """Put a configuration in force that no runtime has asked for; ConfigError if it is bad."""
        self._service.reconfigure(configured)

    def close(self) -> None:
        """Say good-bye, and give everything back."""
        if os.getpid() == self.state.pid:  # a worker may end while its parent goes on
            notify("STOPPING=1")
        self._parts.close()
        self._service.close()

    def document(self) -> dict[str, Any]:
        """Return what `nri-inject status` shows."""
        if isinstance(self._service, Judging):
            self.state.policy = self._service.policy_standing
            self.state.policy_generation = self._service.policy_generation
            in_error = {"config": int(bool(self.state.config_error))}
            self.state.files_in_error = in_error | dict(self._service.files_in_error)
            self.state.notes = self._service.notes
        if self._life.notes is not None:
            self.state.upgrades, self.state.upgrade_error = self._life.upgrades()
        if self._stub is None:
            return document(self.state, "disconnected", launched=False)
        return document(self.state, self._stub.phase, launched=self._stub.launched)

    @property
    def _pages(self) -> Pages:
        return {
            "/livez": lambda: Page(200, "ok\n"),
            "/readyz": self._readiness,
            "/metrics": lambda: metrics.page(self.document(), self.state),
        }

    def _readiness(self) -> Page:
        reasons = unready(self.document())
        lines = "".join(f"{one_line(reason)}\n" for reason in reasons)
        return Page(503, lines) if reasons else Page(200, "ok\n")

    def _observed(self, plugin: Plugin) -> Plugin:
        """Return a plugin whose handlers also count their calls."""
        takes_whole = plugin.synchronize is not None and plugin.synchronize_part is None
        created = plugin.create_container
        removed = plugin.remove_container
        expecting = isinstance(self._service, Expected)
        return dataclasses.replace(
            plugin,
            configure=self._configure,
            synchronize=self._synchronize,
            synchronize_part=None if takes_whole else self._synchronize_part,
            create_container=created and self._counting(created),
            start_container=self._start_container if expecting else plugin.start_container,
            post_start_container=self._post_start_container
            if self._restarts_started
            else plugin.post_start_container,
            stop_container=self._stop_container
            if isinstance(self._service, Following)
            else plugin.stop_container,
            remove_container=self._remove_container if created or removed else None,
        )

    def _watch(self, part: W) -> W:
        self._parts.callback(part.close)
        if self._stub is not None:
            self._stub.watch(part)
        return part

    def _follow_devices(self, comparison: DriftCheck, service: Following) -> None:
        self._stale = self._watch(StaleCheck(self.state, service, self._life.notes))
        self._stale.on_progress = partial(self._life.keep_found, self.state)
        self._stale.on_stale = self._restart_stale
        comparison.on_served = self._stale.add
        if self._life.resumes:
            self._stale.inherit()

    def _open_status(self, where: str) -> None:
        try:
            self._watch(status.StatusSocket(where, self.state.title, self.document, self.state.pid))
        except OSError as error:
            log.info("no status socket in %s: %s", where, error.strerror)

    def _follow(self, file: FollowedFile[Config]) -> None:
        """Put a new version of the configuration file in force; a bad one changes nothing."""
        error = file.sentence
        is_new = file.counts is not self._configured and not error
        try:
            if is_new and file.counts is not None:
                self._configured = file.counts
                if not self._is_dropped_in:
                    self._service.reconfigure(file.counts)
        except ConfigError as refused:
            error = str(refused)
        if error:
            if error != self.state.config_error and file.trouble != "half written":
                log.error("%s; the previous configuration stays in force", error)
        elif is_new:
            wins = (
                "; the runtime's drop-in file wins" if self._is_dropped_in else " and is in force"
            )
            log.info("%s has changed%s", file.path, wins)
        self.state.config_error = error

    def _configure(self, request: ConfigureRequest) -> Plugin | None:
        chosen = None
        if self._is_dropped_in and not request.config and self._configured is not None:
            self._service.reconfigure(self._configured)
        self._is_dropped_in = bool(request.config)
        if self._service.plugin.configure is not None:
            chosen = self._service.plugin.configure(request)
        self._inner = chosen or self._service.plugin
        if self._comparison is not None and not self._life.resumes:
            self._comparison.restart()
            for part in (self._restarts, self._stale):
                if part is not None:
                    part.restart()
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
            updates = self._take_existing(pods, containers)
        # systemd reads a line as an assignment, and a datagram has a bound.
        runtime = one_line(shortened(self.state.runtime, MAX_TEXT))
        notify(f"READY=1\nSTATUS=synchronized with {runtime}")
        return updates

    def _take_existing(self, pods: Sequence[Pod], containers: Sequence[Container]) -> Updates:
        """Take what exists, or the rest of it; one that resumes is told of nothing."""
        updates = None
        if self._inner.synchronize is not None:
            updates = self._inner.synchronize(pods, containers)
        if self._comparison is not None:
            self._comparison.add(pods, containers)  # none where they came in parts
            self._comparison.begin()
        self.state.synchronized = time.time()
        self.state.counters.add("connections")
        self._life.keep_found(self.state)
        return updates

    def _counting(
        self, create: Callable[[Pod, Container], Adjustment | CreateContainerResponse | None]
    ) -> Callable[[Pod, Container], Adjustment | CreateContainerResponse | None]:
        state = self.state

        def create_container(
            pod: Pod, container: Container
        ) -> Adjustment | CreateContainerResponse | None:
            state.asked += 1
            began = time.monotonic()
            try:
                result = create(pod, container)
            except Exception as error:
                denied = isinstance(error, RequestError) and error.denied
                self._when_delivered(partial(self._count_failed, began, denied))
                raise
            finally:
                self._life.keep_counts(state)
            changes = result is not None and result.ByteSize() > 0
            if isinstance(result, Adjustment) and mark.is_alone(result):
                changes = False
            self._note_asked(container.id)
            given = result if changes and isinstance(result, Adjustment) else None
            self._when_delivered(partial(self._count_served, began, container.id, changes, given))
            return result

        return create_container

    def _when_delivered(self, count: Callable[[bool], None]) -> None:
        if self._stub is None:
            count(True)
        else:
            self._stub.after_delivery(count)

    def _count_failed(self, began: float, denied: bool, in_time: bool) -> None:
        self.state.counters.observe(time.monotonic() - began)
        if in_time:
            self.state.failed += 1
            self.state.denied += denied
        else:
            self.state.late += 1
        self._life.keep_counts(self.state)

    def _count_served(
        self,
        began: float,
        container_id: str,
        changes: bool,
        given: Adjustment | None,
        in_time: bool,
    ) -> None:
        counters = self.state.counters
        counters.observe(time.monotonic() - began)
        if in_time:
            self.state.changed += changes
            if given is not None:
                counters.add_injected(given)
            if not changes:
                counters.add("unchanged")
        else:
            self.state.late += 1
            self._asked.pop(container_id, None)
        self._life.keep_counts(self.state)

    def _note_asked(self, container_id: str) -> None:
        self._asked[container_id] = None
        if len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]

    def _start_container(self, pod: Pod, container: Container) -> None:
        """Report a container that starts and was missed; refuse it if no answer is to fail it.

        Its creation may have been under way when the plugin registered: containerd before 2.0 does
        not report it then.
        """
        was_asked = self._asked.pop(container.id, self) is None
        if self._comparison is not None and not was_asked:
            missed = self._comparison.judge(pod, container, now=time.time())
            if self._is_found(container.id):
                self._life.keep_found(self.state)
            policy = self._inner.failure_policy
            if missed is not None and policy is not None and policy.fail_request:
                fault = f"{in_words(missed._asdict())}; it was created without the plugin"
                raise RequestError([fault], where=where(pod, container))
        if self._stale is not None:
            self._stale.add(pod, container)
        if self._inner.start_container is not None:
            self._inner.start_container(pod, container)

    @property
    def _restarts_started(self) -> bool:
        """Whether a container may be restarted that was found missed when it started."""
        policy = self._inner.failure_policy
        passes = policy is None or not policy.fail_request
        return passes and isinstance(self._service, Restarting) and self._service.has_restarts

    def _post_start_container(self, pod: Pod, container: Container) -> None:
        """Restart a container that was found missed at its start; before, nothing could stop it."""
        if self._inner.post_start_container is not None:
            self._inner.post_start_container(pod, container)
        one = self.state.missed.get(container.id)
        if one is not None and not one.refused and not one.restart:
            lighten(container)
            self._restart_missed(pod, container, in_words(one._asdict()))

    def _restart_missed(self, pod: Pod, container: Container, why: str) -> None:
        if self._restarts is None or not isinstance(self._service, Restarting):
            return
        if self._service.restarts_missed(pod, container):
            self._restarts.ask(pod, container, "missed", why, self._why_missed)

    def _why_missed(self, pod: Pod, container: Container) -> str:
        """Return why a missed container is to be restarted now, empty if it is not."""
        if self._comparison is None or not isinstance(self._service, Restarting):
            return ""
        if not self._service.restarts_missed(pod, container):
            return ""
        return self._comparison.why_missed(pod, container)

    def _restart_stale(self, pod: Pod, container: Container) -> None:
        why = self._why_stale(pod, container)
        if why and self._restarts is not None:
            self._restarts.ask(pod, container, "stale", why, self._why_stale)

    def _why_stale(self, pod: Pod, container: Container) -> str:
        """Return why a stale container is to be restarted now, empty if it is not."""
        if self._stale is None or not isinstance(self._service, Restarting):
            return ""
        changed = self._stale.renumbered(pod, container)
        if not changed or not self._service.restarts_stale(pod, container, changed):
            return ""
        return ", ".join(shown([*changed.values()]))

    def _keep_all(self) -> None:
        self._life.keep_counts(self.state)
        self._life.keep_found(self.state)

    def _is_found(self, container_id: str) -> bool:
        return container_id in self.state.missed or container_id in self.state.drifted

    def _stop_container(self, pod: Pod, container: Container) -> Updates:
        if self._stale is not None:
            self._stale.forget(container.id)
        if self._inner.stop_container is None:
            return None
        return self._inner.stop_container(pod, container)

    def _remove_container(self, pod: Pod, container: Container) -> None:
        self._asked.pop(container.id, None)
        was_found = self._is_found(container.id)
        if self._comparison is not None:
            self._comparison.forget(container.id)
        for part in (self._restarts, self._stale):
            if part is not None:
                part.forget(container.id)
        if was_found:
            self._life.keep_found(self.state)
        if self._inner.remove_container is not None:
            self._inner.remove_container(pod, container)

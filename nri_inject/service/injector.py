"""From an injector to a service: the handlers of its plugin.

A single plugin has one part, the suite has several: the same functions, composed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from google.protobuf.message import Message

from nri_inject import capabilities
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.errors import NriError
from nri_inject.host.devices import presence
from nri_inject.host.model import Number
from nri_inject.injectors import keys
from nri_inject.plugin import Plugin
from nri_inject.policy.audit import AuditOutcome
from nri_inject.policy.permit import Permit, subject_of
from nri_inject.policy.rules import Decision, Item
from nri_inject.service.base import Options, Service
from nri_inject.service.config import Config, RestartConfig
from nri_inject.service.environment import ConfiguredService, InjectorSpec
from nri_inject.service.health import mark
from nri_inject.service.health.restart import RestartReport
from nri_inject.text.annotations import container_name, where
from nri_inject.text.words import plain

log = logging.getLogger(__name__)


# What the log has been told of; after so many others one may be told of again.
_MAX_TOLD: Final = 1024

NO_RESTARTS: Final = (
    "on_change: restart has no effect on this node: the configuration only reports a container"
    " whose device has changed; `stale: requested` in it restarts such a container"
)
"""Warns of a request that the configuration does not allow."""


def service_of(*parts: InjectorSpec) -> Callable[[Options, Config], Service]:
    """Return how to make the service of a plugin that injects what all of its parts want."""
    return partial(InjectorService, parts)


class InjectorService(ConfiguredService):
    """The service of one or several injectors."""

    def __init__(self, parts: Sequence[InjectorSpec], options: Options, configured: Config) -> None:
        super().__init__(parts, options, configured)
        self._told: dict[str, None] = {}
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            create_container=self.create_container,
        )

    def configure(self, request: ConfigureRequest) -> Plugin:
        """Configure, and return the plugin with the failure policy of the configuration."""
        self._environment.configure(request)
        policy = self._environment.config.failure_policy
        return dataclasses.replace(self.plugin, failure_policy=policy)

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        """Return the adjustment that a container should get now; RequestError if that fails."""
        environment = self._environment
        adjustment = environment.injector(pod, container, environment.host(pod, container))
        capabilities.drop_unknown(adjustment, environment.runtime)  # no container has it there
        return adjustment

    def gone(self, numbers: Collection[Number]) -> Collection[Number]:
        """Return the numbers that the host has no device for."""
        return presence.gone(numbers, self._environment.config.host_root)

    def registration(self, number: Number) -> int:
        """Return what the kernel's entry of a number is known by, 0 if there is none."""
        return presence.registration(number, self._environment.config.host_root)

    def hook_changed(self, program: str) -> float:
        """Return when the files of the hooks with this program changed last, 0.0 if never."""
        files = {hook.file for hook in self._environment.hooks() if hook.path == program}
        return max(map(changed_at, files), default=0.0)

    @property
    def restart_config(self) -> RestartConfig:
        """How containers are restarted."""
        return self._environment.config.restart

    @property
    def has_restarts(self) -> bool:
        """Whether some missed container may be restarted."""
        return self._environment.config.has_restarts

    def restarts_missed(self, pod: Pod, container: Container) -> bool:
        """Tell whether this container is to be restarted if it was missed."""
        environment = self._environment
        return environment.config.restarts_missed(subject_of(pod, container, environment.title))

    def restarts_stale(self, pod: Pod, container: Container, changed: Collection[str]) -> bool:
        """Tell whether a container is to be restarted whose devices at these paths have changed."""
        environment = self._environment
        action = environment.config.stale_action(subject_of(pod, container, environment.title))
        if action != "requested":
            return action == "restart"
        requested: set[str] = set()
        try:
            host = environment.host(pod, container, on_change=requested.add)
            environment.injector(pod, container, host)
        except NriError:  # a container that is created now would be refused
            return False
        return not requested.isdisjoint(changed)

    def record_restart(self, pod: Pod, container: Container, report: RestartReport) -> None:
        """Write to the audit what became of a restart."""
        stopped = report.outcome == "stopped"
        item = Item("restart", container.id, report.cause, (), None, resolved=report.why)
        decision = Decision(item, "allow" if stopped else "deny", None, report.reason)
        outcome: AuditOutcome = "stopped" if stopped else "not restarted"
        environment = self._environment
        environment.record_decisions([decision], pod, container, outcome, environment.title)

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject what is allowed, and log what was injected or what is going to be dropped.

        A container that gets or requests something also gets the mark of the plugin; of others
        there is nothing to remember.
        """
        environment = self._environment
        warnings: list[str] = []
        requested: list[str] = []
        host = environment.host(pod, container, warnings.append, requested.append)
        record = partial(self._record, pod, container, host.permit, warnings)
        environment.after(partial(self._tell, pod, container))
        try:
            adjustment = environment.injector(pod, container, host)
        except BaseException:
            environment.delivered(partial(record, None))
            raise
        if requested and self._only_reports(pod, container):
            warnings.append(NO_RESTARTS)
        unsupported_in = capabilities.unsupported_in(adjustment, environment.runtime)
        warnings += [capabilities.sentence(loss, environment.runtime) for loss in unsupported_in]
        capabilities.drop_what_crashes(adjustment, environment.runtime)
        environment.delivered(partial(record, summary(adjustment)))
        if adjustment.ByteSize() or warnings or (host.permit and host.permit.decisions):
            mark.put(adjustment, container, environment.options.name, self.registration)
        return adjustment if adjustment.ByteSize() else None

    def _only_reports(self, pod: Pod, container: Container) -> bool:
        subject = subject_of(pod, container, self._environment.title)
        return self._environment.config.stale_action(subject) == "report"

    def _record(
        self,
        pod: Pod,
        container: Container,
        permit: Permit | None,
        warnings: Sequence[str],
        given: str | None,
        in_time: bool,
    ) -> None:
        """Log and audit one request; `given` is a summary, None if the container has failed."""
        for sentence in warnings:
            log.warning("%s: %s", where(pod, container), sentence)
        if permit is not None:
            outcome: AuditOutcome = "failed" if given is None else "injected"
            self._environment.record(permit, pod, container, outcome if in_time else "too late")
        if given and in_time:
            log.info("%s: injected %s", where(pod, container), given)
        elif given:
            log.warning(
                "%s: too late: the runtime no longer waited for the answer with %s",
                where(pod, container),
                given,
            )

    def _tell(self, pod: Pod, container: Container) -> None:
        """Log what of a pod's annotations nobody reads, each once; a pod is known by its id."""
        if not keys.concern(pod.annotations):
            return
        adopted = self._environment.config.annotations.adopted
        unread = keys.unread(pod.annotations, adopted) if self._is_new(pod.id) else []
        found = [one for one in unread if one.level != "fault"]  # the container's error has those
        name = container_name(container)
        found += (
            one
            for one in keys.for_a_container_like(pod.annotations, name)
            if self._is_new(f"{pod.id} {one.key}")
        )
        for one in found:
            log.warning("pod %s/%s: %s", plain(pod.namespace), plain(pod.name), one)

    def _is_new(self, name: str) -> bool:
        """Tell whether the log has not been told of this lately."""
        if name in self._told:
            return False
        if len(self._told) >= _MAX_TOLD:
            del self._told[next(iter(self._told))]
        self._told[name] = None
        return True


def changed_at(file: str) -> float:
    """Return when a file was changed or put into its place, 0.0 if it is gone."""
    try:
        return os.stat(file).st_ctime
    except OSError:
        return 0.0


def summary(adjustment: Adjustment) -> str:
    """Count what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (1 if isinstance(value, Message) else len(value), descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

"""From an injector to a service: the handlers of its plugin.

A single plugin has one part, the suite has several: the same functions, composed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from google.protobuf.message import Message

from nri_inject import capabilities
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.plugin import Plugin
from nri_inject.policy.audit import AuditOutcome
from nri_inject.policy.permit import Permit
from nri_inject.service.base import Options, Service
from nri_inject.service.config import Config
from nri_inject.service.environment import ConfiguredService, InjectorSpec
from nri_inject.text.annotations import where

log = logging.getLogger(__name__)


def service_of(*parts: InjectorSpec) -> Callable[[Options, Config], Service]:
    """Return how to make the service of a plugin that injects what all of its parts want."""
    return partial(InjectorService, parts)


class InjectorService(ConfiguredService):
    """The service of one or several injectors."""

    def __init__(self, parts: Sequence[InjectorSpec], options: Options, configured: Config) -> None:
        super().__init__(parts, options, configured)
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
        return environment.injector(pod, container, environment.host(pod, container))

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject what is allowed, and log what was injected or what is going to be dropped."""
        environment = self._environment
        warn = partial(self._warn, pod, container)
        host = environment.host(pod, container, warn)
        adjustment: Adjustment | None = None
        try:
            adjustment = environment.injector(pod, container, host)
            for loss in capabilities.unsupported_in(adjustment, environment.runtime):
                warn(capabilities.sentence(loss, environment.runtime))
            capabilities.drop_what_crashes(adjustment, environment.runtime)
        finally:
            environment.after(partial(self._record, pod, container, host.permit, adjustment))
        return adjustment if adjustment.ByteSize() else None

    def _record(
        self, pod: Pod, container: Container, permit: Permit | None, adjustment: Adjustment | None
    ) -> None:
        """Log and audit one request; without an adjustment the container has failed."""
        if permit is not None:
            outcome: AuditOutcome = "failed" if adjustment is None else "injected"
            self._environment.record(permit, pod, container, outcome)
        if adjustment is not None and adjustment.ByteSize():
            log.info("%s: injected %s", where(pod, container), summary(adjustment))

    def _warn(self, pod: Pod, container: Container, sentence: str) -> None:
        told = partial(log.warning, "%s: %s", where(pod, container), sentence)
        self._environment.after(told)


def summary(adjustment: Adjustment) -> str:
    """Count what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (1 if isinstance(value, Message) else len(value), descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

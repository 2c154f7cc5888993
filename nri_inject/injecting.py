"""From an injector to a service: the handlers of its plugin, and the host that it sees.

A single plugin has one part, the suite has several: the same functions, composed.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from nri_inject import audit, config, runtimes
from nri_inject.adjust import Injector, compose
from nri_inject.annotations import where
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.audit import AuditLog, Outcome
from nri_inject.command import Options, Service, with_policy
from nri_inject.config import Config
from nri_inject.host import Host, real_host
from nri_inject.plugin import Plugin
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy
from nri_inject.policy.source import DENY_ALL, PolicyFile
from nri_inject.runtimes import NEWEST, Runtime
from nri_inject.stub import Stub

log = logging.getLogger(__name__)


class Source(Protocol):
    """Something of the host that is read from files and kept current."""

    def current(self) -> Any:
        """Return what the files say now; cheap when nothing has changed, and never raises."""

    def fileno(self) -> int:
        """Return a descriptor that can be read when the files may have changed."""

    def ready(self) -> None:
        """Read what has changed, so that no container has to wait for it."""

    def close(self) -> None:
        """Give the descriptor back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """An injector, and what it is made of.

    `build` makes the injector for a configuration and a runtime; it raises ConfigError if the
    two do not go together. `sources` are what the injector finds in the host, by field of Host.
    """

    build: Callable[[Config, Runtime], Injector]
    sources: Mapping[str, Callable[[Options, Config], Source]] = field(default_factory=dict)


def service_of(*parts: Part) -> Callable[[Options, Config], Service]:
    """Return how to make the service of a plugin that injects what all of its parts want."""
    return partial(Injecting, parts)


class Injecting:
    """The service of one or several injectors, and what it knows of runtime and host."""

    def __init__(self, parts: Sequence[Part], options: Options, configured: Config) -> None:
        self._parts = parts
        self._options = options
        self._config = configured
        self._stub: Stub | None = None
        self._runtime = NEWEST
        self._inject = compose(*(part.build(configured, NEWEST) for part in parts))
        self._host = real_host()
        self._sources: dict[str, Source] = {}
        self._policy: Source | None = None
        self._audit: AuditLog | None = None
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            create_container=self.create_container,
        )

    def attach(self, stub: Stub) -> None:
        """Watch the sources with this stub."""
        self._stub = stub

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is."""
        if request.config:
            self._config = with_policy(
                config.read(request.config, "drop-in configuration"), self._options.policy
            )
        self._runtime = runtimes.of_request(request)
        self._inject = compose(*(part.build(self._config, self._runtime) for part in self._parts))
        lenient = self._config.on_unsupported == "warn"
        self._host = real_host(NEWEST if lenient else self._runtime)
        self._open_sources()
        self._open_audit()

    def _open_audit(self) -> None:
        if self._audit is not None:
            self._audit.close()
        audit = self._config.audit
        if audit == "off":
            self._audit = None
        else:
            self._audit = AuditLog(audit.path if isinstance(audit, config.File) else None)

    def _open_sources(self) -> None:
        """Open what the host's files are read by, anew: the configuration may be another."""
        for source in self._watched():
            if self._stub is not None:
                self._stub.unwatch(source)
            source.close()
        self._sources = {
            name: make(self._options, self._config)
            for part in self._parts
            for name, make in part.sources.items()
        }
        self._policy = policy_source(self._config, self._options)
        for source in self._watched():
            source.current()
            if self._stub is not None:
                self._stub.watch(source)

    def _watched(self) -> list[Source]:
        policy = [] if self._policy is None else [self._policy]
        return [source for source in (*policy, *self._sources.values()) if source.fileno() >= 0]

    def _current_host(self) -> Host:
        """Return the host with what its files say at this moment."""
        if not self._sources:
            return self._host
        current = {name: source.current() for name, source in self._sources.items()}
        return dataclasses.replace(self._host, **current)

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject what is allowed, and log what was injected or what is going to be dropped."""
        if self._policy is None:
            return self._injected(pod, container, self._current_host())
        permit = Permit(self._policy.current(), pod, container, self._title)
        host = dataclasses.replace(self._current_host(), permit=permit)
        outcome: Outcome = "failed"
        try:
            adjustment = self._injected(pod, container, host)
            outcome = "injected"
            return adjustment
        finally:
            self._record(permit, pod, container, outcome)

    def _injected(self, pod: Pod, container: Container, host: Host) -> Adjustment | None:
        adjustment = self._inject(pod, container, host)
        if not adjustment.ByteSize():
            return None
        for loss in runtimes.lost(adjustment, self._runtime):
            log.warning("%s: %s", where(pod, container), runtimes.sentence(loss, self._runtime))
        if log.isEnabledFor(logging.INFO):
            log.info("%s: injected %s", where(pod, container), summary(adjustment))
        return adjustment

    def _record(self, permit: Permit, pod: Pod, container: Container, outcome: Outcome) -> None:
        """Write down what was decided; what passed only since nothing is enforced yet, is told."""
        for decision in permit.decisions:
            if decision.verdict in ("skip", "warn"):
                what = "left out" if decision.verdict == "skip" else "would be denied"
                sentence = permit.sentence(decision)
                log.warning("%s: %s: %s", where(pod, container), what, sentence)
        if self._audit is not None and permit.decisions:
            self._audit.write(
                audit.lines(
                    permit.decisions,
                    pod,
                    container,
                    plugin=self._title,
                    outcome=outcome,
                    now=time.time(),
                )
            )

    @property
    def _title(self) -> str:
        return f"{self._options.idx}-{self._options.name}"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A policy that no file holds, so that it cannot change."""

    policy: Policy

    def current(self) -> Policy:
        """Return it."""
        return self.policy

    def fileno(self) -> int:
        """Return that there is no descriptor to wait for."""
        return -1

    def ready(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Need nothing."""


def policy_source(configured: Config, options: Options) -> Source | None:
    """Return where the policy comes from, None for the unrestricted one; log what is unusual."""
    policy = configured.policy
    if policy == config.UNRESTRICTED:
        log.warning("policy: unrestricted: every pod gets what its annotations ask for")
        return None
    if isinstance(policy, config.File):
        return PolicyFile(policy.path, unsafe=options.unsafe_files or configured.unsafe_files)
    if policy is None:
        log.warning(
            "no policy is configured, so nothing that needs one is allowed;"
            " write one (policy: {file: PATH}), or policy: %s to allow everything",
            config.UNRESTRICTED,
        )
    return Fixed(policy or DENY_ALL)


def summary(adjustment: Adjustment) -> str:
    """Say in a few words what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (len(value) if hasattr(value, "__len__") else 1, descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

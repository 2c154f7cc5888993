"""What a service knows of its node: configuration, runtime, files, policy, and the audit.

All of it is read anew when a runtime configures us, and what stands in files whenever they change.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nri_inject import audit, config, runtimes
from nri_inject.adjust import Injector, compose
from nri_inject.annotations import where
from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.audit import AuditLog, Outcome
from nri_inject.command import Options, with_policy
from nri_inject.config import Config
from nri_inject.host import Host, Remembered, real_host
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


class Surroundings:
    """The node as it is now, for what some parts inject.

    `injector` is theirs, composed. `runtime` is who applies the adjustment.
    """

    def __init__(self, parts: Sequence[Part], options: Options, configured: Config) -> None:
        self.config = configured
        self.options = options
        self.runtime = NEWEST
        self._parts = parts
        self.injector = self._built()
        self._stub: Stub | None = None
        self._host = real_host()
        self._sources: dict[str, Source] = {}
        self._policy: Source | None = None
        self._audit: AuditLog | None = None

    @property
    def title(self) -> str:
        """What runtimes call the plugin, as in `10-device-injector`."""
        return f"{self.options.idx}-{self.options.name}"

    def attach(self, stub: Stub) -> None:
        """Watch the files with this stub."""
        self._stub = stub

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is.

        ConfigError if it is wrong, or does not go together with the runtime.
        """
        if request.config:
            self.config = with_policy(
                config.read(request.config, "drop-in configuration"), self.options.policy
            )
        self.runtime = runtimes.of_request(request)
        self.injector = self._built()
        lenient = self.config.on_unsupported == "warn"
        self._host = real_host(NEWEST if lenient else self.runtime)
        self._open_sources()
        self._open_audit()

    def host(self, permit: Permit | None = None) -> Host:
        """Return the host for one request, with what its files say at this moment."""
        host = self._host
        current = {name: source.current() for name, source in self._sources.items()}
        return dataclasses.replace(
            host,
            devices=Remembered(host.devices),
            numbers=Remembered(host.numbers),
            files=Remembered(host.files),
            permit=permit,
            **current,
        )

    def policy(self) -> Policy | None:
        """Return the policy of this moment, None for the unrestricted one."""
        return None if self._policy is None else self._policy.current()

    def record(self, permit: Permit, pod: Pod, container: Container, outcome: Outcome) -> None:
        """Write down what was decided; what passed only since nothing is enforced yet, is told."""
        for decision in permit.decisions:
            if decision.verdict in ("skip", "warn"):
                what = "left out" if decision.verdict == "skip" else "would be denied"
                log.warning("%s: %s: %s", where(pod, container), what, permit.sentence(decision))
        if self._audit is not None and permit.decisions:
            lines = audit.lines(
                permit.decisions,
                pod,
                container,
                plugin=permit.plugin,
                outcome=outcome,
                now=time.time(),
            )
            self._audit.write(lines)

    def close(self) -> None:
        """Stop watching, and close the audit."""
        self._close_sources()
        if self._audit is not None:
            self._audit.close()

    def _built(self) -> Injector:
        return compose(*(part.build(self.config, self.runtime) for part in self._parts))

    def _open_audit(self) -> None:
        if self._audit is not None:
            self._audit.close()
        wanted = self.config.audit
        self._audit = None
        if wanted != "off":
            self._audit = AuditLog(wanted.path if isinstance(wanted, config.File) else None)

    def _open_sources(self) -> None:
        """Open what the host's files are read by, anew: the configuration may be another."""
        self._close_sources()
        self._sources = {
            name: make(self.options, self.config)
            for part in self._parts
            for name, make in part.sources.items()
        }
        self._policy = policy_source(self.config, self.options)
        for source in self._watched():
            source.current()
            if self._stub is not None:
                self._stub.watch(source)

    def _close_sources(self) -> None:
        for source in self._watched():
            if self._stub is not None:
                self._stub.unwatch(source)
            source.close()

    def _watched(self) -> list[Source]:
        policy = [] if self._policy is None else [self._policy]
        return [source for source in (*policy, *self._sources.values()) if source.fileno() >= 0]


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

"""The environment of a service: configuration, runtime, files, policy, and the audit.

All of it is read again when a runtime configures the plugin, and files are read again when they
change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, Protocol

from nri_inject import capabilities
from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.hooks.definition import Definition
from nri_inject.host import sight
from nri_inject.host.devices.links import DATABASE, LinkedNumbers, first_link, has_database
from nri_inject.host.model import DeviceNode, HostPath, Number
from nri_inject.host.nodes import Remembered
from nri_inject.host.views import Views
from nri_inject.injectors.compose import Injector, compose
from nri_inject.injectors.giving import Give, giving, read_gifts
from nri_inject.injectors.host import Host, ignore_warning, real_host
from nri_inject.policy.audit import AuditLog, AuditOutcome
from nri_inject.policy.kept import LastGoodPolicy
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Decision, Policy
from nri_inject.policy.source import DENY_ALL, PolicyFile, Standing, check_lent
from nri_inject.service import config, logs
from nri_inject.service.base import Options, with_options
from nri_inject.service.config import Config
from nri_inject.service.health.notes import Notes
from nri_inject.stub import Stub
from nri_inject.stub.loop import ClosableWatch
from nri_inject.text.annotations import where
from nri_inject.text.budget import Budget, Counted
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

# Lines for one container: a pod's author must not fill the log.
_MAX_LINES: Final = 32

_GENERATION: Final = "policy generation"
_POLICY: Final = "policy"  # the note of the text that is in force, after the path of its file


class Source(ClosableWatch, Protocol):
    """Something of the host that is read from files and kept current."""

    def current(self) -> Any:
        """Return the current content of the files; cheap if nothing changed, and never raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InjectorSpec:
    """An injector, and what it is made of.

    `build` makes the injector for a configuration and a runtime; it raises ConfigError if the
    two do not go together. `sources` are what the injector finds in the host, by field of Host.
    `givers` give what rules of the policy give, by kind.
    """

    build: Callable[[Config, Runtime], Injector]
    sources: Mapping[str, Callable[[Options, Config], Source]] = field(default_factory=dict)
    givers: Callable[[Config, Runtime], Mapping[str, Give]] = lambda _config, _runtime: {}


class Environment:
    """The node as it is now, for what some parts inject.

    `injector` is theirs, composed. `runtime` is who applies the adjustment. `notes` say what the
    plugin cannot see of the node.
    """

    def __init__(self, parts: Sequence[InjectorSpec], options: Options, configured: Config) -> None:
        self.config = configured
        self.options = options
        self.runtime = NEWEST
        self._parts = parts
        self._build(configured)
        self._stub: Stub | None = None
        self._host = real_host()
        self._sources: dict[str, Source] = {}
        self._policy: PolicyFile | Policy | None = None
        self._policy_made_of: tuple[object, ...] = ()
        self._memory: Notes | None = None
        self.policy_generation = 0
        self.on_policy: Callable[[], None] = _nothing
        self.on_decisions: Callable[[Sequence[Decision]], None] = _nothing
        self._audit: AuditLog | None = None
        self._dropped_in = False
        self._noted: Policy | None = None
        self.notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What runtimes call the plugin, as in `10-device-injector`."""
        return f"{self.options.idx}-{self.options.name}"

    def attach(self, stub: Stub) -> None:
        """Watch the files with this stub."""
        self._stub = stub

    def remember(self, notes: Notes) -> None:
        """Keep there what a worker after this one cannot learn from the node's files."""
        self._memory = notes
        self.policy_generation = int(notes.get(_GENERATION) or 0)

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is.

        ConfigError if it is wrong, or does not go together with the runtime.
        """
        configured = self.config
        self._dropped_in = bool(request.config)
        if self._dropped_in:
            configured = with_options(
                config.read(request.config, "drop-in configuration"), self.options
            )
        self.runtime = capabilities.of_request(request)
        self.reconfigure(configured)

    def reconfigure(self, configured: Config) -> None:
        """Put a configuration in force; ConfigError, and the one before stays, if it can't be."""
        if isinstance(configured.policy, Policy) and not configured.unsafe_files:
            check_lent(configured.policy, self._configurations(), configured.host_root)
        self._build(configured)
        self.config = configured
        logs.send_to(configured.log_target)
        lenient = configured.on_unsupported == "warn"
        self._host = real_host(NEWEST if lenient else self.runtime, configured.host_root)
        self._open_sources()
        self._open_policy()
        self._open_audit()
        self._note(self.policy())

    def _note(self, policy: Policy | None) -> None:
        """Find out what the plugin cannot see that this policy needs, and log what is new."""
        self._noted = policy
        root, before = self.config.host_root, self.notes
        unseen = sight.current().note(root)
        warnings = [*_warnings(policy, root)]
        self.notes = [*warnings, *([unseen] if unseen else [])]
        for note in self.notes:
            if note not in before:
                log.log(logging.WARNING if note in warnings else logging.INFO, "%s", note)

    def host(
        self,
        pod: Pod,
        container: Container,
        warn: Callable[[str], object] = ignore_warning,
        on_change: Callable[[str], object] = ignore_warning,
    ) -> Host:
        """Return the host for one request, with its files as they are now.

        Its permit is what the policy grants the container. Its budget bounds all that is done for
        the request with this host and this permit.
        """
        host = self._host
        budget = Budget(partial(where, pod, container))
        policy = self.policy()
        if policy is not self._noted:
            self.after(partial(self._note, policy))
        permit = None if policy is None else Permit(policy, pod, container, self.title, budget)
        return Host(
            Remembered(Counted(host.devices, budget, _steps_of_path, _steps_of_device)),
            host.runtime,
            numbers=Remembered(
                LinkedNumbers(
                    Counted(host.numbers, budget, _steps_of_number),
                    host.devices,
                    self.config.host_root,
                )
            ),
            files=Remembered(Counted(host.files, budget, _steps_of_path, _steps_of_source)),
            permit=permit,
            budget=budget,
            views=cache(partial(_views_of, host, budget)),
            warn=warn,
            on_change=on_change,
            **{name: source.current() for name, source in self._sources.items()},
        )

    def policy(self) -> Policy | None:
        """Return the policy of this moment, None for the unrestricted one."""
        policy = self._policy
        return policy.current() if isinstance(policy, PolicyFile) else policy

    def hooks(self) -> Sequence[Definition]:
        """Return the definitions of hooks that are in force, none for a plugin without hooks."""
        source = self._sources.get("hooks")
        return () if source is None else source.current()

    @property
    def policy_standing(self) -> Standing | None:
        """Which version of the policy file is in force; None without such a file."""
        return self._policy.standing if isinstance(self._policy, PolicyFile) else None

    @property
    def files_in_error(self) -> Mapping[str, int]:
        """How many files have a newest version that is not in use, by the field that has them."""
        standing = self.policy_standing
        errors = {name: getattr(source, "errors", None) for name, source in self._sources.items()}
        of_sources = {name: len(of) for name, of in errors.items() if of is not None}
        policy = {} if standing is None else {"policy": int(bool(standing.error))}
        return policy | of_sources

    def after(self, do: Callable[[], None]) -> None:
        """Run a function after the container's response has been sent, or now without a stub."""
        if self._stub is None:
            do()
        else:
            self._stub.after_response(do)

    def delivered(self, do: Callable[[bool], None]) -> None:
        """Do the same with whether the runtime has got the answer in time."""
        if self._stub is None:
            do(True)
        else:
            self._stub.after_delivery(do)

    def record(self, permit: Permit, pod: Pod, container: Container, outcome: AuditOutcome) -> None:
        """Write the decisions to the audit; warn of items skipped or to be denied."""
        self.on_decisions(permit.decisions)
        passed = [d for d in permit.decisions if d.verdict in ("skip", "warn")]
        for decision in passed[:_MAX_LINES]:
            what = "left out" if decision.verdict == "skip" else "would be denied"
            log.warning("%s: %s: %s", where(pod, container), what, permit.sentence(decision))
        if len(passed) > _MAX_LINES:
            log.warning("%s: and %d more", where(pod, container), len(passed) - _MAX_LINES)
        self.record_decisions(permit.decisions, pod, container, outcome, permit.plugin)

    def record_decisions(
        self,
        decisions: Sequence[Decision],
        pod: Pod,
        container: Container,
        outcome: AuditOutcome,
        plugin: str,
    ) -> None:
        """Write decisions to the audit; `plugin` is the one that they are about."""
        if self._audit is not None and decisions:
            self._audit.record(decisions, pod, container, plugin=plugin, outcome=outcome)

    def close(self) -> None:
        """Stop watching, and close the audit; the stub has ended."""
        self._stub = None
        self._close_sources()
        if isinstance(self._policy, PolicyFile):
            self._close(self._policy)
        if self._audit is not None:
            self._audit.close()

    def _build(self, configured: Config) -> None:
        injector = compose(*(part.build(configured, self.runtime) for part in self._parts))
        givers = [part.givers(configured, self.runtime) for part in self._parts]
        self.injector = giving(
            injector, {kind: give for each in givers for kind, give in each.items()}
        )

    def _open_audit(self) -> None:
        if self._audit is not None:
            self._audit.close()
        wanted = self.config.audit
        self._audit = None
        if wanted != "off":
            self._audit = AuditLog(wanted.path if isinstance(wanted, config.NodeFile) else None)

    def _open_sources(self) -> None:
        """Open the sources of the host's files again, by the current configuration."""
        self._close_sources()
        self._sources = {
            name: make(self.options, self.config)
            for part in self._parts
            for name, make in part.sources.items()
        }
        for source in self._sources.values():
            self._open(source)

    def _open_policy(self) -> None:
        """Open where the policy comes from, unless that is the file that is open.

        What is known of the versions of that file must not be lost.
        """
        made_of = (
            *(self.config.policy, self.config.unsafe_files, self.config.host_root),
            *self._configurations(),
        )
        if isinstance(self._policy, PolicyFile) and made_of == self._policy_made_of:
            return
        before = self._policy
        self._policy, self._policy_made_of = self._policy_source(before), made_of
        if isinstance(before, PolicyFile):
            self._close(before)
        if isinstance(self._policy, PolicyFile):
            self._open(self._policy)

    def _policy_source(self, before: PolicyFile | Policy | None) -> PolicyFile | Policy | None:
        """Return where the policy comes from, None for the unrestricted one; log what is unusual.

        The policy of the source `before` stays in force until a file is good.
        """
        policy = self.config.policy
        good = before.good if isinstance(before, PolicyFile) else before
        good = None if good is DENY_ALL else good
        if policy == config.UNRESTRICTED:
            log.warning("policy: unrestricted: every pod gets what its annotations request")
            return None
        if isinstance(policy, config.PolicyPath):
            source = f"{os.path.abspath(policy.path)}\n".encode()
            return PolicyFile(
                policy.path,
                read_gifts,
                unsafe=self.config.unsafe_files,
                beside=self._configurations(),
                root=self.config.host_root,
                kept=LastGoodPolicy(os.path.abspath(policy.path))
                if policy.on_fault == "keep"
                else None,
                before=good,
                inherited=self._inherited(source),
                note=partial(self._keep_policy, source),
                on_change=lambda: self.on_policy(),
                later=self.after,
            )
        if policy is None:
            log.warning(
                "no policy is configured, so every request that needs one is"
                " denied; set one (policy: {file: PATH}), or policy: %s to allow everything",
                config.UNRESTRICTED,
            )
        return policy or DENY_ALL

    def _inherited(self, source: bytes) -> bytes:
        """Return the text of this file that was in force in the worker before, if any."""
        noted = (self._memory and self._memory.get(_POLICY)) or b""
        return noted.removeprefix(source) if noted.startswith(source) else b""

    def _keep_policy(self, source: bytes, text: bytes) -> None:
        """Keep the text that is in force, and count it unless the worker before has."""
        memory, version = self._memory, source + text
        if memory is not None and memory.get(_POLICY) == version:
            return
        self.policy_generation += 1
        if memory is not None:
            memory.put(_POLICY, version)
            memory.put(_GENERATION, b"%d" % self.policy_generation)

    def _open(self, source: Source) -> None:
        if source.fileno() >= 0:
            source.current()
            if self._stub is not None:
                self._stub.watch(source)

    def _close(self, source: Source) -> None:
        if source.fileno() >= 0:
            if self._stub is not None:
                self._stub.unwatch(source)
            source.close()

    def _configurations(self) -> list[str]:
        """Return the configuration file; a runtime does not say where its drop-in file is."""
        file = None if self._dropped_in else self.options.config
        return [] if file is None else [os.path.abspath(file)]  # links stay

    def _close_sources(self) -> None:
        for source in self._sources.values():
            self._close(source)


def _nothing(*_: object) -> None:
    """Do nothing: nobody asks."""


def _views_of(host: Host, budget: Budget) -> Views:
    """Look at the mounts, which takes a few microseconds for each."""
    views = host.views()
    budget.spend("looking at the mounts of the host", 3 * len(views))
    return views


def _steps_of_path(path: str) -> int:
    """Return what it costs to walk a path without links: some system calls for each part."""
    return 8 * (2 + path.count("/"))


def _steps_of_device(_: str, found: DeviceNode | None) -> int:
    """Return what links have cost beyond that; those in /dev are the host's own, and short."""
    return 40 if found is None else 40 * len(found.links)


def _steps_of_source(_: str, found: HostPath | None) -> int:
    """Return the same of a mount's source.

    Containers may write where sources lie, and plant links that make 256 parts of two.
    """
    return 600 if found is None else 40 * len(found.links)


def _steps_of_number(_: Number) -> int:
    """Return what it costs to find the names of a device's number: two small files."""
    return 30


def _warnings(policy: Policy | None, root: str) -> Iterator[str]:
    if policy is not None and not has_database(root):
        link = first_link(policy.texts("devices"), root)
        if link is not None:
            yield (
                f"no udev database in {DATABASE}, and rules of {policy.origin} name links,"
                f" such as {plain(link)}: the plugin resolves links in /dev itself; if"
                " the host has /run/udev, mount it read-only for the plugin"
            )


class ConfiguredService:
    """A service's use of its surroundings, the same for every service that has them."""

    def __init__(self, parts: Sequence[InjectorSpec], options: Options, configured: Config) -> None:
        self._environment = Environment(parts, options, configured)

    def attach(self, stub: Stub) -> None:
        """Watch the node's files with this stub."""
        self._environment.attach(stub)

    def reconfigure(self, configured: Config) -> None:
        """Use another configuration from now on; ConfigError, and the one before stays, if bad."""
        self._environment.reconfigure(configured)

    def remember(self, notes: Notes, *, resumes: bool) -> None:  # noqa: ARG002 - as others need it
        """Take over the policy of the worker before, and note it for the next one."""
        self._environment.remember(notes)

    def close(self) -> None:
        """Stop watching them."""
        self._environment.close()

    @property
    def notes(self) -> Sequence[str]:
        """What the plugin cannot see of the node, in sentences."""
        return self._environment.notes

    @property
    def policy_standing(self) -> Standing | None:
        """Which version of the policy file is in force; None without such a file."""
        return self._environment.policy_standing

    @property
    def policy_generation(self) -> int:
        """How many versions of the policy file have been in force."""
        return self._environment.policy_generation

    @property
    def files_in_error(self) -> Mapping[str, int]:
        """How many files have a newest version that is not in use, by the field that has them."""
        return self._environment.files_in_error

    def on_policy(self, changed: Callable[[], None]) -> None:
        """Call when another policy is in force."""
        self._environment.on_policy = changed

    def on_decisions(self, made: Callable[[Sequence[Decision]], None]) -> None:
        """Call with the decisions about each container."""
        self._environment.on_decisions = made

"""From an injector to a command: the same options, launch, configuration and log for each.

A runtime launches a plugin without arguments and with three variables in its environment. That
way in needs no option parser, so none is imported for it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Protocol

from nri_inject import config, logs, runtimes, stub
from nri_inject.adjust import Injector
from nri_inject.annotations import where
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.config import Config
from nri_inject.errors import NriError
from nri_inject.host import Host, HostDevices
from nri_inject.plugin import Plugin
from nri_inject.runtimes import NEWEST, Runtime
from nri_inject.stub import Stub

log = logging.getLogger(__name__)

FAILED: Final = 1
MISUSED: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line and the environment say."""

    idx: str
    name: str
    socket_path: str = stub.DEFAULT_SOCKET
    config: str | None = None
    policy: str | None = None
    cdi_dir: tuple[str, ...] = ()
    hooks_dir: tuple[str, ...] = ()
    unsafe_files: bool = False
    log_format: logs.LogFormat = "text"
    verbosity: int = logs.USUAL


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
class Command:
    """A plugin command: its injector, and what it is called unless somebody says otherwise.

    `configured` makes the injector where it depends on the configuration. `sources` are what
    the injector finds in the host, by field of Host.
    """

    name: str
    idx: str
    injector: Injector
    help: str
    example: str
    configured: Callable[[Config, Runtime], Injector] | None = None
    sources: Mapping[str, Callable[[Options, Config], Source]] = field(default_factory=dict)

    def __call__(self) -> None:
        """Be the program: the entry point of the console script."""
        sys.exit(main(self, sys.argv, os.environ))


def main(command: Command, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command with the process's arguments; return its exit status."""
    idx, name = identity(command, argv[0], environ)
    if len(argv) > 1:
        from nri_inject import options

        return options.parse_and_run(command, argv[1:], Options(idx=idx, name=name))
    return run(command, Options(idx=idx, name=name))


def identity(command: Command, program: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return index and name: from the environment, the file name `NN-name`, or the command.

    Each counts by itself, in this order; a runtime sets both variables (NRI, pkg/stub).
    """
    idx, name = command.idx, command.name
    number, dash, base = PurePath(program).name.partition("-")
    if dash and base and len(number) == 2 and number.isascii() and number.isdigit():
        idx, name = number, base
    return environ.get("NRI_PLUGIN_IDX") or idx, environ.get("NRI_PLUGIN_NAME") or name


def run(command: Command, options: Options) -> int:
    """Serve until the runtime or a signal ends it; return the exit status."""
    logs.configure(options.log_format, options.verbosity)
    try:
        injecting = _Injecting(command, options, _configured(options))
        plugin = Plugin(
            name=options.name,
            index=options.idx,
            configure=injecting.configure,
            create_container=injecting.create_container,
        )
    except (NriError, ValueError) as error:
        log.error("%s", error)
        return MISUSED
    try:
        connection = stub.launched_connection(os.environ)
        injecting.stub = Stub(plugin, connection=connection, socket_path=options.socket_path)
        injecting.stub.run()
    except NriError as error:
        log.error("%s", error)
        return FAILED
    return 0


def _configured(options: Options) -> Config:
    configured = Config() if options.config is None else config.read_file(options.config)
    return _with_policy(configured, options.policy)


def _with_policy(configured: Config, policy: str | None) -> Config:
    """Let the command line's word on the policy count before the configuration's."""
    if policy is None:
        return configured
    return dataclasses.replace(
        configured, policy=config.checked({"policy": policy}, "--policy").policy
    )


@dataclass(slots=True)
class _Injecting:
    """The handlers of an injector's plugin, and what they know of runtime and host."""

    command: Command
    options: Options
    config: Config
    stub: Stub | None = None
    runtime: Runtime = NEWEST
    injector: Injector = field(init=False)
    host: Host = field(default_factory=lambda: Host(devices=HostDevices()))
    sources: dict[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with the injector of the command."""
        self.injector = self.command.injector

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is."""
        if request.config:
            self.config = _with_policy(
                config.read(request.config, "drop-in configuration"), self.options.policy
            )
        self.runtime = runtimes.of_request(request)
        if self.command.configured is not None:
            self.injector = self.command.configured(self.config, self.runtime)
        lenient = self.config.on_unsupported == "warn"
        self.host = Host(devices=HostDevices(), runtime=NEWEST if lenient else self.runtime)
        self._open_sources()
        if self.config.policy == config.UNRESTRICTED:
            log.warning("policy: unrestricted: every pod gets what its annotations ask for")
        else:
            log.warning(
                "no policy: every pod gets what its annotations ask for, as with the policy"
                " %r; say so in the configuration to make it your choice",
                config.UNRESTRICTED,
            )

    def _open_sources(self) -> None:
        """Open what the host's files are read by, anew: the configuration may be another."""
        for source in self.sources.values():
            if self.stub is not None:
                self.stub.unwatch(source)
            source.close()
        self.sources = {
            name: make(self.options, self.config) for name, make in self.command.sources.items()
        }
        for source in self.sources.values():
            source.current()
            if self.stub is not None:
                self.stub.watch(source)

    def _current_host(self) -> Host:
        """Return the host with what its files say at this moment."""
        if not self.sources:
            return self.host
        current = {name: source.current() for name, source in self.sources.items()}
        return dataclasses.replace(self.host, **current)

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject, and log what was injected or what the runtime is going to drop."""
        adjustment = self.injector(pod, container, self._current_host())
        if not adjustment.ByteSize():
            return None
        for loss in runtimes.lost(adjustment, self.runtime):
            log.warning("%s: %s", where(pod, container), runtimes.sentence(loss, self.runtime))
        if log.isEnabledFor(logging.INFO):
            log.info("%s: injected %s", where(pod, container), summary(adjustment))
        return adjustment


def summary(adjustment: Adjustment) -> str:
    """Say in a few words what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (len(value) if hasattr(value, "__len__") else 1, descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

"""From an injector to a command: the same options, launch, configuration and log for each.

A runtime launches a plugin without arguments and with three variables in its environment. That
way in needs no option parser, so none is imported for it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from nri_inject import config, logs, runtimes, stub
from nri_inject.adjust import Injector
from nri_inject.annotations import where
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.config import Config
from nri_inject.errors import NriError
from nri_inject.host import Host, HostDevices
from nri_inject.plugin import Plugin
from nri_inject.runtimes import NEWEST, Runtime

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
    log_format: logs.LogFormat = "text"
    verbosity: int = logs.USUAL


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A plugin command: its injector, and what it is called unless somebody says otherwise."""

    name: str
    idx: str
    injector: Injector
    help: str
    example: str

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
        injecting = _Injecting(command.injector, _configured(options), options.policy)
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
        stub.serve(plugin, socket_path=options.socket_path)
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

    injector: Injector
    config: Config
    policy: str | None = None
    runtime: Runtime = NEWEST
    host: Host = field(default_factory=lambda: Host(devices=HostDevices()))

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is."""
        if request.config:
            self.config = _with_policy(
                config.read(request.config, "drop-in configuration"), self.policy
            )
        self.runtime = runtimes.identify(
            request.runtime_name, request.runtime_version, request.NRI_version
        )
        lenient = self.config.on_unsupported == "warn"
        self.host = Host(devices=HostDevices(), runtime=NEWEST if lenient else self.runtime)
        if self.config.policy == config.UNRESTRICTED:
            log.warning("policy: unrestricted: every pod gets what its annotations ask for")
        else:
            log.warning(
                "no policy: every pod gets what its annotations ask for, as with the policy"
                " %r; say so in the configuration to make it your choice",
                config.UNRESTRICTED,
            )

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject, and log what was injected or what the runtime is going to drop."""
        adjustment = self.injector(pod, container, self.host)
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

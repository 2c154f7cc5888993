"""From a plugin to a command: the same options, launch, configuration and log for each.

A runtime launches a plugin without arguments and with three variables in its environment. That
way in needs no option parser, so none is imported for it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from nri_inject import config, logs, stub
from nri_inject.config import Config
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.stub import Stub
from nri_inject.supervised import Supervised

log = logging.getLogger(__name__)

FAILED: Final = 1
MISUSED: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line and the environment say.

    `own` has the values of the options that only this command has, by their names.
    """

    idx: str
    name: str
    socket_path: str = stub.DEFAULT_SOCKET
    config: str | None = None
    policy: str | None = None
    cdi_dir: tuple[str, ...] = ()
    hooks_dir: tuple[str, ...] = ()
    unsafe_files: bool = False
    metrics_address: str = ""
    log_format: logs.LogFormat = "text"
    verbosity: int = logs.USUAL
    own: Mapping[str, Any] = field(default_factory=dict)


class Service(Protocol):
    """What a command runs: a plugin, and what it does with its connection."""

    @property
    def plugin(self) -> Plugin:
        """The handlers, under the name and the index that the options tell."""

    def attach(self, stub: Stub) -> None:
        """Learn of the stub before it runs, to watch descriptors or to send updates."""

    def close(self) -> None:
        """Finish what is left to do when the stub has ended."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The service of a plugin that does nothing but answer."""

    plugin: Plugin

    def attach(self, stub: Stub) -> None:
        """Need nothing of the stub."""

    def close(self) -> None:
        """Have nothing left to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A plugin command, and what it is called unless somebody says otherwise.

    `service` makes what it runs; it raises ConfigError or ValueError for options that make no
    sense. `parameters` are the options that no other command has, as click's; it is called only
    when there are arguments, so that a launched plugin imports no parser.
    """

    name: str
    idx: str
    service: Callable[[Options, Config], Service]
    help: str
    example: str
    parameters: Callable[[], Sequence[Any]] = tuple

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
    number, dash, base = Path(program).name.partition("-")
    if dash and base and len(number) == 2 and number.isascii() and number.isdigit():
        idx, name = number, base
    return environ.get("NRI_PLUGIN_IDX") or idx, environ.get("NRI_PLUGIN_NAME") or name


def run(command: Command, options: Options) -> int:
    """Serve until the runtime or a signal ends it; return the exit status."""
    logs.configure(options.log_format, options.verbosity)
    try:
        configured = config_of(options)
        service = Supervised(
            command.service(options, configured),
            metrics_address=options.metrics_address or configured.metrics_address,
        )
    except (NriError, ValueError) as error:
        log.error("%s", error)
        return MISUSED
    try:
        connection = stub.launched_connection(os.environ)
        running = Stub(service.plugin, connection=connection, socket_path=options.socket_path)
        with closing(service):
            service.attach(running)
            running.run()
    except NriError as error:
        log.error("%s", error)
        return FAILED
    return 0


def config_of(options: Options) -> Config:
    """Return the configuration that the command line names, as its file is now; ConfigError."""
    configured = (
        Config()
        if options.config is None
        else config.read_file(options.config, unsafe=options.unsafe_files)
    )
    return with_options(configured, options)


def with_options(configured: Config, options: Options) -> Config:
    """Return a configuration in which the options of the command line count before it."""
    if options.unsafe_files:
        configured = dataclasses.replace(configured, unsafe_files=True)
    if options.policy is None:
        return configured
    return dataclasses.replace(configured, policy=config.policy_of(options.policy))

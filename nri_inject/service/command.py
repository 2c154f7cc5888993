"""A service as a program: the options, launch, configuration and log of each plugin command.

A runtime launches a plugin without arguments and with three variables in its environment. No
option parser is imported then.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nri_inject import stub
from nri_inject.errors import ConfigError, ConnectionLost, Faulty, NriError
from nri_inject.plugin import Plugin
from nri_inject.service import logs, rehearsal
from nri_inject.service.base import FAILED as FAILED
from nri_inject.service.base import FAULTY, LOST, Options, Service, status_outside, with_options
from nri_inject.service.base import MISUSED as MISUSED
from nri_inject.service.config import Config
from nri_inject.service.config_file import ConfigFile
from nri_inject.service.health.life import Life
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.service.parent import handover
from nri_inject.service.parent.process import Parent
from nri_inject.service.parent.trial import verdict
from nri_inject.stub import Stub
from nri_inject.text.names import split_plugin
from nri_inject.version import VERSION

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

_NO_DEADLINE: Final = stub.Limits(handshake_timeout=1e6)  # the parent has one


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A plugin command; `name` and `idx` are the defaults of the plugin's name and index.

    `service` makes the service; it raises ConfigError or ValueError for options that it cannot
    use. `parameters` returns the click options that no other command has; it is called only when
    there are arguments, so a launched plugin imports no parser. `connections` says how many the
    service has to a runtime that did not launch it.
    """

    name: str
    idx: str
    service: Callable[[Options, Config], Service]
    help: str
    example: str
    parameters: Callable[[], Sequence[Any]] = tuple
    connections: Callable[[Options, Config], int] = lambda _options, _configured: 1

    def __call__(self) -> None:
        """Be the program: the entry point of the console script."""
        sys.exit(main(self, sys.argv, os.environ))


def main(command: Command, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command with the process's arguments; return its exit status."""
    idx, name = identity(command, argv[0], environ)
    defaults = Options(idx=idx, name=name)
    if len(argv) == 1:
        return run(command, defaults)
    from nri_inject.service import options  # click, which a launched plugin does without

    return options.exit_status(parser(command, defaults), argv[1:])


def parser(command: Command, defaults: Options, name: str = "") -> click.Command:
    """Return the click command that parses arguments and runs `command`.

    `name` is that of a subcommand; without it the name of the program.
    """
    from nri_inject.service import options

    return options.parser(
        name or f"nri-{command.name}",
        run=partial(run, command),
        defaults=defaults,
        own=command.parameters(),
        help=command.help,
        epilog=f"Example: {command.example}",
    )


def identity(command: Command, program: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return index and name: from the environment, the file name `NN-name`, or the command.

    Each counts by itself, in this order; a runtime sets both variables (NRI, pkg/stub).
    """
    idx, name = split_plugin(Path(program).name)
    if not (idx and name):
        idx, name = command.idx, command.name
    return environ.get("NRI_PLUGIN_IDX") or idx, environ.get("NRI_PLUGIN_NAME") or name


def run(command: Command, options: Options) -> int:
    """Serve until the runtime or a signal ends it; return the exit status.

    A worker serves, and this process holds its connection; with `--no-worker` it serves itself.
    """
    if handover.TRIAL in os.environ:
        return rehearse(command, options)
    logs.configure(options.log_format, options.verbosity)
    title = f"{options.idx}-{options.name}"
    try:
        handed = handover.read(os.environ)
        relays = handed.restored(title) if handed else ()
        life = Life.restored(handed.life) if handed else Life(notes=Notes())
        file, configured = configuration_of(options)
        if file is not None:
            file.close()  # who serves follows it
        connection = stub.launched_connection(os.environ)
        count = 1 if connection else command.connections(options, configured)
        life.listen(options.http_address or configured.http_address)
    except NriError as error:
        log.error("%s", error)
        return FAILED if isinstance(error, ConnectionLost | Faulty) else MISUSED
    if not options.worker:
        running = partial(Stub, connection=connection, socket_path=options.socket_path)
        alone = Life(listener=life.listener)
        return status_outside(serve(command, options, running, alone))
    parent = Parent(
        Worker(command, options, connection is not None, life),
        title,
        given=connection,
        socket_path=options.socket_path,
        count=count,
        handed=handed,
        relays=relays,
        note_quiet=life.note_quiet,
    )
    return parent.run()


def rehearse(command: Command, options: Options) -> int:
    """Print whether this version could take over from the one that has started it."""
    logs.configure(options.log_format, verbosity=0)
    title = f"{options.idx}-{options.name}"
    try:
        handed = handover.read(os.environ)
        if handed is None:
            raise ConfigError("there is no state of another version")
        life = Life.restored(handed.life)
        relays = handed.restored(title)
        file, configured = configuration_of(options)
        life.listen(options.http_address or configured.http_address)
        if relays and not handed.is_launched:
            _check_count(command.connections(options, configured), len(relays))
        service = Supervisor(command.service(options, configured), config_file=file)
        fault = rehearsal.fault_of(service, configured, relays)
    except (NriError, ValueError) as error:
        fault = str(error)
    print(verdict(not fault, fault or VERSION), flush=True)  # noqa: T201 - the parent reads it
    return FAILED if fault else 0


def _check_count(wanted: int, there: int) -> None:
    if wanted != there:
        raise ConfigError(
            f"it needs {wanted} connections and there are {there}: restart the plugin"
        )


def configuration_of(options: Options) -> tuple[ConfigFile | None, Config]:
    """Return the configuration and its file, if it has one; send the log where it says."""
    file = ConfigFile(options.config, options) if options.config else None
    try:
        configured = file.current() if file else with_options(Config(), options)
    except ConfigError:
        if file is not None:  # the kernel takes its time for this, which a parent would wait for
            file.close()
        raise
    logs.send_to(configured.log_target)
    return file, configured


@dataclass(frozen=True, slots=True)
class Worker:
    """What each worker of a parent does: serve, with the life that all workers share."""

    command: Command
    options: Options
    is_launched: bool
    life: Life

    def __call__(self, held: Sequence[socket.socket], *, resumes: bool, failures: int) -> int:
        """Serve on connections that the parent holds; return the exit status."""
        self.life.resumes, self.life.failures = resumes, failures
        if self.life.notes is not None:
            self.life.notes.inherit()
        quiet_until = self.life.quiet_until
        running = partial(Stub, held=held, holder_quiet_until=quiet_until, limits=_NO_DEADLINE)
        if self.is_launched:
            running = partial(Stub, connection=held[0], holder_quiet_until=quiet_until)
        return serve(self.command, self.options, running, self.life)

    def saved(self) -> Mapping[str, Any]:
        """Return what workers share, as values of JSON."""
        return self.life.saved()

    def upgraded(self, fault: str) -> None:
        """Count an upgrade, and note why it failed, if it did."""
        self.life.upgraded(fault)


def serve(
    command: Command,
    options: Options,
    stub_of: Callable[[Plugin], Stub],
    life: Life | None = None,
) -> int:
    """Make the service and run it on a stub; return the exit status."""
    try:
        file, configured = configuration_of(options)
        service = Supervisor(
            command.service(options, configured),
            config_file=file,
            life=life,
        )
    except (NriError, ValueError) as error:
        log.error("%s", error)
        return FAULTY if isinstance(error, Faulty) else MISUSED
    try:
        running = stub_of(service.plugin)
        with closing(service):
            service.attach(running)
            running.run()
    except ConnectionLost as error:
        log.log(logging.ERROR if running.launched else logging.WARNING, "%s", error)
        return LOST
    except NriError as error:
        log.error("%s", error)
        return FAILED
    return 0

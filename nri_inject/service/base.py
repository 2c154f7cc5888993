"""The options that a plugin command starts with, and the service that it makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from nri_inject.plugin import Plugin
from nri_inject.service import config, logs
from nri_inject.service.config import Config
from nri_inject.stub import DEFAULT_SOCKET, Stub

FAILED: Final = 1
"""The exit status for what is denied or faulty; of a service, for a runtime that refuses it."""

MISUSED: Final = 2
"""The exit status for wrong usage: options, and files that cannot be read."""

STATUSES: Final[Mapping[int, str]] = {
    0: "Fine. Also for a list that has faulty files in it: `validate` judges those.",
    FAILED: "The thing that the command is about fails, is denied or is invalid: a container, a"
    " policy, a configuration, a CDI spec, a hook file, a device that does not exist, a node with"
    " a problem, a plugin that is not ready, a file that cannot be written.",
    MISUSED: "Wrong usage, and nothing was done: an unknown command, option or value, or a file"
    " that was named and cannot be read. A trial also ends with it if a plugin does not start.",
}
"""The exit statuses of all commands, for people."""

LOST: Final = 3
"""The exit status of a worker whose connection ended before the handshake was over."""

FAULTY: Final = 4
"""The exit status of a worker whose policy or configuration has a fault."""

CRASHED: Final = 70
"""The exit status of a worker with a bug (EX_SOFTWARE in <sysexits.h>)."""


def status_outside(status: int) -> int:
    """Return the exit status of the program for one that a worker or a service ended with."""
    return FAILED if status in (LOST, FAULTY) else status


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The values of the command line and the environment.

    `own` has the values of the options that only one command has, by their names.
    """

    idx: str
    name: str
    socket_path: str = DEFAULT_SOCKET
    config: str | None = None
    policy: str | None = None
    cdi_dir: tuple[str, ...] = ()
    hooks_dir: tuple[str, ...] = ()
    unsafe_files: bool = False
    http_address: str = ""
    log_format: logs.LogFormat = "text"
    verbosity: int = logs.USUAL
    worker: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)


def with_options(configured: Config, options: Options) -> Config:
    """Return a configuration with the values of the command line in place of its own."""
    if options.unsafe_files:
        configured = dataclasses.replace(configured, unsafe_files=True)
    if options.policy is None:
        return configured
    return dataclasses.replace(configured, policy=config.policy_of(options.policy))


class Service(Protocol):
    """A plugin, and its use of the connection."""

    @property
    def plugin(self) -> Plugin:
        """The handlers, under the name and the index of the options."""

    def attach(self, stub: Stub) -> None:
        """Use the stub before it runs, to watch descriptors or to send updates."""

    def reconfigure(self, configured: Config) -> None:
        """Use another configuration from now on; ConfigError, and the one before stays, if bad."""

    def close(self) -> None:
        """Release everything; called once the stub has ended."""

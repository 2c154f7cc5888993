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
"""The exit status of a service that the runtime refuses, or that loses its one connection."""

MISUSED: Final = 2
"""The exit status for options or a configuration that cannot be used."""

LOST: Final = 3
"""The exit status of a worker whose connection ended before the handshake was over."""

CRASHED: Final = 70
"""The exit status of a worker with a bug (EX_SOFTWARE in <sysexits.h>)."""


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
    metrics_address: str = ""
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

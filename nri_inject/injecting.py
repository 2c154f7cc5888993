"""From an injector to a service: the handlers of its plugin, and the host that it sees.

A single plugin has one part, the suite has several: the same functions, composed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from nri_inject import config, runtimes
from nri_inject.adjust import Injector, compose
from nri_inject.annotations import where
from nri_inject.api import Adjustment, ConfigureRequest, Container, Pod
from nri_inject.command import Options, Service, config_of, with_policy
from nri_inject.config import Config
from nri_inject.errors import ConfigError
from nri_inject.host import Host, HostDevices
from nri_inject.plugin import Plugin
from nri_inject.runtimes import NEWEST, Runtime
from nri_inject.stub import Stub
from nri_inject.watch import Watch

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
        self._file: ConfigFile | None = None
        self._dropped_in = False
        self.config_error = ""
        self._runtime = NEWEST
        self._inject = compose(*(part.build(configured, NEWEST) for part in parts))
        self._host = Host(devices=HostDevices())
        self._sources: dict[str, Source] = {}
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            create_container=self.create_container,
        )

    def attach(self, stub: Stub) -> None:
        """Watch the sources, and the configuration file, with this stub."""
        self._stub = stub
        if self._options.config is not None:
            self._file = ConfigFile(self._options.config, self._reload)
            stub.watch(self._file)

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, and learn which runtime this is."""
        configured = self._config
        self._dropped_in = bool(request.config)
        if self._dropped_in:
            configured = with_policy(
                config.read(request.config, "drop-in configuration"), self._options.policy
            )
        self._runtime = runtimes.of_request(request)
        self._take(configured)
        if self._config.policy == config.UNRESTRICTED:
            log.warning("policy: unrestricted: every pod gets what its annotations ask for")
        else:
            log.warning(
                "no policy: every pod gets what its annotations ask for, as with the policy"
                " %r; say so in the configuration to make it your choice",
                config.UNRESTRICTED,
            )

    def _take(self, configured: Config) -> None:
        """Put a configuration in force; ConfigError, and the one before stays, if it can't be."""
        self._inject = compose(*(part.build(configured, self._runtime) for part in self._parts))
        self._config = configured
        lenient = configured.on_unsupported == "warn"
        self._host = Host(
            devices=HostDevices(configured.host_root),
            runtime=NEWEST if lenient else self._runtime,
        )
        self._open_sources()

    def _reload(self) -> None:
        """Read the configuration file again; a bad one leaves what is in force as it is."""
        try:
            configured = config_of(self._options)
            if not self._dropped_in:
                self._take(configured)
        except ConfigError as error:
            self.config_error = str(error)
            log.error("%s; the configuration before it stays in force", error)
            return
        self.config_error = ""
        if self._dropped_in:
            log.info("%s has changed; the runtime's drop-in file wins", self._options.config)
        else:
            log.info("%s has changed and is in force", self._options.config)

    def _open_sources(self) -> None:
        """Open what the host's files are read by, anew: the configuration may be another."""
        for source in self._sources.values():
            if self._stub is not None:
                self._stub.unwatch(source)
            source.close()
        self._sources = {
            name: make(self._options, self._config)
            for part in self._parts
            for name, make in part.sources.items()
        }
        for source in self._sources.values():
            source.current()
            if self._stub is not None:
                self._stub.watch(source)

    def _current_host(self) -> Host:
        """Return the host with what its files say at this moment."""
        if not self._sources:
            return self._host
        current = {name: source.current() for name, source in self._sources.items()}
        return dataclasses.replace(self._host, **current)

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        """Return what a container is to be given as things are now; RequestError if it can't."""
        return self._inject(pod, container, self._current_host())

    def create_container(self, pod: Pod, container: Container) -> Adjustment | None:
        """Inject, and log what was injected or what the runtime is going to drop."""
        adjustment = self.expected(pod, container)
        if not adjustment.ByteSize():
            return None
        for loss in runtimes.lost(adjustment, self._runtime):
            log.warning("%s: %s", where(pod, container), runtimes.sentence(loss, self._runtime))
        if log.isEnabledFor(logging.INFO):
            log.info("%s: injected %s", where(pod, container), summary(adjustment))
        return adjustment


class ConfigFile:
    """Call `changed` when a configuration file may have; a Watch of the stub's loop."""

    def __init__(self, path: str, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._watch = Watch(())
        self._watch.follow([path])
        self._watch.changed()

    def fileno(self) -> int:
        """Return a descriptor that can be read when the file may have changed."""
        return self._watch.fileno()

    def ready(self) -> None:
        """Call, if it has."""
        if self._watch.changed():
            self._changed()


def summary(adjustment: Adjustment) -> str:
    """Say in a few words what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (len(value) if hasattr(value, "__len__") else 1, descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

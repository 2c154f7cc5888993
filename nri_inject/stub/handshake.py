"""The handshake of a plugin with a runtime: registration, configuration, synchronization."""

from __future__ import annotations

import logging
from typing import Final

from nri_inject import capabilities
from nri_inject.api import (
    ConfigureRequest,
    ConfigureResponse,
    Container,
    Pod,
    RegisterPluginRequest,
    SynchronizeRequest,
    SynchronizeResponse,
)
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin, events_of, subscription
from nri_inject.stub.limits import Limits

log = logging.getLogger(__name__)

NRI_VERSION: Final = "0.12.5"
"""The release of the protocol that the stub implements; a plugin registers with it."""

NO_HANDLERS: Final = Plugin(name="none", index="00")


class Handshake:
    """The handshake of one connection.

    `plugin` is the record that serves; `configure` may replace it.
    """

    def __init__(self, plugin: Plugin, limits: Limits) -> None:
        self.plugin = plugin
        self._limits = limits
        self._reported = _Reported(limits)

    def registration(self) -> RegisterPluginRequest:
        """Return the request with which the plugin registers."""
        return RegisterPluginRequest(
            plugin_name=self.plugin.name, plugin_idx=self.plugin.index, NRI_version=NRI_VERSION
        )

    def configure(self, request: ConfigureRequest) -> ConfigureResponse:
        """Configure the plugin, and subscribe to the events that the runtime knows.

        Raises what the plugin's handler raises.
        """
        runtime = capabilities.of_request(request)
        name = f"{request.runtime_name} {request.runtime_version}".strip() or "an unnamed runtime"
        if runtime.assumed:
            nri = capabilities.dotted(runtime.nri)
            log.warning("%s is an unknown runtime, so NRI %s is assumed", name, nri)
        if self.plugin.configure is not None:
            self.plugin = self.plugin.configure(request) or self.plugin
        wanted = subscription(self.plugin)
        events = wanted & capabilities.known_events(runtime)
        if events != wanted:
            missing = ", ".join(events_of(wanted & ~events))
            log.warning("%s does not report these events: %s", name, missing)
        log.info("configured by %s, plugin %s-%s", name, self.plugin.index, self.plugin.name)
        return ConfigureResponse(
            events=events or subscription(NO_HANDLERS), failure_policy=self.plugin.failure_policy
        )

    def synchronize(self, request: SynchronizeRequest) -> SynchronizeResponse:
        """Pass a report, or one part of it, to the plugin; the last part has no `more`.

        Raises NriError for more than the limits allow, and what the plugin's handlers raise.
        """
        self._reported.count(request)
        if self.plugin.synchronize_part is not None:
            self.plugin.synchronize_part(request.pods, request.containers)
        elif self.plugin.synchronize is not None:
            self._reported.keep(request)
        if request.more:
            return SynchronizeResponse(more=True)
        reported, self._reported = self._reported, _Reported(self._limits)
        updates = None
        if self.plugin.synchronize is not None:
            updates = self.plugin.synchronize(reported.pods, reported.containers)
        log.info("synchronized with the runtime")
        return SynchronizeResponse(update=updates or ())


class _Reported:
    """The pods and containers in the parts of one report so far."""

    def __init__(self, limits: Limits) -> None:
        self.pods: list[Pod] = []
        self.containers: list[Container] = []
        self._limits = limits
        self._count = 0
        self._bytes = 0

    def count(self, part: SynchronizeRequest) -> None:
        """Count the objects of a part; raises NriError if there are too many."""
        self._count += len(part.pods) + len(part.containers)
        if self._count > self._limits.max_sync_objects:
            raise NriError(
                f"the runtime reported more than {self._limits.max_sync_objects} pods and"
                " containers"
            )

    def keep(self, part: SynchronizeRequest) -> None:
        """Keep the objects of a part; raises NriError if they are too long."""
        self._bytes += part.ByteSize()
        if self._bytes > self._limits.max_sync_bytes:
            raise NriError(
                f"the runtime reported more than {self._limits.max_sync_bytes >> 20} MiB of pods"
                " and"
                " containers; a plugin with a handler synchronize_part can read them in parts"
            )
        self.pods.extend(part.pods)
        self.containers.extend(part.containers)

"""Metrics for Prometheus: the state at an HTTP address, served by the stub's own loop.

prometheus_client formats the text. Its server would need a second thread beside the loop, so this
module implements the two steps of HTTP/1.0 that a scrape needs.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from nri_inject.errors import ConfigError
from nri_inject.stub import Stub

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ConfigError(
        "metrics need the package prometheus_client; install nri-inject[metrics]"
    ) from error

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_CONNECTIONS: Final = 8
_MAX_REQUEST: Final = 1 << 14

StatusOf = Callable[[], Mapping[str, Any]]


class _Collector(Collector):
    def __init__(self, document: StatusOf) -> None:
        self._document = document

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        said = self._document()
        containers = CounterMetricFamily(
            "nri_inject_containers", "Containers by outcome.", labels=["outcome"]
        )
        for outcome, count in said["containers"].items():
            containers.add_metric([outcome], count)
        yield containers
        yield CounterMetricFamily(
            "nri_inject_worker_failures",
            "Workers that died or hung, and were replaced.",
            value=said["worker"]["failures"],
        )
        yield _gauge(
            "nri_inject_synchronized",
            "Whether the plugin is synchronized with a runtime.",
            said["phase"] == "synchronized",
        )
        yield _gauge(
            "nri_inject_missed_containers",
            "Containers that lack what they are to have: the plugin has not served them.",
            said["missed"]["count"],
        )
        yield _gauge(
            "nri_inject_drifted_containers",
            "Containers that would be given something else now.",
            said["drifted"]["count"],
        )
        yield _gauge(
            "nri_inject_stale_containers",
            "Containers with a device that has gone or has another number now.",
            said["stale"]["count"],
        )
        restarts = CounterMetricFamily(
            "nri_inject_restarts",
            "Requested restarts of containers by outcome.",
            labels=["outcome"],
        )
        for outcome, count in said["restarts"].items():
            if outcome != "waiting":
                restarts.add_metric([outcome], count)
        yield restarts
        yield _gauge(
            "nri_inject_uncompared_containers",
            "Running containers that were not compared with the requests of their pods.",
            said["uncompared"],
        )
        yield _gauge(
            "nri_inject_config_error",
            "Whether the newest version of the configuration file is not in force.",
            bool(said["config_error"]),
        )
        if said["policy"] is not None:
            yield from _of_policy(said["policy"])


def _of_policy(policy: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    yield _gauge(
        "nri_inject_policy_error",
        "Whether the newest version of the policy file is not in force.",
        bool(policy["error"]),
    )
    if policy["age"] is not None:
        yield _gauge(
            "nri_inject_policy_age_seconds",
            "How long ago the version of the policy that is in force was written.",
            policy["age"],
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def exposition(document: StatusOf) -> bytes:
    """Return the metrics as text, in Prometheus' exposition format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Collector(document))
    return generate_latest(registry)


class Endpoint:
    """Answer scrapes at `HOST:PORT`; a Watch of the stub's loop. ConfigError if it can't listen.

    Of many that connect and say nothing, the oldest has to go.
    """

    def __init__(self, address: str, document: StatusOf, stub: Stub) -> None:
        self._document = document
        self._stub = stub
        self._open: list[_Scrape] = []
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_server(
                (host.strip("[]"), int(port)),
                family=socket.AF_INET6 if host.startswith("[") else socket.AF_INET,
            )
        except OSError as error:
            raise ConfigError(f"metrics address {address}: {error.strerror}") from error
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        """The port, which the kernel chooses where the address says 0."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """Return the listening descriptor."""
        return self._socket.fileno()

    def ready(self) -> None:
        """Take one connection, and wait for its request in the loop."""
        try:
            connection, _address = self._socket.accept()
        except OSError:  # it has gone
            return
        if len(self._open) == MAX_CONNECTIONS:
            self.end(self._open[0])
        connection.setblocking(False)
        scrape = _Scrape(connection, self)
        self._open.append(scrape)
        self._stub.watch(scrape)

    def answer(self) -> bytes:
        """Return the whole answer to a request."""
        body = exposition(self._document)
        head = f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        return f"HTTP/1.0 200 OK\r\n{head}Connection: close\r\n\r\n".encode() + body

    def end(self, scrape: _Scrape) -> None:
        """Wait for a connection no longer, and close it."""
        self._stub.unwatch(scrape)
        self._open.remove(scrape)
        scrape.connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        for scrape in self._open:
            scrape.connection.close()


class _Scrape:
    """One connection, until its request has come."""

    def __init__(self, connection: socket.socket, endpoint: Endpoint) -> None:
        self.connection = connection
        self._endpoint = endpoint
        self._request = b""

    def fileno(self) -> int:
        return self.connection.fileno()

    def ready(self) -> None:
        try:
            part = self.connection.recv(_MAX_REQUEST)
        except OSError:
            part = b""
        self._request += part
        whole = b"\r\n\r\n" in self._request
        if whole:
            with contextlib.suppress(OSError):  # what the buffer does not take is not sent
                self.connection.send(self._endpoint.answer(), socket.MSG_NOSIGNAL)
        if whole or not part or len(self._request) > _MAX_REQUEST:
            self._endpoint.end(self)

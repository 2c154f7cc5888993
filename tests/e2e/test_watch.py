"""The pages of a service on a real runtime: probes and metrics by HTTP."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from .cri import CriError
from .daemon import Daemon
from .plugin import External
from .poll import until

KEY = "devices.noderesource.dev"
POLICY = "{rules: [{name: fuse, allow: {devices: [/dev/fuse]}}]}"


def page(port: int, path: str) -> tuple[int, str]:
    """Return the status and the body of a page; status 0 if nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as got:
            return got.status, got.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def counts(port: int, name: str) -> dict[str, str]:
    """Return the samples of a metric that are not 0, by their labels."""
    lines = page(port, "/metrics")[1].splitlines()
    pairs = [line.removeprefix(name).rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {labels: value for labels, value in pairs if value != "0"}


def test_the_pages_on_a_runtime(runtime: Daemon, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    config = tmp_path / "config.yaml"
    config.write_text(f"policy: {POLICY}\nhttp_address: {port}\n")
    options = ("--unsafe-files", "--config", str(config))
    plugin = External("nri-inject run", runtime, tmp_path / "plugin.log", *options)
    try:
        assert page(port, "/livez") == (200, "ok\n")
        assert page(port, "/readyz") == (200, "ok\n")
        cri = runtime.cri
        cri.run(cri.run_pod("served", annotations={KEY: "- path: /dev/fuse"}), "main")
        cri.run(cri.run_pod("plain"), "main")
        with pytest.raises(CriError):
            cri.create(cri.run_pod("denied", annotations={KEY: "- path: /dev/kmsg"}), "main")
        assert counts(port, "nri_inject_requests_total") == {
            '{result="injected"}': "1",
            '{result="unchanged"}': "1",
            '{result="denied"}': "1",
        }
        assert counts(port, "nri_inject_injections_total") == {'{kind="devices"}': "1"}
        assert counts(port, "nri_inject_denials_total") == {
            '{verdict="deny",kind="devices",rule=""}': "1"
        }
        assert counts(port, "nri_inject_request_duration_seconds_count") == {"": "3"}
        runtime.restart()
        plugin.wait_synchronized(2)
        until(lambda: page(port, "/readyz")[0] == 200, "the plugin to be ready again")
        assert counts(port, "nri_inject_reconnects_total") == {"": "1"}
        runtime.stop()
        until(lambda: page(port, "/readyz")[0] == 503, "the end of the runtime to be noticed")
        assert page(port, "/readyz") == (503, "not registered with a runtime: disconnected\n")
        assert page(port, "/livez") == (200, "ok\n")
    finally:
        plugin.close()

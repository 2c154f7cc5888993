"""The pages of a running plugin: probes and metrics, while workers die and clients never end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest
from support.children import family
from test_supervisor import (
    FULL,
    NEW,
    PROGRAM,
    TIMEOUT,
    free_port,
    launched,
    taken_in,
    until,
)

from nri_inject.errors import RemoteError

pytestmark = pytest.mark.slow


def page(port: int, path: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as got:
            return got.status, got.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_plugin_is_live_before_it_is_ready(tmp_path: Path) -> None:
    port = free_port()
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    policy.chmod(0o644)
    with launched(tmp_path / "run", "run", "--http-address", str(port)) as plugin:
        until(lambda: listening(port))
        assert page(port, "/livez") == (200, "ok\n")
        assert page(port, "/readyz") == (503, "not registered with a runtime: registering\n")
        plugin.peer.configure(NEW, f"policy: {{file: {policy}}}\nunsafe_files: true\n", TIMEOUT)
        plugin.peer.synchronize([], [], TIMEOUT)
        assert page(port, "/readyz") == (200, "ok\n")
        policy.write_text("ruls: []\n")
        until(lambda: page(port, "/readyz")[0] == 503)
        assert page(port, "/readyz") == (
            503,
            f"not in force: {policy}: unknown key 'ruls'; did you mean 'rules'?\n",
        )
        assert page(port, "/livez") == (200, "ok\n")
        said = page(port, "/metrics")[1]
        assert 'nri_inject_files_in_error{kind="policy"} 1\n' in said
        assert "nri_inject_policy_generation 1\n" in said


def test_denials_have_their_kind_and_rule_and_outlive_a_worker(tmp_path: Path) -> None:
    port = free_port()
    rules = "{name: no full, deny: {devices: [/dev/full]}}, {allow: {devices: [/dev/zero]}}"
    with launched(tmp_path, "run", "--http-address", str(port)) as plugin:
        plugin.peer.configure(NEW, f"policy: {{rules: [{rules}]}}", TIMEOUT)
        plugin.peer.synchronize([], [], TIMEOUT)
        for _ in range(2):
            for path in ("/dev/full", "/dev/null"):
                with pytest.raises(RemoteError):
                    plugin.create({"devices.noderesource.dev/pod": f"- path: {path}"})
            page(port, "/livez")  # answered once it has counted
            os.kill(family(plugin.process.pid)[1], signal.SIGKILL)
        until(lambda: page(port, "/readyz")[0] == 200)
        text = page(port, "/metrics")[1]
    name = "nri_inject_denials_total"
    assert sorted(line for line in text.splitlines() if line.startswith(f"{name}{{")) == [
        f'{name}{{verdict="deny",kind="devices",rule=""}} 2',
        f'{name}{{verdict="deny",kind="devices",rule="no full"}} 2',
    ]
    assert 'nri_inject_requests_total{result="denied"} 4\n' in text
    assert "nri_inject_request_duration_seconds_count 4\n" in text
    assert "nri_inject_reconnects_total 0\n" in text


def test_a_connection_waits_for_the_next_worker(tmp_path: Path) -> None:
    port = free_port()
    with launched(tmp_path, "run", "--http-address", str(port)) as plugin:
        taken_in(plugin)
        worker = family(plugin.process.pid)[1]
        os.kill(worker, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            os.kill(worker, signal.SIGKILL)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
        assert page(port, "/readyz") == (200, "ok\n")


def test_a_container_and_a_probe_are_answered_among_1000_clients(tmp_path: Path) -> None:
    port = free_port()
    with launched(tmp_path, "run", "-q", "--http-address", str(port)) as plugin:
        taken_in(plugin)
        with ExitStack() as silent:
            for number in range(1000):
                client = silent.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"GET /metrics HTTP/1.1\r\n"[: number % 25])
            assert [one.path for one in plugin.create(FULL).linux.devices] == ["/dev/full"]
            assert page(port, "/livez") == (200, "ok\n")
            descriptors = Path(f"/proc/{family(plugin.process.pid)[1]}/fd")
            assert len(list(descriptors.iterdir())) < 40


def test_prometheus_finds_the_counts(tmp_path: Path) -> None:
    port = free_port()
    with launched(tmp_path, "run", "--http-address", str(port)) as plugin:
        taken_in(plugin)
        plugin.create(FULL)
        with socket.create_connection(("127.0.0.1", port)):  # one that says nothing
            text = page(port, "/metrics")[1]
        plugin.create(FULL)
    assert 'nri_inject_requests_total{result="injected"} 1\n' in text
    assert "nri_inject_synchronized 1\n" in text
    assert "nri_inject_missed_containers 0\n" in text
    assert "nri_inject_worker_failures_total 0\n" in text
    assert 'nri_inject_restarts_total{outcome="stopped"} 0\n' in text


def test_the_counts_outlive_a_worker(tmp_path: Path) -> None:
    port = free_port()
    with launched(tmp_path, "run", "--http-address", str(port)) as plugin:
        taken_in(plugin)
        plugin.create(FULL)
        page(port, "/livez")  # answered once it has counted
        os.kill(family(plugin.process.pid)[1], signal.SIGKILL)
        plugin.create(FULL)
        text = page(port, "/metrics")[1]
    assert 'nri_inject_requests_total{result="injected"} 2\n' in text
    assert "nri_inject_worker_failures_total 1\n" in text


def test_an_address_that_is_taken_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [PROGRAM, "run", "--http-address", address],
            env=os.environ | {"NRI_INJECT_STATUS_DIR": ""},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 2
    assert f"http address {address}: Address already in use" in done.stderr


def test_an_address_that_is_none_is_wrong_usage() -> None:
    done = subprocess.run(
        [PROGRAM, "run", "--http-address", "localhost"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 2
    assert "'localhost' is not a port" in done.stderr

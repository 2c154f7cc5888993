"""Which policy is in force while faulty versions of it come and go, and plugin and runtime restart.

The kubelet's part is played by the test: configuration and policy are swapped as a ConfigMap is.
NRI_E2E_ROUNDS is how many rounds of trouble there are.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.config_map import ConfigMap

from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon
from .plugin import BIN, SYNCHRONIZED, External
from .poll import until

ROUNDS = int(os.environ.get("NRI_E2E_ROUNDS", "6"))
FUSE = {"devices.noderesource.dev": "- path: /dev/fuse\n"}
GOOD = "rules: [{name: fuse, allow: {devices: [/dev/fuse]}}]\n"
BAD = "rules: [{name: fuse, alow: {devices: [/dev/fuse]}}]\n"
COMMAND = "nri-device-injector"
TROUBLES = ("a faulty version", "and the plugin restarts", "and the runtime restarts")


class Seen(NamedTuple):
    """What an admin and a pod saw: the policy in force, status, readiness, metric, container."""

    in_force: str
    error: bool
    is_ready: bool
    error_metric: str
    container: str


def node_with(in_force: str, container: str, metric: str = "1") -> Seen:
    """Return what is to be seen while the newest version is faulty."""
    return Seen(in_force, error=True, is_ready=False, error_metric=metric, container=container)


class Node:
    """A runtime, what is asked about the plugin on it, and a pod that asks for a device."""

    def __init__(self, daemon: Daemon, where: Path) -> None:
        self.daemon = daemon
        self.metrics = ""
        self._sockets = str(where / "run")

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "nri-inject"), "status", "--status-dir", self._sockets, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def policy(self) -> dict[str, Any]:
        """Return what the status of the plugin says of the policy; nothing if there is none."""
        plugins = json.loads(self._ask("--format", "json").stdout)["plugins"]
        return (plugins[0]["policy"] or {}) if plugins else {}

    def wait(self, *, faulty: bool) -> None:
        """Wait until the plugin has seen the newest version, and is asked by the runtime."""
        until(lambda: bool(self.policy().get("error", not faulty)) == faulty, "the new version")

    def seen(self) -> Seen:
        policy = self.policy()
        is_ready = self._ask("--ready").returncode == 0
        return Seen(
            *(policy["in_force"], policy["error"] != "", is_ready),
            *(self._error_metric(), self._container()),
        )

    def _error_metric(self) -> str:
        if not self.metrics:
            return ""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        (line,) = (
            line for line in lines if line.startswith('nri_inject_files_in_error{kind="policy"} ')
        )
        return str(line).split()[1]

    def _container(self) -> str:
        pod = self.daemon.cri.run_pod("build", "ci", annotations=FUSE)
        try:
            container = self.daemon.cri.run(pod, "main")
            found = self.daemon.cri.exec(container, "test", "-c", "/dev/fuse").exit_code == 0
        except CriError as error:
            return "denied" if "policy on this node is not usable" in error.message else str(error)
        finally:
            self.daemon.cri.remove_pod(pod)
        return "has its device" if found else "lacks its device"


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ConfigMap:
    tmp_path.chmod(0o755)
    return ConfigMap(tmp_path / "etc", request.param)


@pytest.mark.parametrize("files", ["deny", "keep"], indirect=True)
def test_a_faulty_version_never_takes_over_a_service(
    runtime: Daemon, files: ConfigMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("NRI_INJECT_STATE_DIR", str(tmp_path / "state"))
    node = Node(runtime, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.metrics = f"127.0.0.1:{server.getsockname()[1]}"
    options = ("--config", str(files.config), "--http-address", node.metrics)

    def started() -> External:
        return External(COMMAND, runtime, tmp_path / "plugin.log", *options)

    files.swap(GOOD)
    plugin = started()
    good = Seen("newest", False, True, "0", "has its device")
    assert node.seen() == good
    expected = {
        TROUBLES[0]: node_with("before", "has its device"),
        TROUBLES[1]: node_with("kept", "has its device")
        if files.on_fault == "keep"
        else node_with("nothing", "denied"),
        TROUBLES[2]: node_with("before", "has its device"),
    }
    rounds: list[tuple[str, Seen, Seen]] = []
    for number in range(ROUNDS):
        trouble = TROUBLES[number % len(TROUBLES)]
        files.swap(BAD)
        if trouble == TROUBLES[1]:
            plugin.close()
            plugin = started()
        node.wait(faulty=True)
        if trouble == TROUBLES[2]:
            times = plugin.log.count(SYNCHRONIZED)
            runtime.restart()
            plugin.wait_synchronized(times + 1)
        before = node.seen()
        files.swap(GOOD)
        node.wait(faulty=False)
        rounds.append((trouble, before, node.seen()))
    plugin.close()
    assert rounds == [(trouble, expected[trouble], good) for trouble, _, _ in rounds]


@pytest.mark.parametrize("files", ["deny", "keep"], indirect=True)
def test_a_faulty_version_never_takes_over_a_launched_plugin(
    new_runtime: NewRuntime, files: ConfigMap, tmp_path: Path
) -> None:
    daemon = new_runtime()
    node = Node(daemon, tmp_path)
    script = daemon.plugin_dir / "10-device-injector"
    script.write_text(
        "#!/bin/sh\n"
        f"export NRI_INJECT_STATUS_DIR={tmp_path}/run NRI_INJECT_STATE_DIR={tmp_path}/state\n"
        f"exec {BIN / COMMAND}\n"
    )
    script.chmod(0o755)
    (daemon.plugin_conf_dir / "10-device-injector.conf").write_text(files.text)
    files.swap(GOOD)
    daemon.start()
    good = Seen("newest", False, True, "", "has its device")
    assert node.seen() == good
    anew = (
        node_with("kept", "has its device", "")
        if files.on_fault == "keep"
        else node_with("nothing", "denied", "")
    )
    rounds: list[tuple[bool, Seen, Seen]] = []
    for number in range(ROUNDS):
        restarts = number % 2 == 1
        files.swap(BAD)
        node.wait(faulty=True)
        if restarts:
            daemon.restart()
            node.wait(faulty=True)
        before = node.seen()
        files.swap(GOOD)
        node.wait(faulty=False)
        rounds.append((restarts, before, node.seen()))
    running = node_with("before", "has its device", "")
    assert rounds == [(restarts, anew if restarts else running, good) for restarts, _, _ in rounds]

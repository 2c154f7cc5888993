"""A plugin process whose policy and configuration are swapped together, as a ConfigMap is."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest
from support.children import family
from support.config_map import ConfigMap
from test_supervisor import NEW, RUNNING, TIMEOUT, Plugin, free_port, launched, until

from nri_inject import api
from nri_inject.errors import RemoteError

pytestmark = pytest.mark.slow

FULL = {"devices.noderesource.dev/pod": "- path: /dev/full"}
ZERO = {"devices.noderesource.dev/pod": "- path: /dev/zero"}
POD = api.Pod(id="p", namespace="ns", name="web", annotations=FULL)
GOOD = "rules: [{allow: {devices: [/dev/full]}}]\n"
BAD = "rules: [{alow: {devices: [/dev/full]}}]\n"


@pytest.fixture(params=["deny", "keep"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ConfigMap:
    tmp_path.chmod(0o755)
    return ConfigMap(tmp_path / "etc", request.param)


def fault(files: ConfigMap) -> str:
    return f"{files.policy}: rules: rule 1: unknown key 'alow'; did you mean 'allow'?"


def served(plugin: Plugin, *containers: api.Container) -> Plugin:
    plugin.peer.configure(NEW, "", TIMEOUT)
    plugin.peer.synchronize([POD], containers, TIMEOUT)
    return plugin


def test_a_faulty_version_never_takes_over_a_process_that_runs(
    files: ConfigMap, tmp_path: Path
) -> None:
    port = free_port()
    metrics = ("--http-address", f"127.0.0.1:{port}")
    environ = {"NRI_INJECT_STATE_DIR": str(tmp_path / "state")}
    files.swap(GOOD)
    with launched(
        tmp_path / "run", "run", "--config", str(files.config), *metrics, **environ
    ) as plugin:
        served(plugin)
        for _ in range(20):
            files.swap(BAD)
            assert plugin.create(FULL).linux.devices[0].path == "/dev/full"
            until(lambda: plugin.status()["policy"]["error"])
            said = plugin.status()
            assert (said["policy"]["in_force"], said["ready"], said["config_error"]) == (
                *("before", False, ""),
            )
            assert said["policy"]["error"] == fault(files)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as got:
                assert 'nri_inject_files_in_error{kind="policy"} 1\n' in (
                    text := got.read().decode()
                )
            assert "nri_inject_policy_age_seconds " in text
            with pytest.raises(RemoteError) as caught:
                plugin.create(ZERO)
            assert f"no rule of {files.policy} allows it" in str(caught.value)
            assert (
                f"; a newer version of the policy is not in force: {fault(files)}; the version of "
            ) in str(caught.value)
            files.swap(GOOD)
            until(lambda: plugin.status()["ready"])


def test_a_process_that_starts_with_a_faulty_version_denies_unless_the_last_one_is_kept(
    files: ConfigMap, tmp_path: Path
) -> None:
    environ = {"NRI_INJECT_STATE_DIR": str(tmp_path / "state")}
    arguments = ("run", "--config", str(files.config))
    is_kept = files.on_fault == "keep"
    files.swap(GOOD)
    with launched(tmp_path / "run", *arguments, **environ) as plugin:
        served(plugin)
    files.swap(BAD)
    missed = api.Container(id="c1", name="app", pod_sandbox_id="p", state=RUNNING)
    with launched(tmp_path / "run", *arguments, **environ) as plugin:
        served(plugin, missed)
        until(lambda: plugin.status()["compared"] == 1)
        said = plugin.status()
        assert (said["policy"]["in_force"], said["ready"]) == (
            ("kept" if is_kept else "nothing"),
            False,
        )
        lacking = {"lacks": ["device /dev/full"], "refused": ""}
        (one,) = said["missed"]["containers"]
        assert (one["lacks"] == lacking["lacks"]) == is_kept
        assert (one["refused"] == "") == is_kept
        if is_kept:
            assert plugin.create(FULL).linux.devices[0].path == "/dev/full"
        else:
            with pytest.raises(RemoteError, match="the policy on this node is not usable"):
                plugin.create(FULL)
        files.swap(GOOD)
        # Those that were missed while no policy was in force are compared again.
        until(lambda: plugin.status()["missed"]["containers"][0]["lacks"])
        assert plugin.status()["policy"]["in_force"] == "newest"
        assert plugin.status()["ready"]


def test_a_runtime_that_restarts_does_not_lose_the_version_before(
    files: ConfigMap, tmp_path: Path
) -> None:
    """The process of a service outlives the runtime, and is configured anew."""
    files.swap(GOOD)
    with launched(tmp_path / "run", "run", "--config", str(files.config)) as plugin:
        served(plugin)
        files.swap(BAD)
        until(lambda: plugin.status()["policy"]["error"])
        served(plugin)
        assert plugin.status()["policy"]["in_force"] == "before"
        assert plugin.create(FULL).linux.devices[0].path == "/dev/full"


def test_a_worker_that_takes_over_does_not_lose_the_version_before(
    files: ConfigMap, tmp_path: Path
) -> None:
    files.swap(GOOD)
    with launched(tmp_path / "run", "run", "--config", str(files.config)) as plugin:
        served(plugin)
        files.swap(BAD)
        until(lambda: plugin.status()["policy"]["error"])
        os.kill(family(plugin.process.pid)[1], signal.SIGKILL)
        assert plugin.create(FULL).linux.devices[0].path == "/dev/full"
        assert plugin.status()["policy"]["in_force"] == "before"

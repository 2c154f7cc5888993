"""The harness itself: what the other end-to-end tests take for granted."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from . import given, image, leftovers
from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon, StartFailed


def test_runtime_has_the_version_that_its_name_says(runtime: Daemon) -> None:
    if runtime.name == "cri-o":
        assert (runtime.kind.name, runtime.kind.version) == ("cri-o", runtime.cri.version())
        return
    expected = runtime.name.removeprefix("containerd-").split(".")
    told = re.split(r"[.+~-]", runtime.cri.version().removeprefix("v"))
    assert told[: len(expected)] == expected


def test_a_given_containerd_is_named_after_the_version_that_it_prints(tmp_path: Path) -> None:
    directory = programs(tmp_path, "echo containerd github.com/containerd/containerd/v2 2.4.2+x")
    assert given.containerds({given.VARIABLE: f"{directory}:"}) == {"containerd-2.4.2": directory}
    assert given.containerds({}) == {}


def test_a_given_containerd_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    directory = programs(tmp_path, "true")

    def reason(text: str) -> str:
        with pytest.raises(given.NotUsable) as caught:
            given.containerds({given.VARIABLE: text})
        return str(caught.value)

    told = f"NRI_INJECT_CONTAINERD: {directory}"
    assert reason(str(directory)) == f"{told}/containerd tells no version: ''"
    (directory / "containerd").write_text("#!/bin/sh\necho containerd c v2.4.2\n")
    twice = f"{told} and {directory} both have containerd-2.4.2"
    assert reason(f"{directory}:{directory}") == twice
    (directory / "ctr").unlink()
    assert reason(str(directory)) == (
        f"{told} has no program ctr;"
        " a directory with containerd, ctr, containerd-shim-runc-v2 is expected"
    )


def test_a_given_crio_is_the_program_that_is_named(tmp_path: Path) -> None:
    program = programs(tmp_path, "true") / "containerd"
    assert given.crio({given.CRIO_VARIABLE: str(program)}) == program
    assert given.crio({}) is None
    with pytest.raises(given.NotUsable) as caught:
        given.crio({given.CRIO_VARIABLE: str(tmp_path)})
    assert str(caught.value) == (
        f"NRI_INJECT_CRIO: {tmp_path} is no program; the path of a crio is expected"
    )


def programs(directory: Path, script: str) -> Path:
    """Make programs of containerd's names that run a script, and return their directory."""
    for name in given.PROGRAMS:
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return directory


def test_nri_listens_when_start_returns(runtime: Daemon) -> None:
    assert runtime.nri_socket.is_socket()


def test_container_runs_in_a_pod(runtime: Daemon) -> None:
    pod = runtime.cri.run_pod("harness")
    container = runtime.cri.run(pod, "main")
    assert runtime.cri.list_pods() == [pod]
    assert runtime.cri.list_containers(pod) == {container: "CONTAINER_RUNNING"}


def test_exec_gives_exit_code_and_output(runtime: Daemon) -> None:
    container = runtime.cri.run(runtime.cri.run_pod("harness"), "main")
    result = runtime.cri.exec(container, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert result == (3, "out\n", "err\n")


def test_container_gets_its_user_environment_and_mounts(runtime: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "greeting").touch()
    container = runtime.cri.run(
        runtime.cri.run_pod("harness"),
        "main",
        run_as_user=1000,
        envs={"COLOUR": "green"},
        mounts=[{"host_path": str(tmp_path), "container_path": "/mnt", "readonly": True}],
    )
    script = "id -un; echo $COLOUR; ls /mnt"
    assert runtime.cri.exec(container, "sh", "-c", script).stdout == "app\ngreen\ngreeting\n"


def test_annotations_come_back_in_the_status(runtime: Daemon) -> None:
    pod = runtime.cri.run_pod("harness")
    container = runtime.cri.create(pod, "main", annotations={"example.com/key": "value"})
    status = runtime.cri.status(container)
    assert dict(status.annotations) == {"example.com/key": "value"}


def test_bundle_spec_is_what_runc_got(runtime: Daemon) -> None:
    container = runtime.cri.run(runtime.cri.run_pod("harness"), "main")
    assert runtime.bundle_spec(container)["process"]["args"] == list(image.ENTRY_COMMAND)


def test_refusal_reads_as_kubelet_shows_it(runtime: Daemon) -> None:
    pod = runtime.cri.run_pod("harness")
    with pytest.raises(CriError, match=r"^rpc error: code = \w+ desc = .*no-such-command"):
        runtime.cri.run(pod, "main", command=["no-such-command"])


def test_containers_survive_a_restart(runtime: Daemon) -> None:
    container = runtime.cri.run(runtime.cri.run_pod("harness"), "main")
    runtime.restart()
    assert runtime.cri.exec(container, "true").exit_code == 0
    assert runtime.nri_socket.is_socket()


def test_containers_survive_a_crash_of_the_daemon(runtime: Daemon) -> None:
    container = runtime.cri.run(runtime.cri.run_pod("harness"), "main")
    runtime.kill()
    runtime.start()
    assert runtime.cri.exec(container, "true").exit_code == 0


def test_preinstalled_plugin_is_launched_at_the_start(new_runtime: NewRuntime) -> None:
    daemon = new_runtime(plugin_registration_timeout="1s")
    note = daemon.directory / "launched"
    plugin = daemon.plugin_dir / "10-note"
    plugin.write_text(f"#!/bin/sh\necho $NRI_PLUGIN_NAME > {note}\n")
    plugin.chmod(0o755)
    with suppress(StartFailed):  # 1.7 does not go on without a plugin that ends at once.
        daemon.start()
    assert note.read_text() == "note\n"


def test_cdi_device_is_injected(runtime: Daemon) -> None:
    spec = """{"cdiVersion": "0.6.0", "kind": "example.com/lamp", "devices": [
        {"name": "0", "containerEdits": {"env": ["LAMP=on"]}}]}"""
    (runtime.cdi_dir / "lamp.json").write_text(spec)
    container = runtime.cri.run(
        runtime.cri.run_pod("harness"), "main", CDI_devices=[{"name": "example.com/lamp=0"}]
    )
    assert "LAMP=on" in runtime.cri.details(container)["runtimeSpec"]["process"]["env"]
    assert "LAMP=on" in runtime.bundle_spec(container)["process"]["env"]
    assert "LAMP=on\n" in runtime.cri.exec(container, "env").stdout


def test_close_leaves_nothing_behind(new_runtime: NewRuntime) -> None:
    daemon = new_runtime()
    daemon.start()
    daemon.cri.run(daemon.cri.run_pod("harness"), "main")
    daemon.close()
    assert_nothing_is_left(daemon)


def test_leftovers_of_a_killed_run_are_cleared(new_runtime: NewRuntime) -> None:
    daemon = new_runtime()
    daemon.start()
    daemon.cri.run(daemon.cri.run_pod("harness"), "main")
    leftovers.clear(daemon.directory)
    assert_nothing_is_left(daemon)


def assert_nothing_is_left(daemon: Daemon) -> None:
    assert not daemon.directory.exists()
    assert str(daemon.directory) not in Path("/proc/self/mounts").read_text()
    assert not list(leftovers.processes_of(daemon.directory))


def test_container_is_made_by_the_low_level_runtime_of_its_pods_handler(
    runtime: Daemon, handler: str
) -> None:
    pod = runtime.cri.run_pod("handler", handler=handler)
    container = runtime.cri.run(pod, "main")
    assert runtime.cri.exec(container, "cat", "/proc/1/comm").stdout == "sleep\n"
    made_by_crun = [path.name for path in runtime.directory.glob("crun-state/**/*")]
    assert (container in made_by_crun) is (handler == "crun")

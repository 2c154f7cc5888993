"""The CDI injector on real runtimes, 1.7 too, which drops names that plugins pass on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject.capabilities import sentence, unsupported
from nri_inject.host.hook_environment import PATH

from .cri import CriError
from .daemon import Daemon
from .hook_environment import POD, STAGES, recorded, recorder
from .plugin import BIN, External
from .poll import until

KEY = "cdi-devices.noderesource.dev"
START = f"#!{sys.executable}\nfrom nri_inject.plugins.cdi_injector import main\nmain()\n"


class Cdi:
    """A spec directory that only our plugin reads, and the plugin."""

    def __init__(self, runtime: Daemon, place: Path, plugin: External) -> None:
        self.runtime = runtime
        self.place = place
        self.plugin = plugin

    @property
    def directory(self) -> Path:
        return self.place / "cdi"

    def define(self, file: str, *devices: dict[str, Any], **more: Any) -> None:
        """Put a spec in place as one step, as an installer does."""
        head = {"cdiVersion": "1.1.0", "kind": "example.com/part", **more}
        new = self.directory / f"{file}.new"
        new.write_text(json.dumps({**head, "devices": list(devices)}))
        new.rename(self.directory / file)

    def run(self, *names: str, handler: str = "", **fields: Any) -> str:
        """Run a container that asks for devices by name, and return its id."""
        wanted = json.dumps([f"example.com/part={name}" for name in names])
        pod = self.runtime.cri.run_pod("cdi", annotations={KEY: wanted}, handler=handler)
        return self.runtime.cri.run(pod, "main", **fields)

    def shell(self, container: str, script: str) -> tuple[int, str]:
        result = self.runtime.cri.exec(container, "sh", "-c", script)
        return result.exit_code, result.stdout

    def refusal(self, *names: str) -> str:
        with pytest.raises(CriError) as caught:
            self.run(*names)
        return str(caught.value)


def device(name: str, **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": edits}


@pytest.fixture
def cdi(runtime: Daemon, tmp_path: Path) -> Iterator[Cdi]:
    """Start the injector beside the shared runtime, with a spec directory of the test's own."""
    (tmp_path / "cdi").mkdir()
    program = tmp_path / "nri-cdi-injector"
    program.write_text(START)
    program.chmod(0o755)
    options = ("--cdi-dir", str(tmp_path / "cdi"), "--policy", "unrestricted", "-v")
    plugin = External(str(program), runtime, tmp_path / "plugin.log", *options)
    with closing(plugin):
        yield Cdi(runtime, tmp_path, plugin)


def test_device_node_of_a_spec_can_be_used(cdi: Cdi) -> None:
    node = {"path": "/dev/part0", "hostPath": "/dev/zero", "fileMode": 0o640, "gid": 1000}
    cdi.define("part.json", device("0", deviceNodes=[node]))
    container = cdi.run("0", run_as_user=0)
    script = "head -c 3 /dev/part0 | wc -c; stat -c '%A %g %t:%T' /dev/part0"
    assert cdi.shell(container, script) == (0, "3\ncrw-r----- 1000 1:5\n")


def test_device_behind_a_link_is_found(cdi: Cdi) -> None:
    (cdi.place / "by-id").symlink_to("/dev/full")
    node = {"path": "/dev/part0", "hostPath": str(cdi.place / "by-id")}
    cdi.define("part.json", device("0", deviceNodes=[node]))
    assert cdi.shell(cdi.run("0"), "stat -c '%t:%T' /dev/part0") == (0, "1:7\n")


def test_fifo_of_the_host_is_mounted(cdi: Cdi) -> None:
    os.mkfifo(cdi.place / "pipe")
    node = {"path": "/run/pipe", "hostPath": str(cdi.place / "pipe")}
    cdi.define("part.json", device("0", deviceNodes=[node]))
    assert cdi.shell(cdi.run("0"), "test -p /run/pipe")[0] == 0


def test_environment_and_mounts_of_a_spec_are_there(cdi: Cdi) -> None:
    (cdi.place / "lib").mkdir()
    (cdi.place / "lib" / "driver").write_text("so")
    mount = {"hostPath": str(cdi.place / "lib"), "containerPath": "/opt/part", "options": ["ro"]}
    everywhere = {"env": ["PART=on", "WHICH=none"]}
    first, second = device("0", env=["WHICH=0"], mounts=[mount]), device("1", env=["MORE=a=b"])
    cdi.define("part.json", first, second, containerEdits=everywhere)
    container = cdi.run("0", "1", envs={"WHICH": "own"})
    script = "echo $PART $WHICH $MORE; cat /opt/part/driver; touch /opt/part/x 2>&1"
    status, text = cdi.shell(container, script)
    assert status != 0
    assert text.startswith("on 0 a=b\nso")
    assert "Read-only file system" in text


def test_hook_of_a_spec_has_no_variable_of_the_pod_at_any_stage(cdi: Cdi, handler: str) -> None:
    output = cdi.place / "output"
    output.mkdir()
    entries = [{"hookName": stage, **recorder(stage, output)} for stage in STAGES]
    cdi.define("part.json", device("0", hooks=entries))
    mount = {"host_path": str(output), "container_path": "/mnt", "readonly": False}
    container = cdi.run("0", handler=handler, envs=POD, mounts=[mount])
    cdi.runtime.cri.stop(container)
    cdi.runtime.cri.remove_container(container)
    assert recorded(output) == {stage: [PATH] for stage in STAGES}


def test_hooks_of_a_spec_run_once(cdi: Cdi) -> None:
    program = cdi.place / "hook"
    program.write_text(f'#!/bin/sh\ncat > /dev/null\necho "$1 $PART" >> {cdi.place}/ran\n')
    program.chmod(0o755)
    hook = {"hookName": "createRuntime", "path": str(program)}
    hooks = [{**hook, "args": ["hook", "early"], "env": ["PART=0"]}]
    cdi.define(
        "part.json",
        device("0", env=["A=1"]),
        device("1", env=["B=1"]),
        containerEdits={"hooks": hooks},
    )
    cdi.run("0", "1")
    assert (cdi.place / "ran").read_text() == "early 0\n"


def test_next_container_sees_a_spec_that_is_dropped_in_changed_and_removed(cdi: Cdi) -> None:
    assert "no CDI device 'example.com/part=0'" in cdi.refusal("0")
    cdi.define("part.json", device("0", env=["PART=first"]))
    assert cdi.shell(cdi.run("0"), "echo $PART") == (0, "first\n")
    cdi.define("part.json", device("0", env=["PART=second"]))
    assert cdi.shell(cdi.run("0"), "echo $PART") == (0, "second\n")
    (cdi.directory / "part.json").unlink()
    assert "no CDI device 'example.com/part=0'" in cdi.refusal("0")


def test_device_stays_while_its_spec_is_half_written(cdi: Cdi) -> None:
    cdi.define("part.json", device("0", env=["PART=on"]))
    cdi.run("0")
    (cdi.directory / "part.json").write_text('{"cdiVersion": "1.1.0", "kind": ')
    assert cdi.shell(cdi.run("0"), "echo $PART") == (0, "on\n")


def test_conflict_fails_the_container_with_both_files(cdi: Cdi) -> None:
    cdi.define("a.json", device("0", env=["PART=a"]))
    cdi.define("b.json", device("0", env=["PART=b"]))
    files = f"{cdi.directory}/a.json and {cdi.directory}/b.json"
    sentence = (
        "container main: no CDI device 'example.com/part=0':"
        f" {files} both define it, so neither is used"
    )
    assert sentence in cdi.refusal("0")


def test_all_unknown_names_fail_the_container_together(cdi: Cdi) -> None:
    cdi.define("part.json", device("gpu0", env=["PART=on"]))
    text = cdi.refusal("gpu1", "gpu0", "other")
    assert "no CDI device 'example.com/part=gpu1'; did you mean 'example.com/part=gpu0'?" in text
    assert "no CDI device 'example.com/part=other'; known devices of example.com/part: gpu0" in text


def test_file_in_error_is_named_as_the_cause(cdi: Cdi) -> None:
    cdi.define("part.json", device("0", env=["PART"]))
    assert f"{cdi.directory}/part.json has an error: line 1, column " in cdi.refusal("0")


def test_groups_fail_the_container_with_a_reason(cdi: Cdi) -> None:
    cdi.define("part.json", device("0", additionalGids=[44]))
    assert "additionalGids 44: NRI cannot add groups to a container" in cdi.refusal("0")


def test_read_only_access_is_kept_from_containerd_2_2_on_and_refused_before(cdi: Cdi) -> None:
    """NRI alone always allows reading and writing; taking that away needs NRI 0.10."""
    # Not one of the devices that runc lets every container use, whatever the rules say.
    node = {"path": "/dev/part0", "hostPath": "/dev/fuse", "permissions": "r"}
    cdi.define("part.json", device("0", deviceNodes=[node]))
    if cdi.runtime.kind.nri < (0, 10, 0):
        text = cdi.refusal("0")
        assert f"access r to c 10:229: containerd {cdi.runtime.cri.version()}" in text
        assert "does not apply device rules: needs NRI 0.10.0" in text
        return
    container = cdi.run("0")
    assert cdi.shell(container, "exec 3</dev/part0")[0] == 0
    assert cdi.shell(container, "exec 3>/dev/part0")[0] != 0


def test_kubelets_annotation_on_the_pod_is_followed(cdi: Cdi) -> None:
    cdi.define("part.json", device("0", env=["PART=on"]))
    key = "cdi.k8s.io/vendor-plugin_0"
    pod = cdi.runtime.cri.run_pod("cdi", annotations={key: "example.com/part=0"})
    container = cdi.runtime.cri.run(pod, "main")
    assert cdi.shell(container, "echo $PART") == (0, "on\n")


def test_plugin_logs_what_it_has_injected(cdi: Cdi) -> None:
    cdi.define("part.json", device("0", env=["PART=on"]))
    cdi.run("0")
    until(lambda: "container main: injected 1 env" in cdi.plugin.log, "the log of the injection")


def test_names_are_handed_to_a_runtime_that_resolves_them_if_the_admin_says_so(
    runtime: Daemon, tmp_path: Path
) -> None:
    """The spec is in the runtime's own directory, and the plugin has none."""
    spec = {"cdiVersion": "0.6.0", "kind": "example.com/native"}
    edits = {"env": ["NATIVE=on"], "deviceNodes": [{"path": "/dev/n0", "hostPath": "/dev/zero"}]}
    (runtime.cdi_dir / "native.json").write_text(
        json.dumps({**spec, "devices": [device("0", **edits)]})
    )
    config = tmp_path / "config.yaml"
    config.write_text("{policy: unrestricted, cdi: {mode: native, dirs: [/nowhere]}}\n")
    log = tmp_path / "plugin.log"
    if loss := unsupported("CDI_devices", runtime.kind):
        told = f"CDI mode native: {sentence(loss, runtime.kind)}; use mode resolve"
        command = [str(BIN / "nri-cdi-injector"), "--socket-path", str(runtime.nri_socket)]
        with (
            log.open("wb") as file,
            subprocess.Popen(
                [*command, "--config", str(config)], stdout=file, stderr=file
            ) as process,
        ):
            try:
                until(lambda: told in log.read_text(), "the plugin to say what the runtime lacks")
            finally:
                process.terminate()
        return
    with closing(External("nri-cdi-injector", runtime, log, "--config", str(config))):
        pod = runtime.cri.run_pod("native", annotations={KEY: "[example.com/native=0]"})
        container = runtime.cri.run(pod, "main")
        shown = runtime.cri.exec(container, "sh", "-c", "echo $NATIVE; head -c 3 /dev/n0 | wc -c")
        assert shown.stdout == "on\n3\n"
        unknown = runtime.cri.run_pod("unknown", annotations={KEY: "[example.com/native=9]"})
        with pytest.raises(CriError, match=r"unresolvable CDI devices.*example\.com/native=9"):
            runtime.cri.create(unknown, "main")

"""`nri-inject install` with the self-contained build, on hosts that have no Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import hostroot
from .conftest import NewContainerd
from .containerd import Containerd
from .cri import CriError
from .poll import until

LISTED = ("etc", "opt", "usr", "var", "bin", "lib")
KEY = "cdi-devices.noderesource.dev/pod"
DEVICES = "devices.noderesource.dev/container.main"


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Map the paths of a host's own files to mode and content or target."""
    found: dict[str, tuple[int, str]] = {}
    for top in LISTED:
        for path in sorted([root / top, *(root / top).rglob("*")]):
            if not os.path.lexists(path):
                continue
            content = str(path.readlink()) if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink():
                content = str(path.stat().st_size)
            found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found


class Host:
    """A daemon with a root of its own, and our program run on that root from outside."""

    def __init__(self, daemon: Containerd, program: Path) -> None:
        self.daemon = daemon
        self.root = daemon.root
        self.program = program
        for library in hostroot.libraries([program, *program.parent.rglob("*.so*")]):
            if not library.is_relative_to(program.parent):
                hostroot.copy_library(library, self.root)  # the C library's own, and zlib

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def nri_inject(self, command: str, *arguments: str) -> tuple[int, Any]:
        """Run a command of the build without an environment; return its status and answer."""
        done = subprocess.run(
            [self.program, command, *arguments, "--root", self.root, "--format", "json"],
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    def inside(self, *command: str) -> str:
        """Run a command with the host's root as its own; return what it prints."""
        done = subprocess.run(
            ["/usr/sbin/chroot", self.root, *command],
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout


def prepared(new_containerd: NewContainerd, build: Path) -> Host:
    """Make a host with a CDI device and a hook, and a configuration that an admin has written."""
    host = Host(new_containerd(own_root=True), build)
    node = {"path": "/dev/part0", "hostPath": "/dev/zero"}
    edits = {"deviceNodes": [node], "env": ["PART=0"]}
    devices = [{"name": "0", "containerEdits": edits}]
    spec = {"cdiVersion": "0.6.0", "kind": "example.com/part", "devices": devices}
    host.write("etc/cdi/part.json", json.dumps(spec))
    host.write("usr/libexec/note", "#!/bin/sh\necho ran >> /var/lib/noted\n", 0o755)
    hook = {"path": "/usr/libexec/note"}
    definition = {"version": "1.0.0", "hook": hook, "when": {"always": True}}
    host.write(
        "etc/containers/oci/hooks.d/note.json",
        json.dumps(definition | {"stages": ["createRuntime"]}),
    )
    for name in ("20-nri-inject", "10-device-injector", "30-hook-injector"):
        host.write(f"etc/nri/conf.d/{name}.conf", "policy: unrestricted\n")
    return host


def test_a_host_without_python_gets_devices_and_is_left_without_a_trace(
    new_containerd: NewContainerd, build: Path
) -> None:
    host = prepared(new_containerd, build)
    assert not [path for path in host.root.rglob("python*") if path.is_file()]
    before = tree(host.root)

    status, answer = host.nri_inject("install")
    assert status == 0
    kept = [row["path"] for row in answer["changes"] if row["what"] == "kept"]
    assert kept == ["/etc/nri/conf.d/20-nri-inject.conf"]
    installed = tree(host.root)
    status, again = host.nri_inject("install")
    assert {row["what"] for row in again["changes"]} == {"same", "kept"}
    assert tree(host.root) == installed

    host.daemon.start()
    annotations = {DEVICES: "- path: /dev/full", KEY: "[example.com/part=0]"}
    pod = host.daemon.cri.run_pod("installed", annotations=annotations)
    container = host.daemon.cri.run(pod, "main")
    shown = host.daemon.cri.exec(
        container, "sh", "-c", "stat -c %t:%T /dev/full; head -c 2 /dev/part0 | wc -c; echo $PART"
    )
    assert shown.stderr == ""
    assert shown.stdout == "1:7\n2\n0\n"
    assert (host.root / "var/lib/noted").read_text() == "ran\n"

    said = json.loads(host.inside("/usr/local/bin/nri-inject", "status", "--format", "json"))
    assert said["silent"] == []
    assert said["plugins"][0]["plugin"] == "20-nri-inject"
    assert said["plugins"][0]["ready"]
    assert said["plugins"][0]["containers"]["changed"] == 1
    status, examined = host.nri_inject("doctor")
    problems = [one["what"] for one in examined["findings"] if one["level"] == "problem"]
    assert (status, problems) == (0, [])

    host.daemon.cri.remove_all()
    host.daemon.stop()
    status, answer = host.nri_inject("uninstall")
    assert status == 0
    (host.root / "var/lib/noted").unlink()
    assert tree(host.root) == before


def test_single_plugins_are_links_to_the_same_executable(
    new_containerd: NewContainerd, build: Path
) -> None:
    host = prepared(new_containerd, build)
    host.nri_inject("install", "--plugin", "device-injector", "--plugin", "hook-injector")
    host.daemon.start()
    pod = host.daemon.cri.run_pod("single", annotations={DEVICES: "- path: /dev/full"})
    container = host.daemon.cri.run(pod, "main")
    assert host.daemon.cri.exec(container, "stat", "-c", "%t:%T", "/dev/full").stdout == "1:7\n"
    assert (host.root / "var/lib/noted").read_text() == "ran\n"
    said = json.loads(host.inside("/usr/local/bin/nri-inject", "status", "--format", "json"))
    running = [plugin["plugin"] for plugin in said["plugins"]]
    assert running == ["10-device-injector", "30-hook-injector"]


def test_a_launched_plugin_has_a_log_with_the_audit_in_it(
    new_containerd: NewContainerd, build: Path
) -> None:
    host = prepared(new_containerd, build)
    (host.root / "etc/nri/conf.d/20-nri-inject.conf").unlink()
    host.nri_inject("install")
    host.daemon.start()
    pod = host.daemon.cri.run_pod("denied", annotations={DEVICES: "- path: /dev/full"})
    with pytest.raises(CriError, match=r"no rule of /etc/nri-inject/policy\.yaml allows it"):
        host.daemon.cri.run(pod, "main")
    log = host.root / "var/log/nri-inject/20-nri-inject.log"
    until(lambda: '"decision": "deny"' in log.read_text(), "the decision in the log")
    policy = host.root / "etc/nri-inject/policy.yaml"
    policy.write_text(f"{policy.read_text()}rules: []\n")
    with pytest.raises(CriError, match="a newer version of the policy is not in force"):
        host.daemon.cri.run(pod, "main")
    said = json.loads(host.inside("/usr/local/bin/nri-inject", "status", "--format", "json"))
    assert "/etc/nri-inject/policy.yaml: line " in said["plugins"][0]["policy"]["error"]
    host.daemon.cri.remove_all()
    host.daemon.stop()
    _, answer = host.nri_inject("uninstall")
    kept = {row["path"] for row in answer["changes"] if row["what"] == "kept"}
    assert kept == {"/var/log/nri-inject", "/etc/nri-inject/policy.yaml"}


def test_a_launched_plugin_becomes_another_build_without_a_restart(
    new_containerd: NewContainerd, build: Path, tmp_path: Path
) -> None:
    host = prepared(new_containerd, build)
    host.nri_inject("install")
    host.daemon.start()
    folder = tmp_path / "newer"
    shutil.copytree(build.parent, folder, symlinks=True)
    (folder / "note").write_text("another build\n")
    host.program = folder / build.name
    _, answer = host.nri_inject("install")
    assert answer["next"][0].endswith("nri-inject upgrade")
    (release,) = [row["path"] for row in answer["changes"] if row["what"] == "new"]
    said = json.loads(host.inside("/usr/local/bin/nri-inject", "upgrade", "--format", "json"))
    (row,) = said["plugins"]
    assert (row["plugin"], row["error"]) == ("20-nri-inject", "")
    assert release in str(Path(f"/proc/{row['pid']}/exe").readlink())
    pod = host.daemon.cri.run_pod("newer", annotations={DEVICES: "- path: /dev/full"})
    container = host.daemon.cri.run(pod, "main")
    assert host.daemon.cri.exec(container, "stat", "-c", "%t:%T", "/dev/full").stdout == "1:7\n"

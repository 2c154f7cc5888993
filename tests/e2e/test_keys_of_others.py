"""Annotations of CRI-O, GKE, NVIDIA and CDI on real runtimes: read where the admin says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cri import CriError
from .daemon import Daemon
from .plugin import External

RULES = """
policy:
  rules:
    - {name: fuse, allow: {devices: [/dev/fuse, {path: /dev/null, access: rwm}]}}
    - {name: parts, allow: {cdi_devices: ['example.com/part=*']}}
"""
SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/part",
    "devices": [{"name": "a", "containerEdits": {"env": ["PART=a"]}}],
}
SUITE = f"#!{sys.executable}\nfrom nri_inject.plugins.suite import main\nmain()\n"
Start = Callable[[str], External]
DEVICES = {
    "crio": ("devices.crio.io", "/dev/fuse,/dev/null:/dev/nothing:rwm"),
    "crio-old": ("io.kubernetes.cri-o.Devices", "/dev/fuse"),
    "gke": ("devices.gke.io/container.main", "- path: /dev/fuse\n"),
}
NAMES = {
    "nvidia": ("nvidia.cdi.k8s.io/container.main", "example.com/part=a"),
    "cdi": ("cdi.k8s.io/sandbox", "example.com/part=a"),
}


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[Start]:
    """Start the suite with a configuration of the annotations that it reads."""
    cdi_dir = tmp_path / "cdi"
    cdi_dir.mkdir()
    (cdi_dir / "part.json").write_text(json.dumps(SPEC))
    program = tmp_path / "nri-inject"
    program.write_text(SUITE)
    program.chmod(0o755)
    running: list[External] = []

    def start_suite(annotations: str) -> External:
        file = tmp_path / "config.yaml"
        file.write_text(f"{RULES}\nannotations: {annotations}\ncdi: {{dirs: [{cdi_dir}]}}\n")
        log = tmp_path / "plugin.log"
        running.append(External(str(program), runtime, log, "--config", str(file)))
        return running[-1]

    yield start_suite
    for plugin in running:
        plugin.close()


def test_devices_of_others_are_given_where_they_are_switched_on(
    runtime: Daemon, start: Start
) -> None:
    start("{crio: true, gke: true}")
    for name, (key, text) in DEVICES.items():
        pod = runtime.cri.run_pod(name, annotations={key: text})
        container = runtime.cri.run(pod, "main")
        opened = runtime.cri.exec(container, "sh", "-c", "exec 3<>/dev/fuse")
        assert opened.exit_code == 0, opened.stderr
    pod = runtime.cri.run_pod("denied", annotations={"devices.crio.io": "/dev/full:/dev/x"})
    with pytest.raises(CriError) as caught:
        runtime.cri.run(pod, "main")
    assert "annotation devices.crio.io: device '/dev/x'" in str(caught.value)
    assert "no rule of this node's policy allows it" in str(caught.value)


def test_names_of_others_are_given_where_they_are_switched_on(
    runtime: Daemon, start: Start
) -> None:
    start("{nvidia: true}")
    for name, (key, text) in NAMES.items():
        pod = runtime.cri.run_pod(name, annotations={key: text})
        container = runtime.cri.run(pod, "main")
        assert runtime.cri.exec(container, "sh", "-c", "echo $PART").stdout == "a\n"


def test_without_the_switch_they_are_left_alone_and_logged_once(
    runtime: Daemon, start: Start
) -> None:
    plugin = start("{cdi: false}")
    annotations = dict([DEVICES["crio"], DEVICES["gke"], *NAMES.values()])
    pod = runtime.cri.run_pod("alone", annotations=annotations)
    for name in ("main", "other"):
        container = runtime.cri.run(pod, name)
        assert runtime.cri.exec(container, "sh", "-c", "ls /dev/fuse").exit_code != 0
        assert runtime.cri.exec(container, "sh", "-c", "echo $PART").stdout == "\n"
    for key in annotations:
        assert plugin.log.count(f"annotation {key}: the key is ") == 1

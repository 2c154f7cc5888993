"""Our runtime side and a real runtime make the same container of the same plugins' answers."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.capabilities import of_request
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.runtime import Adaptation, World
from nri_inject.stub import Stub

from .conftest import NewRuntime
from .daemon import Daemon
from .plugin import install

# What a runtime drops of this without a word follows from its release; see NEEDS.
FOREIGN = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import api
from nri_inject.plugin import Plugin
from nri_inject.stub import serve

def create(pod, container):
    adjust = api.Adjustment(annotations={{"added.example.com": container.name}})
    for key, value in (("ADDED", "1"), ("-REMOVED", ""), ("-TAKEN", ""), ("TAKEN", "over")):
        adjust.env.add(key=key, value=value)
    adjust.mounts.add(destination="-/removed")
    adjust.mounts.add(destination="/tmp", type="tmpfs", source="tmpfs", options=["size=1m"])
    adjust.hooks.poststop.add(path="/bin/true", args=["true", "x"], timeout={{"value": 3}})
    linux = adjust.linux
    linux.oom_score_adj.value = 77
    linux.resources.cpu.shares.value = 512
    linux.resources.memory.limit.value = 64 << 20
    linux.resources.pids.limit = 50
    adjust.args.extend(["/bin/sleep", "99999"])
    linux.net_devices["lo9"].name = "eth9"
    linux.namespaces.add(type="cgroup")
    return adjust

serve(Plugin(name="foreign", index="40", create_container=create))
"""
ANNOTATIONS = {
    "devices.noderesource.dev/container.main": "- path: /dev/fuse\n"
    "- {path: /dev/mine, type: c, major: 1, minor: 5, file_mode: 0640, uid: 0, gid: 7}\n",
    "mounts.noderesource.dev/pod": "- {source: /etc, destination: /host/etc, type: bind,"
    " options: [rbind, ro]}\n",
    "ulimits.noderesource.dev/pod": "- {type: NOFILE, hard: 900, soft: 800}\n",
    "cdi-devices.noderesource.dev": '["example.com/part=0"]',
}
CDI = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/part",
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["PART=0"],
                "deviceNodes": [{"path": "/dev/part0", "hostPath": "/dev/zero"}],
                "mounts": [{"hostPath": "/usr", "containerPath": "/part", "options": ["bind"]}],
            },
        }
    ],
}
HOOK = {
    "version": "1.0.0",
    "hook": {"path": "/bin/true", "args": ["true"], "env": ["A=b"]},
    "when": {"always": True},
    "stages": ["createRuntime", "poststop"],
}


NEEDS = {
    "oom_score_adj": (0, 7, 0),
    "pids": (0, 7, 0),
    "args": (0, 10, 0),
    "namespaces": (0, 10, 0),
    "net_devices": (0, 11, 0),
}
"""The NRI that carries what the foreign plugin asks for; everything else all of them carry.

A sysctl is not among it, since NRI 0.11 does not survive one.
"""


# What CRI-O names anew each time: layers, pinned namespaces, and when it was.
VARYING = {
    r"[0-9a-f]{64}": "LAYER",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "NAMESPACE",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z": "TIME",
}


class Witness:
    """The first plugin of all: it sees the request, and the runtime, as they are."""

    def __init__(self) -> None:
        self.configured: list[ConfigureRequest] = []
        self.created: list[tuple[Pod, Container]] = []
        self.synchronized = threading.Event()
        self.plugin = Plugin(
            name="witness",
            index="00",
            configure=self.configured.append,
            synchronize=lambda *_: self.synchronized.set(),
            create_container=lambda pod, container: self.created.append((pod, container)),
        )

    @contextmanager
    def beside(self, runtime: Daemon) -> Iterator[None]:
        """Connect to a runtime for as long as the block goes on."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(runtime.nri_socket))
        stub = Stub(self.plugin, connection=connection)

        def run() -> None:
            with suppress(NriError):
                stub.run()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert self.synchronized.wait(30)
            yield
        finally:
            stub.stop()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    """Write what the plugins read, and return their configuration."""
    for name, file, content in (("cdi", "part.json", CDI), ("hooks", "true.json", HOOK)):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    sections = {name: {"dirs": [str(tmp_path / name)]} for name in ("cdi", "hooks")}
    return json.dumps({**sections, "policy": "unrestricted", "unsafe_files": True})


def install_all(runtime: Daemon, config: str) -> None:
    for index, name in (("10", "device"), ("20", "cdi"), ("30", "hook")):
        install(f"nri-{name}-injector", runtime, f"{index}-{name}-injector", config)
    foreign = runtime.plugin_dir / "40-foreign"
    foreign.write_text(FOREIGN.format(python=sys.executable, path=sys.path))
    foreign.chmod(0o755)


def run(runtime: Daemon) -> tuple[str, str]:
    """Run the pod and its container; return both ids."""
    pod = runtime.cri.run_pod("same", annotations=ANNOTATIONS)
    mounts = [{"container_path": "/removed", "host_path": "/var"}]
    envs = {"KEPT": "1", "REMOVED": "1", "TAKEN": "1"}
    return pod, runtime.cri.run(pod, "main", envs=envs, mounts=mounts)


def spec_of(runtime: Daemon, pod: str, container: str) -> Any:
    """Return the bundle's spec, with what differs from run to run replaced by its name."""
    spec = runtime.bundle_spec(container)
    told = runtime.cri.call("PodSandboxStatus", pod_sandbox_id=pod, verbose=True)
    process = json.loads(told.info["info"]).get("pid", "no process")
    uid = told.status.metadata.uid
    text = json.dumps(spec).replace(container, "CONTAINER").replace(pod, "POD").replace(uid, "UID")
    for pattern, name in VARYING.items() if runtime.name == "cri-o" else ():
        text = re.sub(pattern, name, text)
    return json.loads(text.replace(f"/proc/{process}/", "/proc/PID/"))


def test_the_same_plugins_make_the_same_container(new_runtime: NewRuntime, plugins: str) -> None:
    runtime, witness = new_runtime(), Witness()
    runtime.start()
    untouched = spec_of(runtime, *run(runtime))
    runtime.cri.remove_all()
    runtime.stop()
    install_all(runtime, plugins)
    runtime.start()
    with witness.beside(runtime):
        pod, container = run(runtime)
        theirs = spec_of(runtime, pod, container)
    told_pod, told_container = witness.created[-1]
    with Adaptation(of_request(witness.configured[0])) as adaptation:
        world = World(adaptation)
        assert adaptation.launch(runtime.plugin_dir, runtime.plugin_conf_dir) == []
        world.run_pod(told_pod)
        made = world.create(told_container, untouched)
        assert adaptation.dropped == []
        lost = {field for field, needed in NEEDS.items() if adaptation.runtime.nri < needed}
        assert adaptation.plugins == [path.name for path in sorted(runtime.plugin_dir.iterdir())]
    # The plugins' marks have the container's id.
    assert json.loads(json.dumps(made.spec).replace(container, "CONTAINER")) == theirs != untouched
    assert {each.loss.field for each in made.created.lost} == lost

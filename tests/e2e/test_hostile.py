"""Hostile pods cost themselves their containers: the plugin stays, and serves the next pod.

A runtime drops a plugin that takes 2 s for an answer, for the whole node.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import closing, suppress
from pathlib import Path

import hostile
import players
import pytest
from hostile import Text

from nri_inject.api import CreateContainerResponse
from nri_inject.errors import RemoteError

from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon
from .plugin import install

SUITE = "20-nri-inject"
UNRESTRICTED = "policy: unrestricted\n"
CREATIONS = int(os.environ.get("NRI_INJECT_HOSTILE_CREATIONS", "4"))
"""How often each hostile pod has its container created, as the kubelet tries again and again."""

KEYS = "".join(f"k{number}: a\n" for number in range(20_000))
HOSTILE = {
    "commas": {"cdi.k8s.io/a": "," * 256_000},
    "names": {"cdi.k8s.io/a": "v.com/c=d," * 25_000},
    "many texts of names": {f"cdi.k8s.io/{number:05}": "," for number in range(14_000)},
    "keys": {"sysctl.noderesource.dev": KEYS},
    "values": {"devices.noderesource.dev": f"[{'a,' * 120_000}]"},
    "aliases": {"mounts.noderesource.dev": "- &a {destination: /x}\n" + "- *a\n" * 45_000},
    "brackets": {"devices.noderesource.dev": "[" * 256_000},
    "faults": {"ulimits.noderesource.dev": "- {tpye: NOFILE}\n" * 15_000},
    "missing devices": {
        "devices.noderesource.dev": "".join(f"- /dev/x{number}\n" for number in range(250))
    },
    "selectors": {"devices.noderesource.dev": "- usb:1a86:7523:*a*b*c*\n" * 1000},
}
FUSE = {"devices.noderesource.dev": "- path: /dev/fuse\n"}


@pytest.fixture
def daemon(new_runtime: NewRuntime) -> Daemon:
    """Return a runtime that has launched the suite."""
    daemon = new_runtime()
    install("nri-inject", daemon, SUITE, UNRESTRICTED)
    daemon.start()
    return daemon


def test_hostile_pods_fail_again_and_again_and_the_next_pod_has_its_device(daemon: Daemon) -> None:
    for name, asked in HOSTILE.items():
        pod = daemon.cri.run_pod("hostile", "ci", annotations=asked)
        for _ in range(CREATIONS):
            with pytest.raises(CriError, match="pod ci/hostile, container main: ") as caught:
                daemon.cri.create(pod, "main")
            assert len(caught.value.message) < 4096, name
        daemon.cri.remove_pod(pod)
    good = daemon.cri.run_pod("good", "ci", annotations=FUSE)
    container = daemon.cri.run(good, "main")
    assert daemon.cri.exec(container, "test", "-c", "/dev/fuse").exit_code == 0


def test_a_thousand_hostile_requests_do_not_end_the_plugin(tmp_path: Path) -> None:
    """The runtime's side is ours: a thousand creations take a real runtime too long."""
    program = tmp_path / SUITE
    program.write_text(f"#!{sys.executable}\nfrom nri_inject.plugins.suite import main\nmain()\n")
    program.chmod(0o755)
    chosen = random.Random(1)
    readers = (*hostile.DEVICE_READERS, *hostile.CDI_READERS, *hostile.HOOK_READERS)
    with closing(players.start(program, UNRESTRICTED)) as peer:
        for _ in range(1000):
            reader = chosen.choice(readers)
            fragments = tuple(chosen.choices(reader.fragments, k=chosen.randint(1, 3)))
            text = Text(chosen.choice(reader.frames), fragments, chosen.choice(hostile.SHARES))
            with suppress(RemoteError):  # what it costs the plugin's life is ConnectionLost
                peer.request("CreateContainer", reader.asked(text), CreateContainerResponse)
        answer = peer.request("CreateContainer", hostile.asking(FUSE), CreateContainerResponse)
    assert [device.path for device in answer.adjust.linux.devices] == ["/dev/fuse"]

"""Plugins and requests that the benchmarks play with, launched and fed as runtimes do it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nri_inject.api import Container, CreateContainerRequest, CreateContainerResponse, Mount, Pod
from nri_inject.capabilities import NEWEST
from nri_inject.runtime.launcher import launch
from nri_inject.runtime.peer import Peer

_FLOOR = """#!{python}
from nri_inject import Plugin, serve
serve(Plugin(name="floor", index="10", create_container=lambda pod, container: None))
"""
_SUITE = """#!{python}
from nri_inject.plugins.suite import main
main()
"""


def floor(directory: str | Path) -> Path:
    """Write the program of a plugin that does nothing, and return its path."""
    return _program(Path(directory, "10-floor"), _FLOOR)


def suite(directory: str | Path) -> Path:
    """Write the program of all injectors in one process, and return its path."""
    return _program(Path(directory, "10-suite"), _SUITE)


def _program(place: Path, text: str) -> Path:
    place.write_text(text.format(python=sys.executable))
    place.chmod(0o755)
    return place


def start(program: Path, config: str = "") -> Peer:
    """Launch a plugin and bring it to where it serves requests."""
    peer = launch(program)
    peer.register()
    peer.configure(NEWEST, config)
    peer.synchronize([], [])
    return peer


def request_of(
    annotations: Mapping[str, str], args: Sequence[str] = ("sh",)
) -> CreateContainerRequest:
    """Return a request of realistic size: 30 variables, 12 mounts, 8 labels."""
    labels = {f"app.example.com/label-{number}": f"value {number}" for number in range(8)}
    return CreateContainerRequest(
        pod=Pod(
            id="p" * 64, name="pod", namespace="default", annotations=annotations, labels=labels
        ),
        container=Container(
            id="c" * 64,
            pod_sandbox_id="p" * 64,
            name="main",
            labels=labels,
            args=args,
            env=[f"VARIABLE_{number}=some value of it" for number in range(30)],
            mounts=[
                Mount(destination=f"/mnt/{n}", type="bind", source=f"/srv/{n}", options=["rbind"])
                for n in range(12)
            ],
        ),
    )


def play(peer: Peer, request: CreateContainerRequest, times: int) -> list[float]:
    """Return how many seconds each of some equal requests took."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        peer.request("CreateContainer", request, CreateContainerResponse)
        seconds.append(time.perf_counter() - began)
    return seconds


def resident(pid: int | str | None) -> int:
    """Return a process's resident memory in kB, and what its children have beside it."""
    own = kilobytes(Path(f"/proc/{pid}/status").read_text())
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = "".join((task / "children").read_text() for task in tasks).split()
    return own + sum(map(_private, children))


def _private(pid: str) -> int:
    """Return the memory that a process shares with no other, in kB."""
    words = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line[1]) for line in words if line[0].startswith("Private_"))


def kilobytes(status: str) -> int:
    """Return the resident memory that the text of a status file tells."""
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

"""How long a container waits for the device injector, on the embedded runtime side.

    .venv/bin/python benchmarks/embedded.py [ROUNDS]

Plays CreateContainer requests of realistic size (30 variables, 12 mounts) against the installed
nri-device-injector and, in turn, against a plugin of ours that does nothing: the difference is
the injector's own cost. One table; the figures are of this machine and this moment, so compare
rows of one run only.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nri_inject.api import Container, CreateContainerRequest, CreateContainerResponse, Mount, Pod
from nri_inject.runtime.peer import Peer, launch
from nri_inject.runtimes import NEWEST

PER_ROUND = 1000
ANNOTATIONS = {
    "no annotation": {},
    "two devices and a mount": {
        "devices.noderesource.dev/container.main": "- path: /dev/fuse\n"
        "- {path: /dev/null2, type: c, major: 1, minor: 3}\n",
        "mounts.noderesource.dev/pod": "- {source: /etc, destination: /host/etc, type: bind,"
        " options: [rbind, ro]}\n",
    },
}
FLOOR = """#!{python}
from nri_inject import Plugin, serve
serve(Plugin(name="floor", index="10", create_container=lambda pod, container: None))
"""


def main(rounds: int) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as directory:
        floor = Path(directory, "10-floor")
        floor.write_text(FLOOR.format(python=sys.executable))
        floor.chmod(0o755)
        injector = Path(directory, "10-device-injector")
        injector.symlink_to(Path(sys.executable).with_name("nri-device-injector"))
        peers = {"does nothing": _start(floor), "device injector": _start(injector)}
        before = {name: _resident(peer) for name, peer in peers.items()}
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for what, annotations in ANNOTATIONS.items():
                request = _request(annotations)
                for name, peer in peers.items():
                    times.setdefault((what, name), []).extend(_play(peer, request))
        print(f"{'request':26}{'plugin':18}{'p50 µs':>8}{'p90 µs':>8}{'p99 µs':>8}")
        for (what, name), seconds in times.items():
            cuts = statistics.quantiles(seconds, n=100)
            figures = "".join(f"{cuts[percent - 1] * 1e6:8.0f}" for percent in (50, 90, 99))
            print(f"{what:26}{name:18}{figures}")
        for name, peer in peers.items():
            after = _resident(peer)
            print(f"resident memory, {name}: {before[name]} kB idle, {after} kB in the end")
            peer.close()
        print(f"resident memory, python -I -c pass: {_bare()} kB")


def _start(program: Path) -> Peer:
    peer = launch(program)
    peer.register()
    peer.configure(NEWEST)
    peer.synchronize([], [])
    return peer


def _request(annotations: dict[str, str]) -> CreateContainerRequest:
    return CreateContainerRequest(
        pod=Pod(id="p" * 64, name="pod", namespace="default", annotations=annotations),
        container=Container(
            id="c" * 64,
            pod_sandbox_id="p" * 64,
            name="main",
            args=["sh"],
            env=[f"VARIABLE_{number}=some value of it" for number in range(30)],
            mounts=[
                Mount(destination=f"/mnt/{n}", type="bind", source=f"/srv/{n}", options=["rbind"])
                for n in range(12)
            ],
        ),
    )


def _play(peer: Peer, request: CreateContainerRequest) -> list[float]:
    seconds = []
    for _ in range(PER_ROUND):
        start = time.perf_counter()
        peer.request("CreateContainer", request, CreateContainerResponse)
        seconds.append(time.perf_counter() - start)
    return seconds


def _resident(peer: Peer) -> int:
    return _kilobytes(Path(f"/proc/{peer.pid}/status").read_text())


def _bare() -> int:
    script = "print(open('/proc/self/status').read())"
    command = [sys.executable, "-I", "-c", script]
    return _kilobytes(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _kilobytes(status: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

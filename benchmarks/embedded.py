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
from pathlib import Path

from players import floor, kilobytes, play, request_of, resident, start

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


def main(rounds: int) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as directory:
        injector = Path(directory, "10-device-injector")
        injector.symlink_to(Path(sys.executable).with_name("nri-device-injector"))
        peers = {"does nothing": start(floor(directory)), "device injector": start(injector)}
        before = {name: resident(peer.pid) for name, peer in peers.items()}
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for what, annotations in ANNOTATIONS.items():
                request = request_of(annotations)
                for name, peer in peers.items():
                    times.setdefault((what, name), []).extend(play(peer, request, PER_ROUND))
        print(f"{'request':26}{'plugin':18}{'p50 µs':>8}{'p90 µs':>8}{'p99 µs':>8}")
        for (what, name), seconds in times.items():
            cuts = statistics.quantiles(seconds, n=100)
            figures = "".join(f"{cuts[percent - 1] * 1e6:8.0f}" for percent in (50, 90, 99))
            print(f"{what:26}{name:18}{figures}")
        for name, peer in peers.items():
            after = resident(peer.pid)
            print(f"resident memory, {name}: {before[name]} kB idle, {after} kB in the end")
            peer.close()
        print(f"resident memory, python -I -c pass: {_bare()} kB")


def _bare() -> int:
    script = "print(open('/proc/self/status').read())"
    command = [sys.executable, "-I", "-c", script]
    return kilobytes(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

"""The node of a cluster ends with the tests, however they end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e import leftovers, poll
from e2e.daemon import PREFIX

from .programs import CACHE

BOOT = """\
import sys, time
from pathlib import Path
from kubernetes.node import Node
node = Node(Path(sys.argv[1]))
node.boot()
node.start("daemon", ["tail", "--follow", sys.argv[1] + "/boot.log"], "/usr/bin:/bin")
print("booted", flush=True)
time.sleep(1000)
"""


def test_a_node_ends_with_the_process_that_booted_it() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=CACHE))
    (directory / "claim").touch()

    def processes() -> list[int]:
        return [*leftovers.processes_of(directory)]

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BOOT, str(directory)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as booting:
        assert booting.stdout is not None
        try:
            assert booting.stdout.readline() == b"booted\n"
            poll.until(processes, "the daemon to run")
        finally:
            booting.kill()
    poll.until(lambda: not processes(), "the node to end")
    assert str(directory) not in Path("/proc/self/mounts").read_text()
    # Its files and cgroups remain, and the next cluster removes them.
    leftovers.sweep(CACHE, PREFIX)
    assert not directory.exists()
    assert not [
        *leftovers.CGROUPS.glob(directory.name),
        *leftovers.CGROUPS.glob(f"*/{directory.name}"),
    ]

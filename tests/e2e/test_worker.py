"""Workers that are killed and stopped while containers are created: each has its device.

NRI_E2E_ROUNDS is how many rounds of trouble there are.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import statistics
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nri_inject.service.health import status

from .conftest import NewRuntime
from .creations import CLIENTS, FUSE, POD, ROUNDS, Creation, running
from .cri import CriError
from .daemon import Daemon
from .plugin import External, install
from .poll import until

COMMAND = "nri-device-injector"
KILLS = 7  # in a round: by turns at once, and while a request waits for a stopped worker
STOPS = 1  # in a round: stopped and not killed by the test

_LIBC = ctypes.CDLL(None)
_PIDFD_GETFD = 438  # pidfd_getfd(2), of Linux 5.6

WAITED = re.compile(r"worker \d+ .* in (\w+) of pod default/shop(?:, container (\S+))?; another")


def child_of(pid: int) -> int:
    """Return the one living child of a process, 0 if there is none at the moment."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    alive = [child for child in listed if _state(child) not in "ZX"]
    return int(alive[0]) if len(alive) == 1 else 0


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def wait_for_a_request(worker: int) -> None:
    """Wait until a stopped worker has something to read, for a part of the parent's patience."""
    process = os.pidfd_open(worker)
    links = Path(f"/proc/{worker}/fd").iterdir()
    numbers = [int(link.name) for link in links if str(link.readlink()).startswith("socket:")]
    copies = [_LIBC.syscall(_PIDFD_GETFD, process, number, 0) for number in numbers]
    deadline = time.monotonic() + 1.0
    while not any(map(_unread, copies)) and time.monotonic() < deadline:
        time.sleep(0.001)
    for descriptor in (process, *copies):
        os.close(descriptor)


def _unread(descriptor: int) -> int:
    try:
        answer = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    except OSError:  # a socket that listens
        return 0
    return int.from_bytes(answer, sys.byteorder)


@dataclass
class Trouble:
    """Kill and stop the workers of a plugin, round after round, until all is done."""

    plugin: int
    creation: Creation
    done: threading.Event = field(default_factory=threading.Event)
    kills: int = 0
    stops: int = 0

    def run(self) -> None:
        """Make the trouble of all rounds, spread over the time that the creations take."""
        for number in range(ROUNDS * KILLS):
            self._settle()
            if self.done.is_set():
                return
            worker = self._worker()
            if number % 3:  # a request comes meanwhile, and waits
                os.kill(worker, signal.SIGSTOP)
                wait_for_a_request(worker)
            os.kill(worker, signal.SIGKILL)
            self.kills += 1
            if number % (KILLS // STOPS) == 0:
                self._settle()
                self._stop(self._worker())

    def _stop(self, worker: int) -> None:
        os.kill(worker, signal.SIGSTOP)
        until(lambda: self.done.is_set() or child_of(self.plugin) not in (0, worker), "another")
        if child_of(self.plugin) == worker:  # nothing has been created since
            os.kill(worker, signal.SIGCONT)
        else:
            self.stops += 1

    def _worker(self) -> int:
        return until(lambda: child_of(self.plugin), "a worker")

    def _settle(self) -> None:
        """Let the creations end that have met trouble: one that meets it twice may fail."""
        ended = len(self.creation.seconds) + CLIENTS
        until(lambda: self.done.is_set() or len(self.creation.seconds) >= ended, "creations")


@pytest.fixture
def plugin(runtime: Daemon, tmp_path: Path) -> Iterator[External]:
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    log = tmp_path / "plugin.log"
    with closing(External(COMMAND, runtime, log, "--config", str(config))) as started:
        yield started


def troubled(daemon: Daemon, pid: int) -> Creation:
    """Create containers while workers are killed and stopped; each has its device."""
    creation = Creation(daemon, daemon.cri.run_pod(POD, annotations=FUSE))
    trouble = Trouble(pid, creation)
    creation.run_beside(trouble)
    assert failures(pid) == trouble.kills + trouble.stops
    print(  # noqa: T201 - the figures of a soak
        f"\n{daemon.name}: {len(creation.seconds)} containers in"
        f" {creation.ended - creation.began:.0f} s, all with their device,"
        f" {trouble.kills} kills, {trouble.stops} stops"
    )
    return creation


def failures(pid: int) -> int:
    """Return how many workers a service has replaced, by its own account."""
    documents = filter(None, status.ask_all(status.DIRECTORY).values())
    (failed,) = [document["worker"]["failures"] for document in documents if document["pid"] == pid]
    return int(failed)


@pytest.mark.soak
def test_each_container_has_its_device_however_often_the_worker_of_a_service_dies(
    runtime: Daemon, plugin: External
) -> None:
    creation = troubled(runtime, plugin.process.pid)
    waited = WAITED.findall(plugin.log)
    met = [name for kind, name in waited if kind == "CreateContainer"]
    delays = [creation.seconds[name] for name in met]
    usual = [seconds for name, seconds in creation.seconds.items() if name not in met]
    took = (
        f"which takes {statistics.median(usual):.3f} s, and then {statistics.median(delays):.3f} s,"
        f" longest {max(delays):.3f} s"
        if usual and delays  # other requests may have met the trouble of a few rounds
        else "not measured"
    )
    print(  # noqa: T201 - as above
        f"{len(waited)} times a request waited meanwhile, {len(met)} times a creation, {took}"
    )
    assert len(waited) >= ROUNDS * KILLS // 2
    assert "lost the connection" not in plugin.log
    assert plugin.process.poll() is None


@pytest.mark.soak
def test_each_container_has_its_device_however_often_the_worker_of_a_launched_plugin_dies(
    new_runtime: NewRuntime,
) -> None:
    daemon = new_runtime()
    install(COMMAND, daemon, "10-device-injector", "policy: unrestricted\n")
    daemon.start()
    program = str(daemon.plugin_dir / "10-device-injector")
    (parent,) = [pid for pid in running(program) if child_of(pid)]
    troubled(daemon, parent)
    assert parent in running(program)


def test_a_worker_that_hangs_at_a_request_twice_fails_it_and_the_node_goes_on(
    runtime: Daemon, plugin: External
) -> None:
    pod = runtime.cri.run_pod(POD, annotations=FUSE)
    stopping = threading.Event()

    def stop_each() -> None:
        while not stopping.is_set():
            if worker := child_of(plugin.process.pid):
                os.kill(worker, signal.SIGSTOP)
            time.sleep(0.002)

    thread = threading.Thread(target=stop_each)
    thread.start()
    try:
        with pytest.raises(CriError) as caught:
            runtime.cri.create(pod, "unlucky")
    finally:
        stopping.set()
        thread.join()
    assert "pod default/shop, container unlucky: plugin 10-device-injector failed in" in str(
        caught.value
    )
    container = runtime.cri.run(pod, "lucky")
    assert runtime.cri.exec(container, "test", "-c", "/dev/fuse").exit_code == 0

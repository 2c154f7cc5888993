"""The end of a worker, in an order that seldom happens: a parent and workers of a few lines."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from support.launching import BOUND

from nri_inject import api
from nri_inject.capabilities import NEWEST
from nri_inject.runtime.peer import Peer, wait

pytestmark = pytest.mark.slow

FIRST_PAUSE = 0.4

PROGRAM = """
import os, pathlib, select, signal, sys, time
from nri_inject.api import Adjustment, ConfigureResponse, CreateContainerResponse, KeyValue
from nri_inject.api import RegisterPluginRequest, SynchronizeResponse
from nri_inject.service.base import LOST
from nri_inject.service.parent.process import Parent
from nri_inject.stub.limits import Limits
from nri_inject.wire.session import Call, Role, Session

path, count, behaviour = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Work:
    def __call__(self, held, *, resumes, failures):
        print(os.getpid(), time.monotonic(), flush=True)
        return LOST if behaviour == "is lost" else serve(held, failures)

def serve(held, failures):
    sessions = {connection: Session(Role.PLUGIN) for connection in held}
    for connection, session in sessions.items():
        connection.setblocking(True)
        session.call("RegisterPlugin", RegisterPluginRequest(plugin_name="x", plugin_idx="10"))
        connection.sendall(session.outgoing())
    while True:
        for connection in select.select(held, [], [])[0]:
            data = connection.recv(65536)
            if not data:
                return LOST
            for event in sessions[connection].receive(data):
                if isinstance(event, Call):
                    sessions[connection].answer(event, response(event.method, failures))
            if event.method == "CreateContainer" and behaviour == "closes one" and not failures:
                os.kill(os.getppid(), signal.SIGSTOP)
                while pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().split()[2] != "T":
                    pass
                held[0].close()
                connection.sendall(sessions[connection].outgoing())
                os.kill(os.getpid(), signal.SIGKILL)
            connection.sendall(sessions[connection].outgoing())

def response(method, failures):
    if method == "CreateContainer":
        env = [KeyValue(key="FAILURES", value=str(failures))]
        return CreateContainerResponse(adjust=Adjustment(env=env))
    return {"Configure": ConfigureResponse, "Synchronize": SynchronizeResponse}[method]()

def note_quiet(moment):
    "Kill the worker, and see it end, where the runtime's end is there and not yet read."
    victim = pathlib.Path(path + ".victim")
    if victim.exists():
        pid = int(victim.read_text())
        victim.unlink()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

limits = Limits(first_pause=FIRST_PAUSE)
parent = Parent(
    Work(), "10-x", socket_path=path, count=count, limits=limits, note_quiet=note_quiet
)
sys.exit(parent.run())
""".replace("FIRST_PAUSE", str(FIRST_PAUSE))


class Service:
    """The program, and the runtime's socket that it connects to."""

    def __init__(self, path: Path, process: subprocess.Popen[str], listener: socket.socket) -> None:
        self.path = path
        self.process = process
        self._listener = listener

    def started(self) -> tuple[int, float]:
        """Return the next worker's process, and when it began."""
        assert self.process.stdout is not None
        pid, moment = self.process.stdout.readline().split()
        return int(pid), float(moment)

    def connected(self, count: int) -> list[Peer]:
        """Accept that many connections, and shake hands."""
        peers = [Peer(self._listener.accept()[0]) for _ in range(count)]
        for peer in peers:
            peer.register(BOUND)
            peer.configure(NEWEST, "", BOUND)
            peer.synchronize([], [], BOUND)
        return peers


@contextmanager
def service(where: Path, count: int, behaviour: str) -> Iterator[Service]:
    path = where / "nri.sock"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(count), behaviour],
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(process.kill)
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(BOUND)
        yield Service(path, process, listener)


def failures_told(answer: api.CreateContainerResponse) -> int:
    return int(answer.adjust.env[0].value)


REQUEST = api.CreateContainerRequest(
    pod=api.Pod(id="p", name="web", namespace="shop"), container=api.Container(id="c", name="main")
)


def test_after_a_worker_that_is_lost_before_it_registered_there_is_a_pause(tmp_path: Path) -> None:
    with service(tmp_path, 1, "is lost") as running:
        _, second, third = (running.started()[1] for _ in range(3))
    assert third - second >= FIRST_PAUSE / 2  # pauses are spread by half


def test_a_worker_that_is_reaped_before_its_socket_was_read_is_not_the_end_of_the_next(
    tmp_path: Path,
) -> None:
    with service(tmp_path, 1, "serves") as running:
        (peer,) = running.connected(1)
        Path(f"{running.path}.victim").write_text(str(running.started()[0]))
        peer.close()
        (peer,) = running.connected(1)
        with closing(peer):
            answer = peer.request("CreateContainer", REQUEST, api.CreateContainerResponse, BOUND)
    assert failures_told(answer) == 0


def test_an_answer_counts_though_another_connection_of_its_worker_ended_before(
    tmp_path: Path,
) -> None:
    with service(tmp_path, 2, "closes one") as running:
        first, second = running.connected(2)
        with closing(first), closing(second):
            pending = second.begin("CreateContainer", REQUEST, BOUND)
            with os.fdopen(os.pidfd_open(running.started()[0])) as ended:
                poll = select.poll()
                poll.register(ended, select.POLLIN)
                assert poll.poll(BOUND * 1000)
            running.process.send_signal(signal.SIGCONT)
            wait(pending)
            assert failures_told(pending.result(api.CreateContainerResponse)) == 0
            again = second.request("CreateContainer", REQUEST, api.CreateContainerResponse, BOUND)
            assert failures_told(again) == 1

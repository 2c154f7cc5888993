"""A service under its parent: real processes, and the workers that are killed, stopped and hang."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.children import family
from support.launching import BOUND, Running, launched

from nri_inject import api
from nri_inject.capabilities import NEWEST
from nri_inject.errors import RemoteError
from nri_inject.runtime.peer import REQUEST_TIMEOUT, Peer, Timeouts, configuration, wait
from nri_inject.service.health.status import ask_all

pytestmark = pytest.mark.slow

KILLS = 100

PROGRAM = """#!{python}
import os, signal, sys, time
from nri_inject.api import Adjustment, KeyValue
from nri_inject.plugin import Plugin
from nri_inject.service.command import Command

class Service:
    def __init__(self, options, _):
        self.plugin = Plugin(
            name=options.name, index=options.idx, create_container=self.create,
            stop_pod_sandbox=self.stop,
        )

    def attach(self, stub):
        self.stub = stub

    def close(self): ...

    def stop(self, pod):
        os.kill(os.getpid(), signal.SIGKILL)

    def create(self, pod, container):
        if container.name == "kills":
            os.kill(os.getpid(), signal.SIGSEGV)
        if container.name == "leaves":
            self.stub.stop()
        if container.name == "hangs":
            time.sleep(60)
        if container.name == "echoes":
            return Adjustment(env=[KeyValue(key="ECHO", value=container.env[0] * 5)])
        if container.name == "waits" and os.path.exists(container.args[0]):
            open(container.args[0]).read()
        return Adjustment(env=[KeyValue(key="PID", value=str(os.getpid()))])

Command(name="fragile", idx="10", service=Service, help="", example="")()
"""

POD = api.Pod(id="p", name="web", namespace="shop")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "10-fragile"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return path


PATIENT = Timeouts(request=BOUND)  # a loaded machine may take longer than a runtime's 2 s


def begin(
    running: Running, timeouts: Timeouts = PATIENT, config: str = "policy: unrestricted\n"
) -> None:
    """Let a runtime with these timeouts register, configure and synchronize the plugin."""
    running.peer.register(BOUND)
    configure = configuration(NEWEST, config, timeouts)
    running.peer.request("Configure", configure, api.ConfigureResponse, BOUND)
    running.peer.synchronize([], [], BOUND)


@pytest.fixture
def running(program: Path, tmp_path: Path) -> Iterator[Running]:
    with launched(program, "-q", NRI_INJECT_STATUS_DIR=str(tmp_path / "status")) as plugin:
        begin(plugin)
        yield plugin


def request(name: str, *args: str) -> api.CreateContainerRequest:
    return api.CreateContainerRequest(
        pod=POD, container=api.Container(id=name, name=name, args=args)
    )


def ask(running: Running, name: str = "main", timeout: float = BOUND) -> int:
    """Create a container; return the process that answered."""
    answer = running.peer.request(
        "CreateContainer", request(name), api.CreateContainerResponse, timeout
    )
    return int(answer.adjust.env[0].value)


def refusal(running: Running, name: str) -> str:
    with pytest.raises(RemoteError) as caught:
        ask(running, name)
    return caught.value.message


def exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_a_worker_serves_and_its_parent_does_not(running: Running) -> None:
    assert ask(running) == ask(running) != running.process.pid


def test_a_request_that_waits_is_served_by_the_next_worker_each_time(
    running: Running, tmp_path: Path
) -> None:
    pids = [ask(running)]
    for number in range(KILLS):
        gate = tmp_path / f"gate-{number}"
        os.mkfifo(gate)
        pending = running.peer.begin("CreateContainer", request("waits", str(gate)))
        with gate.open("w"):  # opens when the handler has: the request is being served
            gate.unlink()
            os.kill(pids[-1], signal.SIGKILL)
            wait(pending)
        answer = pending.result(api.CreateContainerResponse)
        pids.append(int(answer.adjust.env[0].value))
    assert len(set(pids)) == KILLS + 1
    assert not any(map(exists, pids[:-1]))


def test_a_stopped_worker_is_replaced_before_the_runtime_gives_up(program: Path) -> None:
    timeouts = Timeouts(request=4.0)  # so that the next worker has a second to start
    with launched(program) as running:
        begin(running, timeouts)
        worker = ask(running)
        os.kill(worker, signal.SIGSTOP)
        assert ask(running, timeout=timeouts.request) != worker
        assert not exists(worker)


def test_a_request_that_kills_its_workers_fails_and_others_are_served(running: Running) -> None:
    worker = ask(running)
    text = refusal(running, "kills")
    assert text.startswith(
        "pod shop/web, container kills: plugin 10-fragile failed in CreateContainer:"
        f" worker {worker} was killed by signal 11 (SIGSEGV), then worker "
    )
    assert ask(running) != worker


def test_a_request_that_hangs_its_workers_fails_in_time_and_others_are_served(
    program: Path,
) -> None:
    with launched(program) as running:
        begin(running, Timeouts())
        with pytest.raises(RemoteError) as caught:
            ask(running, "hangs", REQUEST_TIMEOUT)
        assert "did not answer in 1.5 s, then no answer in 1.85 s" in caught.value.message
        ask(running)


def test_a_notice_that_kills_its_workers_is_answered_well(running: Running) -> None:
    running.peer.request(
        "StopPodSandbox", api.StopPodSandboxRequest(pod=POD), api.StopPodSandboxResponse, BOUND
    )
    ask(running)


def test_the_status_is_of_the_parent_and_counts_workers(running: Running, tmp_path: Path) -> None:
    ask(running)
    os.kill(ask(running), signal.SIGKILL)
    worker = ask(running)
    (document,) = ask_all(str(tmp_path / "status")).values()
    assert document is not None
    assert (document["pid"], document["phase"]) == (running.process.pid, "synchronized")
    assert document["worker"] == {"pid": worker, "failures": 1}
    assert document["containers"]["asked"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both(running: Running, number: int) -> None:
    worker = ask(running)
    running.process.send_signal(number)
    running.process.communicate(timeout=BOUND)
    assert (running.process.returncode, exists(worker)) == (0, False)


def test_both_end_when_the_runtime_does(running: Running) -> None:
    worker = ask(running)
    assert running.end()[0] == 0
    assert not exists(worker)


def test_a_worker_does_not_outlive_its_parent(running: Running) -> None:
    worker = ask(running)
    running.process.kill()
    with os.fdopen(os.pidfd_open(worker)) as ended:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(BOUND * 1000)


def test_the_kernel_ends_the_worker_first_when_memory_runs_out(running: Running) -> None:
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    before = score(running.process.pid)
    assert score(ask(running)) == min(before + 50, 1000)


def test_without_a_worker_the_process_serves_itself(program: Path) -> None:
    with launched(program, "--no-worker") as plugin:
        plugin.configured()
        assert ask(plugin) == plugin.process.pid


def test_a_service_that_cannot_start_ends_as_before(program: Path) -> None:
    with launched(program, "--idx", "x") as plugin:
        _, log = plugin.process.communicate(timeout=BOUND)
    assert plugin.process.returncode == 2
    assert log.count("\n") == 1


def test_long_messages_pass_and_wait_for_a_runtime_that_does_not_read(running: Running) -> None:
    text = "x" * 200_000
    asked = api.CreateContainerRequest(
        pod=POD, container=api.Container(id="c", name="echoes", env=[text])
    )
    # The answers are more than the parent keeps before it reads no further from its worker.
    pending = [running.peer.begin("CreateContainer", asked, BOUND) for _ in range(12)]
    wait(*pending)
    answers = [one.result(api.CreateContainerResponse) for one in pending]
    assert {len(answer.adjust.env[0].value) for answer in answers} == {5 * len(text)}
    ask(running)


def test_a_worker_that_wants_to_end_ends_the_service(running: Running) -> None:
    ask(running, "leaves")
    running.process.communicate(timeout=BOUND)
    assert running.process.returncode == 0


def test_a_worker_that_finds_a_faulty_configuration_fails_requests_until_it_is_mended(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    with launched("nri-device-injector", "--config", str(config), "--unsafe-files") as running:
        begin(running, config="")
        ask_nothing(running)
        config.write_text("polizy: unrestricted\n")
        os.kill(worker_of(running), signal.SIGKILL)
        with pytest.raises(
            RemoteError, match="cannot use its options or its configuration; its log"
        ):
            ask_nothing(running)
        config.write_text("policy: unrestricted\n")
        ask_nothing(running)


def test_a_service_outlives_its_runtime_and_so_do_its_counts(program: Path, tmp_path: Path) -> None:
    where, path = tmp_path / "status", tmp_path / "nri.sock"
    environ = {"NRI_INJECT_STATUS_DIR": str(where)}
    command = [str(program), "-q", "--socket-path", str(path)]
    with (
        socket.socket(socket.AF_UNIX) as listener,
        subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, text=True) as process,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(process.kill)
        while not (documents := [*filter(None, ask_all(str(where)).values())]):
            assert process.poll() is None
        assert [(one["pid"], one["phase"]) for one in documents] == [(process.pid, "disconnected")]
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(BOUND)
        for count in (1, 2):
            with closing(Peer(listener.accept()[0])) as peer:
                begin(Running(process, peer))
                ask(Running(process, peer))
                (document,) = filter(None, ask_all(str(where)).values())
                assert (document["pid"], document["phase"]) == (process.pid, "synchronized")
                assert (document["containers"]["asked"], document["worker"]["failures"]) == (
                    count,
                    0,
                )
        process.terminate()
        assert process.wait(BOUND) == 0


# --- what a worker knows from the one before ------------------------------------------------------


def worker_of(running: Running) -> int:
    return family(running.process.pid)[1]


def test_the_next_worker_assigns_cpus_as_the_one_before(tmp_path: Path) -> None:
    with launched("nri-resource-assigner", NRI_INJECT_STATUS_DIR=str(tmp_path)) as running:
        begin(running)

        def create(name: str) -> api.CreateContainerResponse:
            return running.peer.request(
                "CreateContainer", request(name), api.CreateContainerResponse, BOUND
            )

        first = create("first")
        os.kill(worker_of(running), signal.SIGKILL)
        assert create("first") == first


def test_the_next_worker_reports_what_was_missed(tmp_path: Path) -> None:
    annotations = {"devices.noderesource.dev/pod": "- path: /dev/full"}
    pod = api.Pod(id="p", name="web", namespace="shop", annotations=annotations)
    missed = api.Container(
        id="c", name="app", pod_sandbox_id="p", state=api.ContainerState.CONTAINER_RUNNING
    )
    with launched("nri-device-injector", NRI_INJECT_STATUS_DIR=str(tmp_path)) as running:
        running.peer.register(BOUND)
        configure = configuration(NEWEST, "policy: unrestricted\n", PATIENT)
        running.peer.request("Configure", configure, api.ConfigureResponse, BOUND)
        running.peer.synchronize([pod], [missed], BOUND)

        def found() -> int:
            (document,) = ask_all(str(tmp_path)).values()
            return 0 if document is None else int(document["missed"]["count"])

        while not found():  # compared between requests
            ask_nothing(running)
        os.kill(worker_of(running), signal.SIGKILL)
        ask_nothing(running)
        assert found() == 1
        gone = api.RemoveContainerRequest(pod=pod, container=missed)
        running.peer.request("RemoveContainer", gone, api.RemoveContainerResponse, BOUND)
        os.kill(worker_of(running), signal.SIGKILL)
        ask_nothing(running)
        assert found() == 0


def ask_nothing(running: Running) -> None:
    running.peer.request("CreateContainer", request("main"), api.CreateContainerResponse, BOUND)

"""A running plugin that becomes another version: real processes, and programs that are replaced."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.children import family
from support.launching import BOUND, Running, launched

from nri_inject import api
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cli.upgrade import upgraded
from nri_inject.runtime.peer import Peer, Timeouts, configuration, wait
from nri_inject.service.health import status
from nri_inject.service.parent.trial import UPGRADE
from nri_inject.version import VERSION

pytestmark = pytest.mark.slow

PROGRAM = """#!{python}
{first}
import nri_inject.version
nri_inject.version.VERSION = "{version}"
import os
from nri_inject.api import Adjustment, KeyValue
from nri_inject.plugin import Plugin
from nri_inject.service.command import Command
from nri_inject.service.parent import handover

class Service:
    def __init__(self, options, _):
        self.plugin = Plugin(
            name=options.name, index=options.idx, create_container=self.create, {handlers}
        )

    def attach(self, stub): ...

    def reconfigure(self, configured): ...

    def close(self): ...

    def create(self, pod, container):
        if container.args and os.path.exists(container.args[0]):
            open(container.args[0]).read()
        return Adjustment(env=[KeyValue(key="VERSION", value="{version}")])

{last}
Command(name="changing", idx="10", service=Service, help="", example="")()
"""

POD = api.Pod(id="p", name="web", namespace="shop")
PATIENT = Timeouts(request=BOUND)  # a loaded machine may take longer than a runtime's 2 s


def write(path: Path, version: str, *, first: str = "", last: str = "", handlers: str = "") -> None:
    """Install a version of the program, in place of the one before."""
    text = PROGRAM.format(
        python=sys.executable, version=version, first=first, last=last, handlers=handlers
    )
    other = path.with_name("next")
    other.write_text(text)
    other.chmod(0o755)
    other.replace(path)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "10-changing"
    write(path, "1.0")
    return path


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "status"


@pytest.fixture
def running(program: Path, where: Path) -> Iterator[Running]:
    with launched(program, NRI_INJECT_STATUS_DIR=str(where)) as plugin:
        begin(plugin)
        yield plugin


def begin(
    running: Running,
    timeouts: Timeouts = PATIENT,
    runtime: Runtime = NEWEST,
    config: str = "policy: unrestricted\n",
) -> None:
    running.peer.register(BOUND)
    configure = configuration(runtime, config, timeouts)
    running.peer.request("Configure", configure, api.ConfigureResponse, BOUND)
    running.peer.synchronize([], [], BOUND)


def request(*args: str) -> api.CreateContainerRequest:
    return api.CreateContainerRequest(
        pod=POD, container=api.Container(id="c", name="main", args=args)
    )


def version(running: Running) -> str:
    """Create a container; return the version that answered."""
    answer = running.peer.request("CreateContainer", request(), api.CreateContainerResponse, BOUND)
    return str(answer.adjust.env[0].value)


def upgrade(where: Path) -> str:
    """Upgrade the one plugin that has a status socket; return why it was not upgraded."""
    ((name, path),) = status.found(str(where)).items()
    return str(upgraded(name, path)["error"])


def document(where: Path) -> dict[str, Any]:
    (said,) = status.ask_all(str(where)).values()
    assert said is not None
    return said


def descriptors(running: Running) -> dict[str, str]:
    found = Path(f"/proc/{running.process.pid}/fd").iterdir()
    return {link.name: str(link.readlink()).partition(":")[0] for link in found}


def test_a_plugin_becomes_the_version_that_is_installed_now(
    running: Running, program: Path, where: Path
) -> None:
    assert version(running) == "1.0"
    before, open_before = document(where), descriptors(running)
    for number in range(3):
        write(program, f"2.{number}")
        assert upgrade(where) == ""
        assert version(running) == f"2.{number}"
    now = document(where)
    assert now["version"] == "2.2"
    assert now["pid"] == before["pid"] == running.process.pid
    assert now["started"] == before["started"]
    assert now["containers"]["asked"] == 4
    assert now["upgrades"] == {"count": 3, "error": ""}
    assert now["worker"]["failures"] == 0
    assert now["worker"]["pid"] != before["worker"]["pid"]
    assert descriptors(running) == open_before
    assert len(family(running.process.pid)) == 2  # nothing is left of trials and workers


def test_a_request_that_is_being_served_gets_its_answer_from_the_old_version(
    running: Running, program: Path, tmp_path: Path
) -> None:
    gate, tried = tmp_path / "gate", tmp_path / "tried"
    os.mkfifo(gate)
    write(program, "2.0", first=f"open({str(tried)!r}, 'w')")
    served = running.peer.begin("CreateContainer", request(str(gate)))
    with gate.open("w"):  # opens when the handler has
        running.process.send_signal(UPGRADE)
        while not tried.exists():
            pass
        while len(family(running.process.pid)) > 2:  # until the trial has ended
            pass
        next_one = running.peer.begin("CreateContainer", request())
    wait(served, next_one)
    answers = [one.result(api.CreateContainerResponse) for one in (served, next_one)]
    assert answers[0].adjust.env[0].value == "1.0"
    assert answers[1].adjust.env[0].value in ("1.0", "2.0")
    while version(running) == "1.0":
        pass
    assert version(running) == "2.0"


def test_requests_during_an_upgrade_wait_for_it(running: Running, program: Path) -> None:
    write(program, "2.0")
    running.process.send_signal(UPGRADE)
    seen = ["1.0"]
    while seen[-1] == "1.0":
        seen.append(version(running))
    assert set(seen) == {"1.0", "2.0"}


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        ("raise SystemExit(7)", "", "the new version ended with status 7"),
        ("import os; os.kill(os.getpid(), 11)", "", "the new version was killed by signal 11"),
        ("import missing", "", "status 1: ModuleNotFoundError: No module named 'missing'"),
        ("def half(", "", "the new version ended with status 1: SyntaxError: '(' was never closed"),
        ("print('well'); raise SystemExit", "", "the new version ended with status 0: well"),
        ("", "handover.STATE_VERSION = 2", "version 2.0 cannot take over from version 1.0"),
    ],
)
def test_a_version_that_cannot_take_over_leaves_the_old_one(
    running: Running, program: Path, where: Path, first: str, last: str, why: str
) -> None:
    worker = document(where)["worker"]["pid"]
    write(program, "2.0", first=first, last=last)
    assert why in upgrade(where)
    assert version(running) == "1.0"
    now = document(where)
    assert now["worker"] == {"pid": worker, "failures": 0}
    assert why in now["upgrades"]["error"]
    write(program, "2.1")
    assert upgrade(where) == ""
    assert version(running) == "2.1"


def test_a_program_that_is_gone_or_no_program_leaves_the_old_one(
    running: Running, program: Path, where: Path
) -> None:
    program.write_bytes(b"\x7fELF")
    assert "the new version cannot be started: Exec format error" in upgrade(where)
    program.unlink()
    assert f"can't open file '{program}'" in upgrade(where)
    assert version(running) == "1.0"


def test_a_version_that_wants_more_events_leaves_the_old_one(
    running: Running, program: Path, where: Path
) -> None:
    write(program, "2.0", handlers="stop_container=lambda pod, container: None")
    assert upgrade(where) == (
        "it needs the events STOP_CONTAINER, which the runtime reports only after another"
        " registration: restart the plugin"
    )
    assert version(running) == "1.0"


def test_a_version_that_starts_slowly_leaves_the_old_one(program: Path, where: Path) -> None:
    with launched(program, NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running, Timeouts())
        write(program, "2.0", first="import time; time.sleep(1.1)")
        why = upgrade(where)
        assert "more than the 1.0 s that a request may wait" in why
        assert version(running) == "1.0"


def test_a_link_leads_to_the_version_that_it_leads_to_now(
    tmp_path: Path, program: Path, where: Path
) -> None:
    link = tmp_path / "20-link"
    link.symlink_to(program)
    with launched(link, NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running)
        write(tmp_path / "other", "2.0")
        link.unlink()
        link.symlink_to("other")
        assert upgrade(where) == ""
        assert version(running) == "2.0"
        assert document(where)["plugin"] == "20-link"


@pytest.mark.parametrize("config", ["policy: {file: POLICY}\n", ""])
def test_a_faulty_policy_or_configuration_leaves_the_old_version(
    tmp_path: Path, where: Path, config: str
) -> None:
    policy, file = tmp_path / "policy.yaml", tmp_path / "config.yaml"
    policy.write_text("rules: []\n")
    file.write_text(f"policy: {{file: {policy}}}\nunsafe_files: true\n")
    options = ["--config", str(file), "--unsafe-files", "-q"]
    with launched("nri-device-injector", *options, NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running, config=config.replace("POLICY", str(policy)))
        policy.write_text("rulez: []\n")
        assert upgrade(where) == f"{policy}: unknown key 'rulez'; did you mean 'rules'?"
        policy.write_text("rules: []\n")
        file.write_text("polizy: unrestricted\n")
        assert "polizy" in upgrade(where)
        file.write_text(f"policy: {{file: {policy}}}\n")
        assert upgrade(where) == ""


def test_a_launched_plugin_that_is_only_configured_is_upgraded(program: Path, where: Path) -> None:
    with launched(program, NRI_INJECT_STATUS_DIR=str(where)) as running:
        running.configured(runtime=Runtime("containerd", "v1.7.24", (0, 6, 0)))
        write(program, "2.0")
        assert upgrade(where) == ""
        assert version(running) == "2.0"


def test_a_service_is_upgraded_without_a_runtime_and_with_one(
    program: Path, tmp_path: Path, where: Path
) -> None:
    path = tmp_path / "nri.sock"
    environ = {"NRI_INJECT_STATUS_DIR": str(where)}
    command = [str(program), "-q", "--socket-path", str(path)]
    with (
        socket.socket(socket.AF_UNIX) as listener,
        subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, text=True) as process,
    ):
        while not any(status.ask_all(str(where)).values()):
            assert process.poll() is None
        write(program, "2.0")
        assert upgrade(where) == ""
        assert (document(where)["version"], document(where)["phase"]) == ("2.0", "disconnected")
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(BOUND)
        with closing(Peer(listener.accept()[0])) as peer:
            running = Running(process, peer)
            begin(running)
            write(program, "3.0")
            assert upgrade(where) == ""
            assert version(running) == "3.0"
        with closing(Peer(listener.accept()[0])) as peer:  # it connects again as ever
            begin(Running(process, peer))
            assert version(Running(process, peer)) == "3.0"
        process.terminate()
        assert process.wait(BOUND) == 0


def test_a_signal_ends_a_plugin_during_a_trial(
    running: Running, program: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    write(program, "2.0", first=f"open({str(gate)!r}).read()")
    running.process.send_signal(UPGRADE)
    with gate.open("w"):  # opens when the trial has
        running.process.terminate()
        running.process.communicate(timeout=BOUND)
    assert running.process.returncode == 0


def test_a_worker_ignores_the_signal(running: Running, where: Path) -> None:
    worker = document(where)["worker"]["pid"]
    os.kill(worker, UPGRADE)
    version(running)
    assert document(where)["worker"] == {"pid": worker, "failures": 0}


def test_the_next_version_has_the_notes_of_the_one_before(where: Path) -> None:
    with launched("nri-resource-assigner", NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running)

        def create() -> api.CreateContainerResponse:
            return running.peer.request(
                "CreateContainer", request(), api.CreateContainerResponse, BOUND
            )

        first = create()
        assert upgrade(where) == ""
        assert create() == first


def test_the_command_says_what_became_of_each_plugin(
    running: Running, program: Path, where: Path
) -> None:
    def command(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("nri-inject"), "upgrade", *options],
            env={"NRI_INJECT_STATUS_DIR": str(where)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    write(program, "2.0")
    pid = running.process.pid
    assert command() == (0, f"10-changing  upgraded from 1.0 to 2.0, process {pid}\n")
    write(program, "3.0", first="raise SystemExit(7)")
    assert command("--plugin", "changing") == (
        1,
        "10-changing  not upgraded, version 2.0 goes on: the new version ended with status 7\n",
    )
    assert command("--plugin", "other") == (1, f"no plugin has a socket in {where}\n")


def test_a_plugin_without_a_worker_is_not_signalled(program: Path, where: Path) -> None:
    with launched(program, "--no-worker", NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running)
        assert upgrade(where) == "has no worker, so it cannot be upgraded: restart it"
        assert document(where)["version"] == "1.0" != VERSION


def listener(port: int) -> str:
    """Return the inode of the socket that listens at a port, from proc_pid_net(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")
    return inode


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_http_address_stays_open(program: Path, where: Path) -> None:
    port = free_port()
    with launched(
        program, "--http-address", str(port), NRI_INJECT_STATUS_DIR=str(where)
    ) as running:
        begin(running)
        assert version(running) == "1.0"
        before = listener(port), descriptors(running)
        write(program, "2.0")
        assert upgrade(where) == ""
        assert (listener(port), descriptors(running)) == before
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=BOUND) as page:
            text = page.read().decode()
    assert 'nri_inject_build_info{plugin="10-changing",version="2.0"} 1\n' in text
    assert 'nri_inject_requests_total{result="injected"} 1\n' in text
    assert "nri_inject_upgrades_total 1\n" in text


def test_another_http_address_counts_from_the_upgrade_on(
    program: Path, where: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    ports = free_port(), free_port()
    config.write_text(f"http_address: {ports[0]}\n")
    with launched(program, "--config", str(config), NRI_INJECT_STATUS_DIR=str(where)) as running:
        begin(running)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            config.write_text(f"http_address: {address}\n")
            assert upgrade(where) == f"http address {address}: Address already in use"
        assert listener(ports[0])
        config.write_text(f"http_address: {ports[1]}\n")
        assert upgrade(where) == ""
        assert listener(ports[1])
        with pytest.raises(ValueError, match="not enough values"):
            listener(ports[0])

"""What a plugin process tells of itself while it runs: status, metrics, reload, what was missed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.children import family

from nri_inject import api
from nri_inject.capabilities import Runtime, Version, identify
from nri_inject.errors import NriError, RemoteError
from nri_inject.runtime.peer import Peer, Timeouts, configuration
from nri_inject.service.health.status import ask_all

pytestmark = pytest.mark.slow

T = TypeVar("T")
TIMEOUT = 20.0
PROGRAM = Path(sys.executable).with_name("nri-inject")
NEW = identify("containerd", "2.3.0")
FULL = {"devices.noderesource.dev/pod": "- path: /dev/full"}
BAD = {"devices.noderesource.dev/pod": "- path: /dev/nowhere"}
POD = api.Pod(id="p", namespace="ns", name="web", annotations=FULL)
RUNNING = api.ContainerState.CONTAINER_RUNNING


def until(ask: Callable[[], T]) -> T:
    """Ask until the answer is true; a process of its own tells when it is done with something."""
    deadline = time.monotonic() + TIMEOUT
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it never became true"
    return answer


@dataclass
class Plugin:
    """A suite that a runtime has launched, and where its status is."""

    process: subprocess.Popen[str]
    peer: Peer
    where: Path

    def status(self) -> dict[str, Any]:
        (said,) = ask_all(str(self.where)).values()
        assert said is not None
        return said

    def memory(self, field: str) -> int:
        """Return a field of proc_pid_status(5), in KiB, of the process and its worker together."""
        status = [Path(f"/proc/{pid}/status").read_text() for pid in family(self.process.pid)]
        fields = [line.split() for line in "".join(status).splitlines()]
        return sum(int(words[1]) for words in fields if words[0] == f"{field}:")

    def create(self, annotations: dict[str, str]) -> api.Adjustment:
        pod = api.Pod(namespace="ns", name="web", annotations=annotations)
        request = api.CreateContainerRequest(pod=pod, container=api.Container(name="app"))
        return self.peer.request(
            "CreateContainer", request, api.CreateContainerResponse, TIMEOUT
        ).adjust


@contextmanager
def launched(
    where: Path, *arguments: str, program: str = PROGRAM.name, **environ: str
) -> Iterator[Plugin]:
    """Start the suite with a runtime's socket; it ends when the runtime hangs up."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [PROGRAM.with_name(program), *arguments],
            env={
                "NRI_PLUGIN_SOCKET": str(theirs.fileno()),
                "NRI_INJECT_STATUS_DIR": str(where),
                **environ,
            },
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    with process, closing(Peer(ours)) as peer:
        try:
            peer.register(TIMEOUT)
            yield Plugin(process, peer, where)
            peer.close()
            assert process.wait(TIMEOUT) == 0
        finally:
            if process.poll() is None:
                process.kill()


def taken_in(plugin: Plugin, config: str = "policy: unrestricted") -> Plugin:
    plugin.peer.configure(NEW, config, TIMEOUT)
    plugin.peer.synchronize([], [], TIMEOUT)
    return plugin


def test_a_launch_without_arguments_is_the_suite(tmp_path: Path) -> None:
    with launched(tmp_path / "run") as plugin:
        assert plugin.peer.title == "20-nri-inject"
        assert [device.path for device in taken_in(plugin).create(FULL).linux.devices] == [
            "/dev/full"
        ]


def test_a_link_to_the_one_program_is_the_plugin_that_it_is_named_after(tmp_path: Path) -> None:
    link = tmp_path / "11-device-injector"
    link.symlink_to(PROGRAM)
    shown = subprocess.run(
        [link, "--help"], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert "nri-device-injector --idx 10" in shown.stdout


@pytest.mark.parametrize(
    ("nri", "config", "no_answer"),
    [
        ((0, 12, 5), "policy: unrestricted", "fails"),
        ((0, 12, 3), "policy: unrestricted", "ignored"),
        ((0, 12, 5), "policy: unrestricted\non_no_answer: pass", "passes"),
        ((0, 12, 3), "policy: unrestricted\non_no_answer: pass", "passes"),
    ],
)
def test_status_says_whether_the_runtime_keeps_the_failure_policy(
    tmp_path: Path, nri: Version, config: str, no_answer: str
) -> None:
    with launched(tmp_path) as plugin:
        assert plugin.status()["no_answer"] == ""
        plugin.peer.configure(Runtime("containerd", "2.4.2", nri), config, TIMEOUT)
        assert plugin.status()["no_answer"] == no_answer


def test_status_follows_a_plugin_through_its_life(tmp_path: Path) -> None:
    with launched(tmp_path) as plugin:
        before = plugin.status()
        assert (before["phase"], before["ready"]) == ("registering", False)
        plugin.peer.configure(NEW, "policy: unrestricted", TIMEOUT)
        assert (plugin.status()["phase"], plugin.status()["ready"]) == ("configured", True)
        plugin.peer.synchronize([], [], TIMEOUT)
        plugin.create(FULL)
        plugin.create({})
        with pytest.raises(RemoteError):
            plugin.create(BAD)
        said = plugin.status()
    assert (said["plugin"], said["phase"]) == ("20-nri-inject", "synchronized")
    assert (said["runtime"], said["launched"]) == ("containerd 2.3.0", True)
    assert said["containers"] == {"asked": 3, "changed": 1, "failed": 1, "denied": 0, "late": 0}
    assert list(tmp_path.iterdir()) == []


def test_an_answer_after_the_process_was_stopped_is_too_late_where_the_connection_stays(
    tmp_path: Path,
) -> None:
    newest = Runtime("containerd", "9.0.0", (0, 12, 5))
    with launched(tmp_path) as plugin:
        peer = plugin.peer
        request = configuration(newest, "policy: unrestricted", Timeouts(request=0.2))
        response = peer.request("Configure", request, api.ConfigureResponse, TIMEOUT)
        peer.subscribe(response, newest)
        peer.synchronize([], [], TIMEOUT)
        plugin.process.send_signal(signal.SIGSTOP)
        creation = api.CreateContainerRequest(pod=POD, container=api.Container(id="c1"))
        with pytest.raises(NriError):
            peer.request("CreateContainer", creation, api.CreateContainerResponse, 0.3)
        plugin.process.send_signal(signal.SIGCONT)
        until(lambda: plugin.status()["containers"]["late"] == 1)
        assert plugin.status()["containers"]["changed"] == 0
        assert plugin.create(FULL).linux.devices


def test_containers_that_were_missed_are_told_until_they_are_removed(tmp_path: Path) -> None:
    given = api.LinuxContainer(devices=[api.LinuxDevice(path="/dev/full")])
    missed = api.Container(id="c1", name="app", pod_sandbox_id="p", state=RUNNING)
    complete = api.Container(id="c2", name="other", pod_sandbox_id="p", state=RUNNING, linux=given)
    with launched(tmp_path) as plugin:
        plugin.peer.configure(NEW, "policy: unrestricted", TIMEOUT)
        plugin.peer.synchronize([POD], [missed, complete], TIMEOUT)
        until(lambda: plugin.status()["compared"] == 2)
        assert plugin.status()["missed"] == {
            "count": 1,
            "containers": [
                {
                    "pod": "ns/web",
                    "container": "app",
                    "lacks": ["device /dev/full"],
                    "refused": "",
                    "restart": "",
                }
            ],
        }
        gone = api.RemoveContainerRequest(pod=POD, container=missed)
        plugin.peer.request("RemoveContainer", gone, api.RemoveContainerResponse, TIMEOUT)
        assert plugin.status()["missed"]["count"] == 0


def test_ten_thousand_containers_are_synchronized_in_time(tmp_path: Path) -> None:
    containers = [
        api.Container(id=str(number), pod_sandbox_id="p", state=RUNNING) for number in range(10_000)
    ]
    with launched(tmp_path, "run", "-q") as plugin:
        plugin.peer.configure(NEW, "policy: unrestricted", TIMEOUT)
        plugin.peer.synchronize([POD], containers)  # within a runtime's own 2 s
        plugin.create(FULL)
        assert plugin.status()["to_compare"] > 0
        until(lambda: plugin.status()["compared"] == 10_000)
        assert plugin.status()["missed"]["count"] == 10_000


VALUES = [f"V{number}=" + "x" * 10_000 for number in range(100)]
NAMES = [f"{number}" + "x" * 10_000 for number in range(100)]


@pytest.mark.parametrize("program", ["nri-inject", "nri-logger", "nri-resource-assigner"])
@pytest.mark.parametrize("variables", [VALUES, NAMES], ids=["values", "names"])
def test_120_megabytes_of_variables_take_less_than_64_of_memory(
    tmp_path: Path, program: str, variables: list[str]
) -> None:
    with launched(tmp_path, "run" if program == PROGRAM.name else "-q", program=program) as plugin:
        config = f"{{logger: {{log_file: {tmp_path}/events}}}}"
        plugin.peer.configure(NEW, config if program == "nri-logger" else "", TIMEOUT)
        before = plugin.memory("VmRSS")
        for number in range(40):
            containers = [
                api.Container(id=f"{number}.{each}", env=variables, state=RUNNING)
                for each in range(3)
            ]
            part = api.SynchronizeRequest(pods=[POD], containers=containers, more=number < 39)
            plugin.peer.request("Synchronize", part, api.SynchronizeResponse, TIMEOUT)
        assert plugin.memory("VmHWM") - before < 64 << 10


def test_it_is_live_with_500_missed_containers_of_long_names_and_1000_silent_readers(
    tmp_path: Path,
) -> None:
    long = "\U0001f600" * 250
    wanted = "".join(f"- {{source: /, destination: '/{long}{number}'}}\n" for number in range(9))
    pod = api.Pod(id="p", namespace=long, name=long)
    pod.annotations["mounts.noderesource.dev/pod"] = wanted
    containers = [
        api.Container(id=f"c{number}", name=long, pod_sandbox_id="p", state=RUNNING)
        for number in range(500)
    ]
    with launched(tmp_path, "run", "-q") as plugin, ExitStack() as silent:
        plugin.peer.configure(NEW, "policy: unrestricted", TIMEOUT)
        plugin.peer.synchronize([pod], containers, TIMEOUT)
        until(lambda: plugin.status()["compared"] == 500)
        (path,) = tmp_path.iterdir()
        for _ in range(1000):
            silent.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        probe = [str(PROGRAM), "status", "--live", f"--status-dir={tmp_path}"]
        assert subprocess.run(probe, timeout=TIMEOUT, check=False).returncode == 0
        assert plugin.status()["missed"]["count"] == 500
        assert [device.path for device in plugin.create(FULL).linux.devices] == ["/dev/full"]
        descriptors = Path(f"/proc/{family(plugin.process.pid)[1]}/fd")
        assert len(list(descriptors.iterdir())) < 40


def test_a_status_directory_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with launched(tmp_path / "file") as plugin:
        taken_in(plugin)
        plugin.peer.close()
        assert plugin.process.stderr is not None
        log = plugin.process.stderr.read()
    assert log.count(f"no status socket in {tmp_path}/file: File exists") == 1


def test_without_a_directory_there_is_no_status(tmp_path: Path) -> None:
    with launched(tmp_path, NRI_INJECT_STATUS_DIR="") as plugin:
        taken_in(plugin)
        assert list(tmp_path.iterdir()) == []


def test_systemd_hears_of_readiness_and_of_the_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        manager.bind(str(tmp_path / "notify"))
        address = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with launched(tmp_path, **address, WATCHDOG_USEC="20000") as plugin:
            assert manager.recv(100) == b"WATCHDOG=1"
            taken_in(plugin)
            until(
                lambda: manager.recv(100) == b"READY=1\nSTATUS=synchronized with containerd 2.3.0"
            )
        until(lambda: manager.recv(100) == b"STOPPING=1")


def test_a_runtimes_name_gives_systemd_no_orders_and_is_cut(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        manager.bind(str(tmp_path / "notify"))
        address = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with launched(tmp_path, "run", "-q", **address) as plugin:
            name = "a\nMAINPID=1\n" + "x" * (1 << 20)
            plugin.peer.configure(identify(name, "1"), "policy: unrestricted", TIMEOUT)
            plugin.peer.synchronize([], [], TIMEOUT)
            ready, status = manager.recv(1000).decode().split("\n")
        assert ready == "READY=1"
        assert status.startswith(r"STATUS=synchronized with a\nMAINPID=1\nxxx")


def test_a_changed_configuration_comes_into_force_and_a_bad_one_does_not(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"

    def write(text: str) -> None:
        new = tmp_path / "new"
        new.write_text(text)
        new.rename(config)

    wanted = {"cdi-devices.noderesource.dev/pod": "[a.com/b=c]"}
    write("policy: unrestricted\n")
    with launched(tmp_path / "run", "run", "--config", str(config)) as plugin:
        taken_in(plugin, config="")
        with pytest.raises(RemoteError, match="no CDI device"):
            plugin.create(wanted)
        write("policy: unrestricted\ncdi: {mode: nativ}\n")
        error = until(lambda: plugin.status()["config_error"])
        sentence = "'nativ' must be one of resolve, native; did you mean 'native'?"
        assert error == f"{config}: cdi: mode: {sentence}"
        with pytest.raises(RemoteError, match="no CDI device"):
            plugin.create(wanted)
        write("policy: unrestricted\ncdi: {mode: native}\n")
        until(lambda: plugin.status()["config_error"] == "")
        assert [one.name for one in plugin.create(wanted).CDI_devices] == ["a.com/b=c"]


def test_a_drop_in_file_wins_over_a_changed_configuration_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    with launched(tmp_path / "run", "run", "--config", str(config)) as plugin:
        taken_in(plugin, config="policy: unrestricted\ncdi: {mode: native}\n")
        config.write_text("policy: unrestricted\ncdi: {mode: resolve}\n")
        wanted = {"cdi-devices.noderesource.dev/pod": "[a.com/b=c]"}
        assert plugin.create(wanted).CDI_devices[0].name == "a.com/b=c"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

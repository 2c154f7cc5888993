"""A plugin command as a process: who it says it is, what it was told, and how it ends.

The runtime is our own protocol in the other role.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import launching, stubs
from support.launching import BOUND, NOT_NEEDED, Running

from nri_inject import api
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import RemoteError
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import Peer
from nri_inject.service.command import Command, identity
from nri_inject.service.config import Config
from nri_inject.service.health.status import ask_all
from nri_inject.service.injector import summary
from nri_inject.stub import Stub


@dataclass(frozen=True)
class Handlers:
    """A service that only answers."""

    plugin: Plugin

    def attach(self, stub: Stub) -> None: ...

    def reconfigure(self, configured: Config) -> None: ...

    def close(self) -> None: ...


pytestmark = pytest.mark.slow

EXECUTABLE = Path(sys.executable).with_name("nri-device-injector")
OLD = identify("containerd", "1.7.24")
COMMAND = Command(
    name="web",
    idx="55",
    service=lambda options, _: Handlers(Plugin(name=options.name, index=options.idx)),
    help="Help.",
    example="web --help",
)
SYSCTL = api.Pod(
    namespace="default",
    name="web",
    annotations={"sysctl.noderesource.dev/pod": 'net.core.somaxconn: "1024"'},
)
APP = api.Container(id="c0", name="app")


def launched(
    *arguments: str, program: Path = EXECUTABLE, **environ: str
) -> AbstractContextManager[Running]:
    return launching.launched(program, *arguments, **environ)


def ask(running: Running, pod: api.Pod) -> api.Adjustment:
    request = api.CreateContainerRequest(pod=pod, container=APP)
    return running.peer.request(
        "CreateContainer", request, api.CreateContainerResponse, BOUND
    ).adjust


def configured(running: Running, config: str = "", runtime: Runtime = NEWEST) -> Running:
    return running.configured(config, runtime)


def ended(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Run the command to its end; return the status and what it wrote."""
    done = subprocess.run(
        [EXECUTABLE, *arguments],
        env=environ,
        capture_output=True,
        timeout=BOUND,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def messages(log: str) -> list[str]:
    """Take time and level from the lines of a log."""
    return [line.split(maxsplit=2)[2] for line in log.splitlines()]


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "environ", "who"),
    [
        ("nri-web", {}, ("55", "web")),
        ("/opt/nri/plugins/10-a", {}, ("10", "a")),
        ("/opt/nri/plugins/10-a-b", {}, ("10", "a-b")),
        ("10-", {}, ("55", "web")),
        ("1-a", {}, ("55", "web")),
        ("100-a", {}, ("55", "web")),
        ("x1-a", {}, ("55", "web")),
        ("²2-a", {}, ("55", "web")),
        ("10-dir/nri-web", {}, ("55", "web")),
        ("10-a", {"NRI_PLUGIN_IDX": "20"}, ("20", "a")),
        ("10-a", {"NRI_PLUGIN_NAME": "b"}, ("10", "b")),
        ("10-a", {"NRI_PLUGIN_IDX": "20", "NRI_PLUGIN_NAME": "b"}, ("20", "b")),
        ("10-a", {"NRI_PLUGIN_IDX": "", "NRI_PLUGIN_NAME": ""}, ("10", "a")),
        ("nri-web", {"NRI_PLUGIN_NAME": "b"}, ("55", "b")),
        ("nri-web", {"NRI_PLUGIN_IDX": "x"}, ("x", "web")),
        ("", {}, ("55", "web")),
    ],
)
def test_index_and_name_come_from_environment_file_name_or_command(
    program: str, environ: Mapping[str, str], who: tuple[str, str]
) -> None:
    assert identity(COMMAND, program, environ) == who


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ([], "10-device-injector"),
        (["--idx", "20", "--name", "a"], "20-a"),
        (["--idx=20"], "20-device-injector"),
        (["-idx", "20", "-name", "a", "-verbose"], "20-a"),
        (["-idx=20", "-name=a", "-verbose=true", "-disableWatch"], "20-a"),
        (["-socket-path", "/nowhere", "-socket=/nowhere"], "10-device-injector"),
        (["--name", "-verbose"], "10--verbose"),
        (["--name=-idx"], "10--idx"),
        (["--cdi-dir", "/a", "--cdi-dir=/b", "--hooks-dir", "/c"], "10-device-injector"),
        (["--unsafe-files", "--log-format", "json", "-vv"], "10-device-injector"),
    ],
)
def test_each_flag_is_taken(arguments: list[str], title: str) -> None:
    with launched(*arguments) as running:
        assert configured(running).peer.title == title
        assert running.end()[0] == 0


def test_the_command_line_wins_over_the_environment_and_the_file_name(tmp_path: Path) -> None:
    link = tmp_path / "30-link"
    link.symlink_to(EXECUTABLE)
    with launched("--name", "a", program=link, NRI_PLUGIN_NAME="b") as running:
        assert configured(running).peer.title == "30-a"
    with launched(program=link, NRI_PLUGIN_NAME="b") as running:
        assert configured(running).peer.title == "30-b"


# --- configuration -------------------------------------------------------------------------------

FAILS = (
    "pod default/web, container app: annotation sysctl.noderesource.dev/pod: containerd 1.7.24"
    " (NRI 0.6.1) does not apply sysctl: needs NRI 0.12.0, first in containerd 2.3.0, CRI-O 1.37"
)


def refusal(running: Running, pod: api.Pod = SYSCTL) -> str:
    with pytest.raises(RemoteError) as caught:
        ask(running, pod)
    return caught.value.message


def test_by_default_what_the_runtime_would_drop_fails_the_container() -> None:
    with launched() as running:
        assert refusal(configured(running, runtime=OLD)) == FAILS


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_configuration_file_counts(tmp_path: Path, log_format: str) -> None:
    file = tmp_path / "nri.yaml"
    file.write_text("on_unsupported: warn\npolicy: unrestricted\n")
    with launched("--config", str(file), "--log-format", log_format) as running:
        adjustment = ask(configured(running, runtime=OLD), SYSCTL)
        status, output, log = running.end()
    assert dict(adjustment.linux.sysctl) == {"net.core.somaxconn": "1024"}
    lines = log.splitlines()
    said = messages(log) if log_format == "text" else [json.loads(one)["message"] for one in lines]
    assert (status, output) == (0, "")
    assert said[0] == "policy: unrestricted: every pod gets what its annotations request"
    assert said[-1] == "pod default/web, container app: injected 1 sysctl"
    assert FAILS.replace(" annotation sysctl.noderesource.dev/pod:", "") in said


def test_the_drop_in_configuration_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "nri.yaml"
    file.write_text("on_unsupported: warn\n")
    with launched("--config", str(file)) as running:
        assert refusal(configured(running, "on_unsupported: fail\n", OLD)) == FAILS


def test_the_drop_in_configuration_counts_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "nri.yaml"
    file.write_text("on_unsupported: warn\n")
    with launched("--config", str(file)) as running:
        assert refusal(configured(running, "policy: unrestricted\n", OLD)) == FAILS


def test_the_policy_of_the_command_line_wins_over_both(tmp_path: Path) -> None:
    file = tmp_path / "nri.yaml"
    file.write_text("on_unsupported: fail\n")
    with launched("--config", str(file), "--policy", "unrestricted") as running:
        adjustment = ask(configured(running, "on_unsupported: warn\npolicy: {}\n", OLD), SYSCTL)
        _, _, log = running.end()
    assert adjustment.linux.sysctl
    assert messages(log)[0] == "policy: unrestricted: every pod gets what its annotations request"


def test_without_a_policy_the_log_says_so() -> None:
    with launched() as running:
        configured(running)
        _, _, log = running.end()
    assert messages(log)[0] == (
        "no policy is configured, so every request that needs one is denied; set one (policy:"
        " {file: PATH}), or policy: unrestricted to allow everything"
    )


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        ([], {"info", "warning"}),
        (["-v"], {"info", "warning"}),  # and debug, if there was any
        (["-qv"], {"warning"}),
        (["-q"], set()),
    ],
)
def test_verbose_and_quiet_change_the_log(arguments: list[str], levels: set[str]) -> None:
    with launched(*arguments) as running:
        ask(configured(running, "policy: unrestricted"), SYSCTL)
        _, _, log = running.end()
    assert {line.split()[1] for line in log.splitlines()} - {"debug"} == levels


def test_a_hostile_name_stays_on_its_line_in_log_and_status() -> None:
    pod = api.Pod(namespace="a\nb", name="\x1b[2J\u2028", annotations=SYSCTL.annotations)
    with launched() as running:
        text = refusal(configured(running, "policy: unrestricted", OLD), pod)
        running.peer.configure(OLD, "{on_unsupported: warn, policy: unrestricted}", BOUND)
        ask(running, pod)
        _, _, log = running.end()
    front = r"pod a\nb/\x1b[2J\u2028, container app: "
    assert text.startswith(f"{front}annotation sysctl.noderesource.dev/pod: containerd 1.7.24 ")
    assert messages(log)[-1] == f"{front}injected 1 sysctl"
    assert not set(log) & {"\x1b", "\u2028"}


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--idx", "x"], "plugin index 'x': two digits expected, as in 10"),
        (["-idx=100"], "plugin index '100': two digits expected, as in 10"),
        (["--idx", "-1"], "plugin index '-1': two digits expected, as in 10"),
        (["--idx="], "plugin index '': two digits expected, as in 10"),
        (["--name", "a b"], "plugin name 'a b': only letters, digits and . _ + - allowed"),
        (["--name", "a\nb"], "plugin name 'a\\nb': only letters, digits and . _ + - allowed"),
        (["--config", "/nowhere"], "configuration: /nowhere does not exist"),
        (
            ["--unsafe-files", "--idx", "1"],
            "plugin index '1': two digits expected, as in 10",
        ),
    ],
)
def test_a_value_that_cannot_be_is_2_with_a_sentence(arguments: list[str], sentence: str) -> None:
    status, output, log = ended(*arguments)
    assert (status, output, messages(log)) == (2, "", [sentence])


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("NRI_PLUGIN_IDX", "plugin index 'x y': two digits expected, as in 10"),
        ("NRI_PLUGIN_NAME", "plugin name 'x y': only letters, digits and . _ + - allowed"),
    ],
)
def test_a_variable_that_cannot_be_is_2_as_well(variable: str, sentence: str) -> None:
    status, _, log = ended(**{variable: "x y"})
    assert (status, messages(log)) == (2, [sentence])


def test_a_broken_configuration_is_1(tmp_path: Path) -> None:
    file = tmp_path / "nri.yaml"
    file.write_text("polcy: unrestricted\n")
    status, _, log = ended("--config", str(file))
    assert (status, messages(log)) == (
        1,
        [f"{file}: unknown key 'polcy'; did you mean 'policy'?"],
    )


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--indx", "10"], "--indx"),
        (["-idx"], "--idx"),
        (["extra"], "extra"),
        (["--log-format", "xml"], "xml"),
        (["-verbose=perhaps"], "--verbose"),
    ],
)
def test_wrong_usage_is_2_and_names_the_culprit(arguments: list[str], culprit: str) -> None:
    status, output, log = ended(*arguments)
    assert (status, output) == (2, "")
    (sentence,) = (line for line in log.splitlines() if line.startswith("Error: "))
    assert culprit in sentence
    assert "Traceback" not in log


def test_help_has_every_flag_of_the_contract_and_an_example() -> None:
    status, output, log = ended("--help")
    assert (status, log) == (0, "")
    flags = "--idx --name --socket-path --config --policy --cdi-dir --hooks-dir --unsafe-files"
    for flag in (*flags.split(), "--log-format", "-v, --verbose", "-q", "--version"):
        assert f"  {flag}" in output
    assert "Example: nri-device-injector --idx 10 --policy unrestricted" in output


def test_version_is_ours_and_the_protocols() -> None:
    assert ended("--version") == (0, "nri-inject 0.1.0, NRI 0.12.5\n", "")


def test_a_drop_in_configuration_that_is_wrong_is_1_and_told_to_the_runtime() -> None:
    sentence = (
        "drop-in configuration: policy: 'x' must be one of unrestricted, {file: PATH},"
        " rules as in docs/allow-a-device.md"
    )
    with launched() as running:
        with pytest.raises(RemoteError) as caught:
            configured(running, "policy: x")
        status, _, log = running.end()
    assert caught.value.message == sentence
    assert (status, messages(log)[-1]) == (1, sentence)


def test_refused_by_the_runtime_is_1() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [EXECUTABLE],
            env={"NRI_PLUGIN_SOCKET": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        with process:
            runtime = stubs.Peer(ours)
            runtime.refuse(runtime.called("RegisterPlugin"), "no room")
            _, log = process.communicate(timeout=BOUND)
    assert (process.returncode, messages(log)) == (
        1,
        ["the runtime refused the registration: no room (status 2)"],
    )


def test_hung_up_on_before_the_configuration_is_1() -> None:
    with launched() as running:
        running.peer.register(BOUND)
        status, _, log = running.end()
    assert status == 1
    assert messages(log) == ["the runtime closed the connection before it configured the plugin"]


def test_a_descriptor_that_is_none_is_1() -> None:
    assert ended(NRI_PLUGIN_SOCKET="stdin")[0] == 1
    status, _, log = ended(NRI_PLUGIN_SOCKET="0x3")
    assert (status, messages(log)) == (
        1,
        ["NRI_PLUGIN_SOCKET is '0x3', the number of a descriptor expected"],
    )


def test_a_plugin_dials_the_socket_that_it_is_told_and_ends_well_on_sigterm(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(BOUND)
        process = subprocess.Popen(
            [EXECUTABLE, "-idx=20", "-socket", str(path)], env={}, stderr=subprocess.PIPE
        )
        with process:
            try:
                connection, _ = listener.accept()
                with closing(Peer(connection)) as peer:
                    peer.register(BOUND)
                    peer.configure(NEWEST, timeout=BOUND)
                    assert peer.title == "20-device-injector"
                    process.terminate()
                    process.communicate(timeout=BOUND)
            finally:
                process.kill()
    assert process.returncode == 0


# --- what a launch costs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("10-device-injector", "nri_inject.plugins.device_injector"),
        ("10-device-injector", "nri_inject.__main__"),
        ("20-nri-inject", "nri_inject.__main__"),
    ],
)
def test_launched_without_arguments_it_never_imports_what_it_does_not_need(
    name: str, main: str, tmp_path: Path
) -> None:
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules))))\n"
        f"sys.argv = ['/opt/nri/plugins/{name}']\n"
        f"from {main} import main\n"
        "main()\n"
    )
    where = str(tmp_path)
    with launched(
        "-c", program, program=Path(sys.executable), NRI_INJECT_STATUS_DIR=where
    ) as running:
        assert ask(configured(running, "policy: unrestricted"), SYSCTL).linux.sysctl
        assert [said and said["plugin"] for said in ask_all(where).values()] == [name]
        status, output, _ = running.end()
    loaded = set(json.loads(output))
    assert status == 0
    assert "nri_inject.plugins.device_injector" in loaded
    assert loaded & NOT_NEEDED == set()


def test_a_summary_counts_what_an_adjustment_has() -> None:
    adjustment = api.Adjustment(
        args=["sh"],
        linux=api.LinuxContainerAdjustment(
            devices=[api.LinuxDevice(path="/dev/a"), api.LinuxDevice(path="/dev/b")],
            io_priority=api.LinuxIOPriority(),
        ),
    )
    assert summary(adjustment) == "1 args, 2 devices, 1 io_priority"
    assert summary(api.Adjustment()) == ""

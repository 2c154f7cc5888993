"""Plugins that the runtime launches: their environment, their descriptors and their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.peers import BOUND

from nri_inject.errors import ConnectionLost, NriError
from nri_inject.runtime.launcher import launch, launch_as
from nri_inject.runtime.peer import Peer

REPORT = """
import json, os, sys
seen = {
    "argv": sys.argv,
    "environ": dict(os.environ),
    "fds": {},
    "cwd": os.getcwd(),
}
for fd in os.listdir("/proc/self/fd"):
    try:
        seen["fds"][fd] = os.readlink("/proc/self/fd/" + fd)
    except FileNotFoundError:
        pass  # the descriptor that listed them
with open(sys.argv[0] + ".report", "w") as file:
    json.dump(seen, file)
"""


def script(path: Path, body: str) -> Path:
    """Write an executable; its first line has the absolute interpreter, for it gets no PATH."""
    path.write_text(f"#!{sys.executable} -IS\n{body}")
    path.chmod(0o755)
    return path


def until_it_hangs_up(peer: Peer) -> None:
    with pytest.raises(ConnectionLost, match=r"ended$"):
        peer.register(BOUND)


def reported(path: Path) -> tuple[str, dict[str, Any]]:
    """Launch a script with REPORT; return the peer's title and what the process saw."""
    with closing(launch(path)) as peer:
        until_it_hangs_up(peer)
        return peer.title, json.loads(Path(f"{path}.report").read_text())


@pytest.mark.slow
def test_a_launched_plugin_gets_its_path_and_three_variables(tmp_path: Path) -> None:
    path = script(tmp_path / "42-my-plugin", REPORT)
    title, seen = reported(path)
    assert title == "42-my-plugin"
    seen["environ"].pop("LC_CTYPE", None)  # Python's own doing (PEP 538)
    assert seen["environ"] == {
        "NRI_PLUGIN_NAME": "my-plugin",
        "NRI_PLUGIN_IDX": "42",
        "NRI_PLUGIN_SOCKET": "3",
    }
    assert (seen["argv"], seen["cwd"]) == ([str(path)], str(Path.cwd()))


@pytest.mark.slow
def test_a_launched_plugin_has_its_socket_and_nothing_else_open(tmp_path: Path) -> None:
    inherited = {fd for fd in os.listdir("/proc/self/fd") if leaks(int(fd))}
    with (tmp_path / "open").open("w"):
        title, seen = reported(script(tmp_path / "00-", REPORT))
    assert title == "00-"
    fds = {fd: target for fd, target in seen["fds"].items() if fd not in inherited - set("0123")}
    assert fds.pop("3").startswith("socket:")
    assert fds == dict.fromkeys("012", "/dev/null")


def leaks(fd: int) -> bool:
    """Tell whether whoever started these tests left us a descriptor that children inherit."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


@pytest.mark.slow
def test_with_log_a_plugin_writes_to_our_standard_error(tmp_path: Path) -> None:
    path = script(tmp_path / "10-a", "print('said', flush=True)\n__import__('sys').exit('seen')")
    program = (
        "import sys; from nri_inject import errors\n"
        "from nri_inject.runtime.launcher import launch\n"
        "peer = launch(sys.argv[1], log=True)\n"
        "try: peer.register()\n"
        "except errors.ConnectionLost as error: print(error)\n"
        "peer.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, timeout=BOUND * 3, check=True
    )
    assert (done.stdout, done.stderr) == (b"plugin 10-a ended\n", b"said\nseen\n")


@pytest.mark.parametrize(
    "name", ["web", "1-web", "100-web", "ab-web", "10", "10_web", "²2-web", "-"]
)
def test_a_file_name_of_another_form_is_refused(tmp_path: Path, name: str) -> None:
    path = script(tmp_path / name, REPORT)
    with pytest.raises(NriError) as caught:
        launch(path)
    assert str(caught.value) == f"plugin {path}: a file name such as 10-name expected"


@pytest.mark.slow
def test_a_file_that_cannot_be_executed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "10-web"
    path.write_text("")
    path.chmod(0o644)
    with pytest.raises(NriError) as caught:
        launch(path)
    assert str(caught.value) == f"cannot start plugin {path}: Permission denied"


@pytest.mark.slow
def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "10-web"
    with pytest.raises(NriError) as caught:
        launch(path)
    assert str(caught.value) == f"cannot start plugin {path}: No such file or directory"


@pytest.mark.slow
def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "10-web"
    path.write_bytes(b"\x00\x01\x02")
    path.chmod(0o755)
    with pytest.raises(NriError) as caught:
        launch(path)
    assert str(caught.value) == f"cannot start plugin {path}: Exec format error"


@pytest.mark.slow
def test_a_refused_plugin_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(NriError):
            launch_as(tmp_path / "missing", "10", "web")
    assert set(os.listdir("/proc/self/fd")) == before


def is_child(pid: int) -> bool:
    """Tell whether a child of ours with that number exists, be it a zombie."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", ["__import__('time').sleep(600)", "__import__('os')._exit(3)", REPORT]
)
def test_close_leaves_neither_a_process_nor_a_zombie(tmp_path: Path, body: str) -> None:
    with closing(launch(script(tmp_path / "10-web", body))) as peer:
        pid = peer.pid
        assert pid is not None
        assert is_child(pid)
        peer.close()
        assert not is_child(pid)  # and closing again does no harm


@pytest.mark.slow
def test_a_plugin_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    body = (
        "import signal, socket\n"
        "for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)\n"
        "socket.close(3)\n"
        "signal.pause()\n"
    )
    with closing(launch(script(tmp_path / "10-web", body))) as peer:
        until_it_hangs_up(peer)
        pid = peer.pid
    assert pid is not None
    assert not is_child(pid)

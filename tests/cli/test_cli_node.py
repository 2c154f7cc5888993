"""`nri-inject install`, `uninstall`, `status` and `doctor` as commands: words and exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nri_inject.policy.source import Standing
from nri_inject.service.health.state import Missed, Stale, State, document, when
from nri_inject.service.health.status import StatusSocket
from nri_inject.version import VERSION

pytestmark = pytest.mark.slow

BOUND = 30
PROGRAM = Path(sys.executable).with_name("nri-inject")


def ended(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, timeout=BOUND, check=False, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text("version = 2\n")
    return tmp_path


@pytest.mark.parametrize("name", ["install", "uninstall", "status", "doctor", "run"])
def test_help_has_an_example(name: str) -> None:
    status, output, _ = ended(name, "--help")
    assert status == 0
    assert f"Example: nri-inject {name}" in output


def test_programs_that_need_this_python_are_not_for_another_host(host: Path) -> None:
    assert ended("install", "--root", host) == (
        1,
        "",
        (
            "Error: with --root the programs are copied, and these programs need this Python; use"
            " the"
            " self-contained build (make binaries)\n"
        ),
    )


def test_a_host_without_a_runtime_is_an_error(tmp_path: Path) -> None:
    for command in ("install", "doctor"):
        status, _, errors = ended(command, "--root", tmp_path)
        assert status == 1
        assert errors.startswith(f"Error: no runtime found below {tmp_path}; choose one")


def test_nothing_installed_is_nothing_to_take_away(host: Path) -> None:
    assert ended("uninstall", "--root", host) == (0, "", "")
    status, output, _ = ended("uninstall", "--root", host, "--format", "json")
    assert (status, json.loads(output)) == (0, {"dry_run": False, "changes": [], "next": []})


def test_doctor_says_what_is_wrong_and_what_to_do(host: Path) -> None:
    assert ended("doctor", "--root", host) == (
        1,
        (
            "problem  /etc/containerd/config.toml does not set whether NRI is on; before"
            " containerd 2.0 it is off\n"
            "         do: enable NRI in /etc/containerd/config.toml: disable = false and"
            ' disable_connections = false in [plugins."io.containerd.nri.v1.nri"]; restart'
            " containerd\n"
            "problem  NRI socket /var/run/nri/nri.sock: no such file or directory\n"
            "         do: start or restart containerd; mount the socket's directory, not the"
            " socket, into a container\n"
            "problem  nri-inject is not installed: /opt/nri/plugins has no plugin of it, there is"
            " no unit, and no plugin of it runs; pods start without the devices that they request\n"
            "         do: nri-inject install; a plugin that the DaemonSet runs is not visible here,"
            " ask it with kubectl exec\n"
            "3 problems with NRI on containerd\n"
        ),
        "",
    )


def test_doctor_counts_one_problem_as_one(host: Path) -> None:
    config = host / "etc/containerd/config.toml"
    config.write_text('version = 2\n[plugins."io.containerd.nri.v1.nri"]\ndisable = false\n')
    (host / "opt/nri/plugins").mkdir(parents=True)
    (host / "opt/nri/plugins/20-nri-inject").write_text("")
    (host / "opt/nri/plugins/20-nri-inject").chmod(0o755)
    output = ended("doctor", "--root", host)[1]
    assert output.splitlines()[-1] == "1 problem with NRI on containerd"


def test_doctor_for_programs(host: Path) -> None:
    status, output, _ = ended("doctor", "--root", host, "--format", "json")
    said = json.loads(output)
    assert (status, said["runtime"], said["release"]) == (1, "containerd", None)
    assert [one["check"] for one in said["findings"]] == ["nri", "socket", "installed"]
    assert set(said["findings"][0]) == {"check", "level", "what", "do"}


def served(where: Path, said: dict[str, Any], *arguments: str) -> tuple[int, str, str]:
    """Run `status` while a plugin's socket answers."""
    result: list[tuple[int, str, str]] = []
    command = ("status", "--status-dir", str(where), *arguments)
    with closing(StatusSocket(str(where), "20-a", lambda: said)) as one:
        asking = threading.Thread(target=lambda: result.append(ended(*command)))
        asking.start()
        while asking.is_alive():
            one.ready()
    return result[0]


def test_status_for_people(tmp_path: Path) -> None:
    state = State("20", "a", 7, started=0.0, runtime="containerd 2.1.9", synchronized=60.0)
    state.asked, state.changed, state.failed, state.compared = 4, 2, 1, 9
    state.missed.add("c", Missed("ns/web", "app", ("device /dev/fuse",)))
    state.missed.note("c", "not restarted: namespace ns is excluded")
    state.missed.add("d", Missed("ns/web", "b", (), "no rule allows it"))
    state.restarts |= {"stopped": 3, "excluded": 1}
    state.to_restart = 2
    state.drifted.add("e", Missed("ns/old", "app", ("hook /bin/note",)))
    state.stale.add("f", Stale("ns/zigbee", "app", ("/dev/zigbee is now 188:1",), 120.0))
    state.config_error = "config.yaml: bad"
    state.notes = ["it sees no database of udev"]
    said = document(state, "synchronized", launched=False)
    assert served(tmp_path, said) == (
        1,
        (
            "20-a  synchronized by containerd 2.1.9 since 1970-01-01T00:01:00Z, process 7\n"
            "  containers  4 asked, 2 changed, 1 failed, 0 denied, 0 late\n"
            "  missed      2 of 9 that were running\n"
            "    ns/web app lacks device /dev/fuse; not restarted: namespace ns is excluded\n"
            "    ns/web b would be refused now: no rule allows it\n"
            "  drifted     1 that would be given something else now\n"
            "    ns/old app lacks hook /bin/note\n"
            "  stale       1 with a device that has changed\n"
            "    ns/zigbee app stale since 1970-01-01T00:02:00Z, because /dev/zigbee is now 188:1\n"
            "  restarts    3 stopped for the kubelet to create anew, 1 in an excluded namespace,"
            " 2 waiting\n"
            "  not in force: config.yaml: bad\n"
            "  note        it sees no database of udev\n"
        ),
        "",
    )
    assert served(tmp_path, said, "--plugin", "b")[0] == 1


@pytest.mark.parametrize(
    ("no_answer", "line"),
    [
        ("", "  missed      0 of 0 that were running"),
        ("fails", "  no answer   a container fails if the plugin does not answer"),
        ("passes", "  no answer   a container starts without the plugin if it does not answer"),
        (
            "ignored",
            (
                "  no answer   a container starts without the plugin if it does not answer: this"
                " runtime ignores the failure policy, which needs NRI 0.12.4"
            ),
        ),
    ],
)
def test_status_says_what_becomes_of_a_request_without_an_answer(
    tmp_path: Path, no_answer: Any, line: str
) -> None:
    said = document(State("20", "a", 7, no_answer=no_answer), "synchronized", launched=False)
    assert served(tmp_path, said)[1].splitlines()[2] == line


def test_status_counts_the_workers_that_were_replaced(tmp_path: Path) -> None:
    said = document(State("20", "a", 7, failures=2), "synchronized", launched=False)
    line = served(tmp_path, said)[1].splitlines()[1]
    assert line == "  workers     2 died or hung, and were replaced"


def test_status_says_why_an_upgrade_failed(tmp_path: Path) -> None:
    state = State("20", "a", 7, upgrades=3, upgrade_error="it does not start")
    said = document(state, "synchronized", launched=False)
    assert said["upgrades"] == {"count": 3, "error": "it does not start"}
    line = served(tmp_path, said)[1].splitlines()[1]
    assert line == f"  upgrade     failed, version {VERSION} goes on: it does not start"


def test_status_of_hostile_names_stays_on_its_lines(tmp_path: Path) -> None:
    name = "a\nb\x1b[2J\u202e"
    state = State("20", "a", 7, runtime=name, config_error=name)
    state.missed.add("c", Missed(name, name, (name,)))
    said = document(state, "synchronized", launched=False)
    output = served(tmp_path, said)[1]
    lines = output.split("\n")
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)


def test_status_of_a_plugin_from_before_an_upgrade_is_shown(tmp_path: Path) -> None:
    said = document(State("20", "a", 7), "synchronized", launched=False)
    for key in ("uncompared", "notes", "drifted", "stale", "worker", "upgrades"):
        del said[key]
    status, output, _ = served(tmp_path, said)
    assert (status, output.splitlines()[-1]) == (0, "  missed      0 of 0 that were running")


POLICY = "  policy      /p.yaml: "
FAULT = "  not in force: /p.yaml: bad"
KEPT = "in force is the last good version, kept from before the start"


@pytest.mark.parametrize(
    ("in_force", "age", "status", "line"),
    [
        ("newest", 7300, 0, "in force is the newest version, of WHEN, 2 h ago"),
        ("before", 130, 1, "in force is the version before, of WHEN, 2 min ago"),
        ("kept", 259_300, 1, f"{KEPT}, of WHEN, 3 d ago"),
        ("nothing", None, 1, "everything is denied"),
    ],
)
def test_status_says_which_version_of_the_policy_is_in_force_and_how_old_it_is(
    tmp_path: Path, in_force: Any, age: int | None, status: int, line: str
) -> None:
    now = datetime.now(UTC).timestamp()
    written = None if age is None else now - age
    lines = [POLICY + line.replace("WHEN", str(when(written)) if written else "")]
    error = "/p.yaml: bad" if status else ""
    standing = Standing("/p.yaml", in_force, written, error)
    state = State("20", "a", 7, policy=standing)
    said = document(state, "synchronized", launched=False)
    shown = served(tmp_path, said)
    assert (shown[0], shown[1].splitlines()[3:]) == (status, lines + [FAULT] * status)
    told = f"20-a: not in force: {error}\n" if error else ""
    assert served(tmp_path, said, "--ready") == (status, told, "")
    assert served(tmp_path, said, "--live") == (0, "", "")


def test_probes_tell_ready_from_live_and_why_it_is_not(tmp_path: Path) -> None:
    said = document(State("20", "a", 7), "registering", launched=False)
    assert served(tmp_path, said, "--live") == (0, "", "")
    assert served(tmp_path, said, "--ready") == (
        1,
        "20-a: not registered with a runtime: registering\n",
        "",
    )
    assert ended("status", "--live", "--status-dir", tmp_path) == (1, "", "")


def test_without_a_plugin_status_says_where_it_looked(tmp_path: Path) -> None:
    assert ended("status", "--status-dir", tmp_path) == (
        1,
        f"no plugin has a socket in {tmp_path}\n",
        "",
    )


def test_a_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, output, errors = ended("status", "--status-dir", tmp_path / "file")
    assert (status, output) == (1, "")
    assert errors == f"Error: {tmp_path}/file: {os.strerror(20)}\n"

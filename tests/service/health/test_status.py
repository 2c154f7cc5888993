"""The status socket: what it answers, to whom, and what a killed plugin leaves behind."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from nri_inject.service.health import clients, state, status
from nri_inject.service.health.state import Missed, Stale, State
from nri_inject.service.health.status import StatusSocket, ask, ask_all, is_alive


def served(one: StatusSocket, where: Path, how: Callable[[str], object] = ask) -> dict[str, object]:
    """Ask while the socket is served as the loop does."""
    answers: dict[str, object] = {}

    def ask_each() -> None:
        answers.update({name: how(path) for name, path in status.found(str(where)).items()})

    asking = threading.Thread(target=ask_each)
    asking.start()
    while asking.is_alive():
        one.ready()
    asking.join()
    return answers


def test_who_connects_gets_the_document(tmp_path: Path) -> None:
    with closing(StatusSocket(str(tmp_path), "20-a", lambda: {"plugin": "20-a"})) as one:
        assert served(one, tmp_path) == {f"20-a.{os.getpid()}": {"plugin": "20-a"}}
        assert stat.S_IMODE(Path(one.path).stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_its_directory_is_made_for_root_alone_whatever_the_umask(tmp_path: Path) -> None:
    where = tmp_path / "run" / "nri-inject"
    before = os.umask(0)
    try:
        with closing(StatusSocket(str(where), "20-a", dict)) as one:
            for path in (where, where.parent):
                assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert stat.S_IMODE(Path(one.path).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def connected(one: StatusSocket) -> socket.socket:
    """Return a client that has not read anything."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(one.path)
    return client


LONG = {"text": "x" * (1 << 19)}  # longer than a socket's buffer


def test_what_does_not_fit_at_once_is_sent_when_the_client_reads(tmp_path: Path) -> None:
    with closing(StatusSocket(str(tmp_path), "20-a", lambda: LONG)) as one, connected(one) as slow:
        one.ready()
        received = b""
        while part := slow.recv(1 << 16):
            received += part
            one.ready()
    assert json.loads(received) == LONG


@pytest.mark.slow
def test_a_thousand_clients_that_never_read_hold_nobody_up(tmp_path: Path) -> None:
    with closing(StatusSocket(str(tmp_path), "20-a", lambda: LONG)) as one, ExitStack() as silent:
        for _ in range(1000):
            silent.enter_context(connected(one))
            one.ready()
        assert len(one._clients) == clients.MAX_CLIENTS
        assert served(one, tmp_path, is_alive) == {f"20-a.{os.getpid()}": True}


def test_a_client_that_never_reads_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "MAX_TIME", 0.01)
    with closing(StatusSocket(str(tmp_path), "20-a", lambda: LONG)) as one, connected(one) as slow:
        one.ready()
        while one._clients:
            assert select.select([one], [], [], 10)[0], "no timer woke the loop"
            one.ready()
        received = 0
        while part := slow.recv(1 << 16):
            received += len(part)
        assert 0 < received < 1 << 19
        assert select.select([one], [], [], 0)[0] == []


def test_a_plugin_whose_queue_is_full_is_busy_and_not_dead(tmp_path: Path) -> None:
    with closing(StatusSocket(str(tmp_path), "20-a", dict)) as one, ExitStack() as waiting:
        errors = 0
        while errors != errno.EAGAIN:
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            errors = client.connect_ex(one.path)
        assert served(one, tmp_path, is_alive) == {f"20-a.{os.getpid()}": True}
        assert served(one, tmp_path, ask) == {f"20-a.{os.getpid()}": {}}


def test_a_killed_plugins_socket_is_silent_and_goes_when_the_next_one_comes(
    tmp_path: Path,
) -> None:
    left = tmp_path / "20-a.1.sock"
    other = tmp_path / "30-b.1.sock"
    for path in (left, other):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    (tmp_path / "20-a.2.sock").write_text("no socket")
    assert ask_all(str(tmp_path)) == {"20-a.1": None, "30-b.1": None}
    with closing(StatusSocket(str(tmp_path), "20-a", dict)):
        assert not left.exists()
        assert other.exists()
    assert (tmp_path / "20-a.2.sock").exists()


def test_one_that_hangs_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "CLIENT_TIMEOUT", 0.01)
    with closing(StatusSocket(str(tmp_path), "20-a", dict)) as one:
        assert ask(one.path) is None


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert ask_all(str(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("phase", "launched", "ready"),
    [
        ("synchronized", False, True),
        ("configured", True, True),
        ("configured", False, False),
        ("registering", True, False),
        ("disconnected", False, False),
    ],
)
def test_it_is_ready_when_a_runtime_asks_it(phase: str, launched: bool, ready: bool) -> None:
    assert state.document(State("20", "a", 1), phase, launched=launched)["ready"] is ready


HOSTILE = ["x", "é", "\u202e", "\U0001d54f", "\x1b", "\\", '"', "\udc80"]


@pytest.mark.parametrize("character", HOSTILE)
def test_a_document_is_bounded_in_bytes_whatever_names_are_in_it(character: str) -> None:
    full = State("20", "a", 1, runtime=character * 5000, config_error=character * 5000)
    full.notes = [character * 5000] * 10
    long = character * 5000
    for number in range(state.MAX_MISSED + 5):
        full.missed.add(str(number), Missed(long, long, (long,) * 6))
        full.drifted.add(str(number), Missed(long, long, (), long))
        full.stale.add(str(number), Stale(long, long, (long,) * 6, 0.0))
        full.missed.note(str(number), long)
        full.stale.note(str(number), long)
    said = state.document(full, "synchronized", launched=True)
    assert said["missed"]["count"] == state.MAX_MISSED + 5
    assert len(said["missed"]["containers"]) == state.MAX_SHOWN
    assert len(said["drifted"]["containers"]) == state.MAX_DRIFTED
    assert len(said["stale"]["containers"]) == state.MAX_STALE
    assert len(json.dumps(said)) < state.MAX_DOCUMENT
    kept = sum(
        len(part.encode(errors="surrogatepass"))
        for one in full.missed.values()
        for part in (one.pod, one.container, *one.lacks)
    )
    assert kept < 1_200_000


def test_the_longest_names_of_kubernetes_are_whole() -> None:
    full = State("20", "a", 1)
    name = f"{'n' * 63}/{'p' * 253}"
    full.missed.add("c", Missed(name, "c" * 63, ("device /dev/fuse",)))
    assert full.missed["c"] == Missed(name, "c" * 63, ("device /dev/fuse",))


def test_a_text_is_cut_by_what_it_takes_in_a_document() -> None:
    assert state.shortened("x" * 11, 10) == "x" * 10 + "…"
    assert state.shortened("é" * 4, 12) == "éé…"
    assert state.shortened("é" * 2, 12) == "éé"
    assert state.shortened("é" * 2, 11) == "é…"


def test_times_are_as_in_the_log() -> None:
    assert state.when(0.0) == "1970-01-01T00:00:00Z"
    assert state.when(None) is None

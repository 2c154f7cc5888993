"""The status socket: what it answers, to whom, and what a killed plugin leaves behind."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject import state, status
from nri_inject.state import Missed, State
from nri_inject.status import StatusSocket, ask, ask_all


def served(one: StatusSocket, where: Path) -> dict[str, dict[str, Any] | None]:
    """Ask while the socket is served as the loop does."""
    answers: dict[str, dict[str, Any] | None] = {}
    asking = threading.Thread(target=lambda: answers.update(ask_all(str(where))))
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


def test_its_directory_is_made_for_root_alone(tmp_path: Path) -> None:
    where = tmp_path / "run" / "nri-inject"
    with closing(StatusSocket(str(where), "20-a", dict)):
        assert stat.S_IMODE(where.stat().st_mode) == 0o700


def test_one_that_does_not_take_the_answer_holds_nobody_up(tmp_path: Path) -> None:
    long = {"text": "x" * (1 << 22)}
    status_socket = StatusSocket(str(tmp_path), "20-a", lambda: long)
    with closing(status_socket) as one, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(one.path)
        one.ready()


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
    monkeypatch.setattr(status, "PATIENCE", 0.01)
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


def test_the_longest_document_fits_into_a_sockets_buffer() -> None:
    full = State("20", "a", 1)
    lacks = ("device /dev/" + "x" * 320,) * 6
    for number in range(state.MOST_MISSED + 5):
        full.miss(str(number), Missed("n" * 320 + "/" + "p" * 320, "c" * 320, lacks))
    said = state.document(full, "synchronized", launched=True)
    assert said["missed"]["count"] == state.MOST_MISSED + 5
    assert len(said["missed"]["containers"]) == state.SHOWN_MISSED
    assert len(str(said)) < 212_992  # net.core.wmem_default of Linux


def test_times_are_as_in_the_log() -> None:
    assert state.when(0.0) == "1970-01-01T00:00:00Z"
    assert state.when(None) is None

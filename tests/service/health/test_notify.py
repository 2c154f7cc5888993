"""What systemd is told, and how often: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nri_inject.service.health.systemd import Watchdog, notify, watchdog_pause

TIMEOUT = 20.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(TIMEOUT)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def test_the_manager_gets_the_message(manager: socket.socket) -> None:
    assert notify("READY=1", {"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_socket_is_one_too() -> None:
    name = f"nri-inject-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(TIMEOUT)
        receiver.bind(f"\0{name}")
        assert notify("STOPPING=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert receiver.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_without_a_manager_nobody_is_told(address: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": address})


@pytest.mark.parametrize(
    ("environ", "pause"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_pause_is_half_of_what_the_manager_allows(
    environ: dict[str, str], pause: float | None
) -> None:
    assert watchdog_pause(environ) == pause


def test_the_watchdog_comes_again_and_again(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    with closing(Watchdog(0.001)) as watchdog:
        for _ in range(2):
            assert select.select([watchdog], [], [], TIMEOUT)[0]
            watchdog.ready()
            assert manager.recv(100) == b"WATCHDOG=1"

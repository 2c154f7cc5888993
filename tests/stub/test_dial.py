"""Connections that a runtime passes on, and pauses between attempts to dial."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nri_inject.errors import ConnectionLost
from nri_inject.stub import launched_connection
from nri_inject.stub.dial import pauses


def test_without_a_descriptor_nothing_was_launched() -> None:
    assert launched_connection({}) is None
    assert launched_connection({"NRI_PLUGIN_SOCKET": ""}) is None


def test_a_launched_connection_is_not_handed_on_to_children() -> None:
    ours, theirs = socket.socketpair()
    number = os.dup(theirs.fileno())
    theirs.close()
    os.set_inheritable(number, True)
    with ours:
        connection = launched_connection({"NRI_PLUGIN_SOCKET": str(number)})
        assert connection is not None
        with connection:
            assert connection.fileno() == number
            assert not os.get_inheritable(number)


@pytest.mark.parametrize("text", ["three", "-1", "3 ", "0x3", "٣", "9" * 30])
def test_what_is_no_number_of_a_descriptor_is_told(text: str) -> None:
    with pytest.raises(ConnectionLost) as error:
        launched_connection({"NRI_PLUGIN_SOCKET": text})
    expected = f"NRI_PLUGIN_SOCKET is {text!r}, the number of a descriptor expected"
    assert str(error.value) == expected


def test_a_descriptor_that_is_no_socket_is_told(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        number = file.fileno()
        with pytest.raises(ConnectionLost) as error:
            launched_connection({"NRI_PLUGIN_SOCKET": str(number)})
    assert str(error.value) == (
        f"NRI_PLUGIN_SOCKET is {number}, which is not a connected socket: "
        "Socket operation on non-socket"
    )


def test_a_socket_that_is_not_connected_is_told() -> None:
    with socket.socket(socket.AF_UNIX) as unconnected:
        number = os.dup(unconnected.fileno())
    with pytest.raises(
        ConnectionLost, match=r"which is not a connected socket: Transport endpoint"
    ):
        launched_connection({"NRI_PLUGIN_SOCKET": str(number)})


def test_pauses_double_up_to_the_longest() -> None:
    middles = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    for pause, middle in zip(pauses(0.5, 30.0), middles, strict=False):
        assert middle / 2 <= pause <= middle * 3 / 2

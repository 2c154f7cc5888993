"""Messages of kernel and udev, and what becomes of those that get lost."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.host.devices.uevents import Uevent, Uevents, parse

ADD = (
    b"add@/devices/pci0/usb1/1-2/tty/ttyUSB0\0ACTION=add\0"
    b"DEVPATH=/devices/pci0/usb1/1-2/tty/ttyUSB0\0SUBSYSTEM=tty\0MAJOR=188\0MINOR=0\0"
    b"DEVNAME=ttyUSB0\0SEQNUM=816\0"
)
STICK = Uevent("/devices/pci0/usb1/1-2/tty/ttyUSB0", ("c", 188, 0))


def of_udev(message: bytes) -> bytes:
    """Put udev's header in front of the properties."""
    properties = message.partition(b"\0")[2]
    header = struct.pack(
        "=8sIIIIIIII", b"libudev\0", 0xCEEDFAFE, 40, 40, len(properties), 0, 0, 0, 0
    )
    return header + properties


def test_a_message_of_the_kernel() -> None:
    assert parse(ADD) == STICK


def test_a_message_of_udev() -> None:
    assert parse(of_udev(ADD)) == STICK


def test_a_block_device_and_one_without_a_node() -> None:
    head = b"change@/devices/x\0DEVPATH=/devices/x\0"
    assert parse(head + b"SUBSYSTEM=block\0MAJOR=7\0MINOR=1\0") == Uevent("/devices/x", ("b", 7, 1))
    assert parse(head + b"SUBSYSTEM=usb\0") == Uevent("/devices/x")
    assert parse(head + b"MAJOR=x\0MINOR=1\0") == Uevent("/devices/x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"libudev\0",
        b"libudev\0" + b"\xff" * 40,
        b"add@/x\0ACTION=add\0",
        b"add@/x\0DEVPATH=/module/x\0",
        b"add@/x\0DEVPATH=/devices/../../etc\0",
    ],
)
def test_what_is_not_about_a_device_says_nothing(data: bytes) -> None:
    assert parse(data) is None


@given(st.binary(max_size=100))
def test_garbage_is_not_believed(data: bytes) -> None:
    for message in (data, b"libudev\0" + data, ADD + data):
        event = parse(message)
        assert event is None or event.syspath.startswith("/devices/")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Uevents]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    events = Uevents(ours)
    yield theirs, events
    theirs.close()
    events.close()


def test_messages_are_taken_once_and_in_order(ends: tuple[socket.socket, Uevents]) -> None:
    theirs, events = ends
    assert events.take() == []
    theirs.send(ADD)
    theirs.send(b"of no use")
    theirs.send(of_udev(ADD.replace(b"ttyUSB0", b"ttyUSB1")))
    assert events.take() == [STICK, Uevent(STICK.syspath[:-1] + "1", ("c", 188, 0))]
    assert events.take() == []

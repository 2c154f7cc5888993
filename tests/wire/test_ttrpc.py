from __future__ import annotations

import tracemalloc

import pytest
from wirebytes import LIMIT, message

from nri_inject.wire import ttrpc
from nri_inject.wire.ttrpc import Decoder, Message, MessageType

NEXT = Message(99, 1, b"next")

CASES: dict[str, tuple[bytes, list[Message]]] = {
    "a request": (bytes.fromhex("00000003 00000001 01 00 616263"), [Message(1, 1, b"abc")]),
    "a response without data": (bytes.fromhex("00000000 00000003 02 00"), [Message(3, 2, b"")]),
    "flags": (bytes.fromhex("00000001 00000001 01 ff 61"), [Message(1, 1, b"a")]),
    "an unknown type": (bytes.fromhex("00000001 00000001 09 00 61"), [Message(1, 9, b"a")]),
    "the greatest stream": (message(0xFFFFFFFF, 1, b"a"), [Message(0xFFFFFFFF, 1, b"a")]),
    "two messages": (
        message(1, 1, b"a") + message(3, 1, b""),
        [Message(1, 1, b"a"), Message(3, 1, b"")],
    ),
    "data that looks like a message": (
        message(1, 1, message(3, 1, b"x")),
        [Message(1, 1, message(3, 1, b"x"))],
    ),
}

cases = pytest.mark.parametrize(("data", "messages"), CASES.values(), ids=CASES)


@cases
def test_messages_are_found_when_they_come_whole(data: bytes, messages: list[Message]) -> None:
    assert Decoder().receive(data) == messages


@cases
def test_messages_are_found_byte_by_byte(data: bytes, messages: list[Message]) -> None:
    decoder = Decoder()
    found: list[Message] = []
    for position in range(len(data)):
        found.extend(decoder.receive(data[position : position + 1]))
    assert found == messages


@cases
def test_what_follows_a_message_is_the_next_one(data: bytes, messages: list[Message]) -> None:
    decoder = Decoder()
    following = message(*NEXT[:2], b"next")
    assert decoder.receive(data + following + following[:5]) == [*messages, NEXT]
    assert decoder.receive(following[5:]) == [NEXT]


def test_a_message_is_handed_out_with_its_last_byte() -> None:
    decoder = Decoder()
    data = message(1, 1, b"abc")
    assert decoder.receive(data[:-1]) == []
    assert decoder.receive(data[-1:]) == [Message(1, 1, b"abc")]


def test_data_of_4_mib_is_accepted() -> None:
    data = b"x" * LIMIT
    assert Decoder().receive(message(5, 2, data)) == [Message(5, 2, data)]


@pytest.mark.parametrize("chunk", [1000, 1 << 16, 1 << 23])
def test_a_message_that_is_too_long_is_skipped_and_the_next_one_found(chunk: int) -> None:
    data = message(5, 1, bytes(LIMIT + 1)) + message(7, 1, b"after")
    decoder = Decoder()
    found: list[Message] = []
    for position in range(0, len(data), chunk):
        found.extend(decoder.receive(data[position : position + chunk]))
    assert found == [Message(5, 1, None), Message(7, 1, b"after")]


def test_a_message_that_is_too_long_is_told_of_when_its_header_is_there() -> None:
    decoder = Decoder()
    assert decoder.receive(bytes.fromhex("ffffffff 00000005 01")) == []
    assert decoder.receive(b"\0") == [Message(5, 1, None)]


def test_two_messages_that_are_too_long_follow_each_other() -> None:
    long = bytes(LIMIT + 1)
    data = message(1, 1, long) + message(3, 1, long) + message(5, 1)
    assert Decoder().receive(data) == [
        Message(1, 1, None),
        Message(3, 1, None),
        Message(5, 1, b""),
    ]


def test_a_message_of_4_gib_is_never_kept() -> None:
    decoder = Decoder()
    piece = bytes(1 << 20)
    tracemalloc.start()
    try:
        assert decoder.receive(bytes.fromhex("ffffffff 00000005 01 00")) == [Message(5, 1, None)]
        for _ in range(64):
            assert decoder.receive(piece) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18


def test_a_message_as_bytes() -> None:
    assert ttrpc.encode(3, MessageType.RESPONSE, b"abc") == bytes.fromhex(
        "00000003 00000003 02 00 616263"
    )

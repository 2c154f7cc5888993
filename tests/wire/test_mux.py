from __future__ import annotations

import pytest
from wirebytes import frame, frames_in

from nri_inject.errors import ProtocolError
from nri_inject.wire import mux

MESSAGE_OF_4_MIB = (4 << 20) + 10

Pieces = list[tuple[int, bytes]]

CASES: dict[str, tuple[bytes, Pieces]] = {
    "one frame": (bytes.fromhex("00000001 00000003 616263"), [(1, b"abc")]),
    "a frame of one byte": (bytes.fromhex("00000002 00000001 ff"), [(2, b"\xff")]),
    "an empty frame": (bytes.fromhex("00000001 00000000"), []),
    "two frames of one channel": (frame(1, b"ab") + frame(1, b"cd"), [(1, b"abcd")]),
    "both channels": (
        frame(1, b"a") + frame(2, b"b") + frame(1, b"c"),
        [(1, b"a"), (2, b"b"), (1, b"c")],
    ),
    "an empty frame between": (frame(1, b"a") + frame(2, b"") + frame(1, b"b"), [(1, b"ab")]),
    "the reserved channel": (frame(0, b"x"), [(0, b"x")]),
    "the last channel": (frame(0xFFFFFFFF, b"x"), [(0xFFFFFFFF, b"x")]),
    "payload that looks like a header": (frame(1, frame(2, b"x")), [(1, frame(2, b"x"))]),
}

cases = pytest.mark.parametrize(("data", "pieces"), CASES.values(), ids=CASES)


def joined(pieces: Pieces) -> Pieces:
    """Join neighbours of one channel: where pieces are cut is nobody's business."""
    result: Pieces = []
    for channel, piece in pieces:
        assert piece
        if result and result[-1][0] == channel:
            result[-1] = (channel, result[-1][1] + piece)
        else:
            result.append((channel, piece))
    return result


def byte_by_byte(demux: mux.Demux, data: bytes) -> Pieces:
    pieces: Pieces = []
    for position in range(len(data)):
        pieces.extend(demux.receive(data[position : position + 1]))
    return pieces


@cases
def test_frames_are_taken_apart_when_they_come_whole(data: bytes, pieces: Pieces) -> None:
    assert joined(mux.Demux().receive(data)) == pieces


@cases
def test_frames_are_taken_apart_byte_by_byte(data: bytes, pieces: Pieces) -> None:
    assert joined(byte_by_byte(mux.Demux(), data)) == pieces


@cases
def test_what_follows_a_frame_is_the_next_one(data: bytes, pieces: Pieces) -> None:
    demux = mux.Demux()
    assert joined(demux.receive(data + frame(7, b"next") + b"\0\0\0")) == [*pieces, (7, b"next")]
    assert demux.receive(b"\x09\0\0\0\x01!") == [(9, b"!")]


def test_a_payload_is_handed_on_as_it_arrives() -> None:
    demux = mux.Demux()
    assert demux.receive(bytes.fromhex("00000001 00000005") + b"he") == [(1, b"he")]
    assert demux.receive(b"llo" + bytes.fromhex("0000")) == [(1, b"llo")]


def test_nothing_gives_nothing() -> None:
    assert mux.Demux().receive(b"") == []


def test_the_longest_frame_is_accepted() -> None:
    payload = bytes(MESSAGE_OF_4_MIB)
    assert mux.Demux().receive(frame(1, payload)) == [(1, payload)]


@pytest.mark.parametrize("channel", [0, 1, 2, 7])
def test_a_frame_of_one_byte_too_much_is_an_error_on_every_channel(channel: int) -> None:
    header = channel.to_bytes(4, "big") + (MESSAGE_OF_4_MIB + 1).to_bytes(4, "big")
    with pytest.raises(ProtocolError) as error:
        mux.Demux().receive(header)
    assert str(error.value) == (
        f"multiplexer frame of 4194315 bytes on channel {channel}, at most 4194314 allowed"
    )


def test_a_frame_that_announces_4_gib_is_an_error_as_soon_as_its_header_is_there() -> None:
    demux = mux.Demux()
    assert demux.receive(bytes.fromhex("00000001 ffffff")) == []
    with pytest.raises(ProtocolError, match="frame of 4294967295 bytes on channel 1"):
        demux.receive(b"\xff")


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, [0]),
        (10, [10]),
        (4095, [4095]),
        (4096, [4096]),
        (4097, [4096, 1]),
        (8192, [4096, 4096]),
        (12000, [4096, 7904]),
        (MESSAGE_OF_4_MIB, [4096, MESSAGE_OF_4_MIB - 4096]),
    ],
)
def test_a_message_is_cut_as_a_go_receiver_reads_it(size: int, lengths: list[int]) -> None:
    """One frame up to 4096 bytes; else 4096 bytes and then all the rest."""
    body = bytes(index % 251 for index in range(min(size, 5000))).ljust(size, b"\xaa")
    made = list(frames_in(mux.frames(2, body)))
    assert [len(payload) for _, payload in made] == lengths
    assert {channel for channel, _ in made} == {2}
    assert b"".join(payload for _, payload in made) == body


def test_what_is_joined_is_taken_apart_again() -> None:
    body = bytes(range(256)) * 40
    assert joined(mux.Demux().receive(mux.frames(1, body))) == [(1, body)]

"""One call of gRPC as bytes: what is sent, and what the bytes of a server mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cri
from support.cri import frame, frames

from nri_inject.errors import ProtocolError
from nri_inject.wire import grpc, hpack
from nri_inject.wire.grpc import CallResult, UnaryCall

METHOD = "/runtime.v1.RuntimeService/StopContainer"
HEADERS = cri.END_HEADERS | cri.END_STREAM
SETTINGS = frame(cri.SETTINGS, stream=0)


def call() -> UnaryCall:
    one = UnaryCall(METHOD, b"message", 1.5)
    one.outgoing()
    return one


def block(*fields: tuple[str, str]) -> bytes:
    return hpack.encode(fields)


def failed(data: bytes) -> str:
    with pytest.raises(ProtocolError) as error:
        call().receive(data)
    return str(error.value)


def test_a_call_is_sent_whole_before_the_server_says_a_word() -> None:
    one = UnaryCall(METHOD, b"message", 1.5)
    sent = one.outgoing()
    assert sent.startswith(cri.PREFACE)
    settings, headers, data = frames(sent.removeprefix(cri.PREFACE))
    # SETTINGS_HEADER_TABLE_SIZE and SETTINGS_ENABLE_PUSH are 0.
    assert settings == (cri.SETTINGS, 0, 0, bytes.fromhex("000100000000 000200000000"))
    assert (headers.kind, headers.flags, headers.stream) == (cri.HEADERS, cri.END_HEADERS, 1)
    assert dict(hpack.decode(headers.content)) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": "1500m",
    }
    assert data == (cri.DATA, cri.END_STREAM, 1, bytes.fromhex("00 00000007") + b"message")
    assert one.outgoing() == b""


ANSWERS = {
    "success": (cri.answer(), CallResult(0, "")),
    "a status": (cri.answer(5, "no such container"), CallResult(5, "no such container")),
    "a text with percents": (cri.answer(2, "50%25 of %C3%A9"), CallResult(2, "50% of é")),
    "a text that is none": (cri.answer(2, "%FF%zz"), CallResult(2, "�%zz")),
    "a status that is no number": (
        frame(cri.HEADERS, HEADERS, block(("grpc-status", "x" * 9000))),
        CallResult(2, ""),
    ),
    "headers in parts": (
        frame(cri.HEADERS, cri.END_STREAM, block(("grpc-status", "7"))[:5])
        + frame(cri.CONTINUATION, 0, block(("grpc-status", "7"))[5:7])
        + frame(cri.CONTINUATION, cri.END_HEADERS, block(("grpc-status", "7"))[7:]),
        CallResult(7, ""),
    ),
    "padding and a priority": (
        frame(cri.HEADERS, HEADERS | 0x28, b"\2" + bytes(5) + block(("grpc-status", "7")) + b"__"),
        CallResult(7, ""),
    ),
    "other streams": (
        frame(cri.HEADERS, HEADERS, block(("grpc-status", "7")), stream=3) + cri.answer(),
        CallResult(0, ""),
    ),
}


@pytest.mark.parametrize(("data", "result"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_its_status(data: bytes, result: CallResult) -> None:
    assert call().receive(data) == result
    one = call()
    assert [one.receive(data[at : at + 1]) for at in range(len(data) - 1)] == [None] * (
        len(data) - 1
    )
    assert one.receive(data[-1:]) == result


def test_the_answer_of_containerd_is_read() -> None:
    data = bytes.fromhex(CONTAINERD_STOPPED)
    assert call().receive(data) == CallResult(0, "")
    assert call().receive(bytes.fromhex(CONTAINERD_REFUSED)) == CallResult(*REFUSAL)


def test_settings_and_pings_are_acknowledged() -> None:
    one = call()
    ping = frame(cri.PING, 0, b"12345678", stream=0)
    assert one.receive(SETTINGS + ping + frame(cri.PING, 1, bytes(8), stream=0)) is None
    assert one.outgoing() == frame(cri.SETTINGS, 1, stream=0) + frame(
        cri.PING, 1, b"12345678", stream=0
    )


FAULTS = {
    "the end": (b"", "the connection ended before the answer"),
    "a reset": (
        frame(cri.RESET, 0, bytes.fromhex("00000008")),
        "the peer ends the call with error 8 of HTTP/2",
    ),
    "a farewell": (
        frame(cri.GO_AWAY, 0, bytes(4) + bytes.fromhex("0000000b") + b"why", stream=0),
        "the peer ends the connection with error 11 of HTTP/2",
    ),
    "no status": (frame(cri.HEADERS, HEADERS, b"\x88"), "the answer has no status of gRPC"),
    "a message alone": (frame(cri.DATA, cri.END_STREAM), "the answer has no status of gRPC"),
    "HTTP/1": (b"HTTP/1.1 400 Bad Request\r\n", "a frame of 4740180 bytes, at most 16384 allowed"),
    "half headers": (
        frame(cri.HEADERS, 0, b"\x88") + SETTINGS,
        "headers are not followed by the rest of them",
    ),
    "the rest of none": (
        frame(cri.CONTINUATION, cri.END_HEADERS, b"\x88"),
        "headers are not followed by the rest of them",
    ),
    "a broken block": (
        frame(cri.HEADERS, HEADERS, b"\0\5abc"),
        "a header block ends within a text",
    ),
}


@pytest.mark.parametrize(("data", "sentence"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_answer_is_an_error(data: bytes, sentence: str) -> None:
    assert failed(data) == sentence


def test_an_answer_is_bounded_in_bytes() -> None:
    one = call()
    part = frame(cri.DATA, 0, bytes(16_000))
    for _ in range(4):
        assert one.receive(part) is None
    with pytest.raises(ProtocolError, match="the answer has more than 65536 bytes"):
        one.receive(part)
    assert call().receive(cri.answer(2, "x" * 9000)) == CallResult(2, "x" * grpc.MAX_STATUS)


@given(
    st.lists(
        st.one_of(
            st.binary(),
            st.builds(
                frame,
                st.integers(0, 10),
                st.integers(0, 255),
                st.binary(),
                st.sampled_from([0, 1, 3]),
            ),
        )
    )
)
def test_arbitrary_bytes_are_an_answer_none_or_an_error(parts: list[bytes]) -> None:
    one = call()
    try:
        for part in parts:
            if (result := one.receive(part or b"\0")) is not None:
                assert len(result.text) <= grpc.MAX_STATUS
                return
    except ProtocolError:
        pass


# Of containerd 1.7.24 and 2.1.9 to StopContainer, and to ContainerStatus of no container.
CONTAINERD_STOPPED = (
    "0000060400000000000005000040000000000401000000000000040800000000000000004900000806000000"
    "000002041010090e070700001001040000000120880f108b1d75d0620d263d4c4d6564000005000000000001"
    "000000000000001801050000000100889acac8b21234da8f013000899acac8b5254207317f00"
)
CONTAINERD_REFUSED = (
    "0000060400000000000005000040000000000401000000000000040800000000000000001000000806000000"
    "000002041010090e070700005701050000000120880f108b1d75d0620d263d4c4d656400889acac8b21234da"
    "8f013500899acac8b5254207317faf1d4a16cb0f6287212db2c2c8a789cb5289b3d2893a929aa91421ea48cd"
    "516c53f9a8e99cb617f9b8a5474a929edaa4"
)
REFUSAL = (5, 'an error occurred when try to find container "nothere": not found')

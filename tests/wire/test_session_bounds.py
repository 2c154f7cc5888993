"""A session accepts messages up to the bounds of the reference and refuses longer ones."""

from __future__ import annotations

import tracemalloc

import pytest
from google.protobuf.message import Message
from support.sessions import (
    CREATE,
    RESOURCE_EXHAUSTED,
    asked,
    both_roles,
    one,
    one_call,
    still_works,
)
from wirebytes import (
    LIMIT,
    PLUGIN,
    Reply,
    frame,
    frames_in,
    message,
    replies_in,
    request,
    response,
)

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.errors import ProtocolError
from nri_inject.wire import mux
from nri_inject.wire.fields import MAX_FIELDS
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session

# Lengths


def filled(method: str, length: int) -> api.ConfigureRequest:
    """Return a request whose ttrpc envelope is exactly so long."""

    def envelope(text: str) -> int:
        body = api.ConfigureRequest(config=text).SerializeToString()
        whole = ttrpc_pb2.Request(service=PLUGIN, method=method, payload=body)
        return len(whole.SerializeToString())

    return api.ConfigureRequest(config="x" * (length - envelope("x" * LIMIT) + LIMIT))


def test_a_call_of_exactly_4_mib_goes_out_in_two_frames_and_arrives() -> None:
    runtime, plugin = Session(Role.RUNTIME), Session(Role.PLUGIN)
    body = filled("Configure", LIMIT)
    runtime.call("Configure", body)
    data = runtime.outgoing()
    assert [len(payload) for _, payload in frames_in(data)] == [4096, LIMIT + 10 - 4096]
    assert plugin.receive(data) == [Call(1, "Configure", body)]


def test_a_call_that_is_too_long_is_a_value_error_and_leaves_nothing_behind() -> None:
    runtime = Session(Role.RUNTIME)
    with pytest.raises(ValueError, match=r"^Configure request of 4194305 bytes, at most 4194304 c"):
        runtime.call("Configure", filled("Configure", LIMIT + 1))
    assert runtime.outgoing() == b""
    assert runtime.receive(b"") == []
    assert runtime.call("Shutdown", api.Empty()) == 1


@pytest.mark.parametrize(
    ("caller", "server", "method", "body", "result"),
    [
        (
            Role.RUNTIME,
            Role.PLUGIN,
            "CreateContainer",
            api.CreateContainerRequest(container=api.Container(env=["x" * 1000] * 4000)),
            api.CreateContainerResponse(adjust=api.Adjustment(args=["y" * 1000] * 4000)),
        ),
        (
            Role.PLUGIN,
            Role.RUNTIME,
            "UpdateContainers",
            api.UpdateContainersRequest(update=[api.ContainerUpdate(container_id="c" * 4_000_000)]),
            api.UpdateContainersResponse(
                failed=[api.ContainerUpdate(container_id="d" * 4_000_000)]
            ),
        ),
    ],
    ids=["runtime calls", "plugin calls"],
)
@pytest.mark.parametrize("chunk", [1 << 16, 1 << 30], ids=["in parts", "whole"])
def test_almost_4_mib_travel_there_and_back(
    caller: Role, server: Role, method: str, body: Message, result: Message, chunk: int
) -> None:
    near, far = Session(caller), Session(server)
    stream = near.call(method, body)
    call = one_call(in_parts(far, near.outgoing(), chunk))
    assert call == Call(stream, method, body)
    far.answer(call, result)
    assert in_parts(near, far.outgoing(), chunk) == [Answer(stream, method, result)]


def in_parts(session: Session, data: bytes, chunk: int) -> list[Event]:
    events: list[Event] = []
    for position in range(0, len(data), chunk):
        events.extend(session.receive(data[position : position + chunk]))
    return events


def test_an_answer_that_is_too_long_becomes_a_status() -> None:
    runtime, plugin = Session(Role.RUNTIME), Session(Role.PLUGIN)
    stream = runtime.call("CreateContainer", CREATE)
    call = one_call(plugin.receive(runtime.outgoing()))
    adjust = api.Adjustment(args=["x" * LIMIT])
    plugin.answer(call, api.CreateContainerResponse(adjust=adjust))
    failure = one(runtime.receive(plugin.outgoing()))
    assert failure == Failure(
        stream,
        "CreateContainer",
        RESOURCE_EXHAUSTED,
        "CreateContainer response of 4194319 bytes, at most 4194304 can be sent",
    )


def cut(data: bytes, channel: int = 1) -> bytes:
    """Put a long message into frames that each are allowed."""
    half = len(data) // 2
    return frame(channel, data[:half]) + frame(channel, data[half:])


def test_a_request_that_is_too_long_is_refused_on_its_stream_and_the_session_lives_on() -> None:
    session = Session(Role.PLUGIN)
    assert session.receive(cut(message(1, 1, bytes(LIMIT + 1)))) == []
    text = "message is longer than the 4194304 bytes that are allowed"
    assert replies_in(session.outgoing(), 1) == [Reply(1, RESOURCE_EXHAUSTED, text, b"")]
    assert still_works(session, 3)


@pytest.mark.slow
def test_a_request_of_too_many_fields_is_refused_before_it_is_read() -> None:
    session = Session(Role.PLUGIN)
    text = f"request has more than {MAX_FIELDS} fields"
    pods = b"\x0a\x00" * (MAX_FIELDS + 1)
    reply = asked(session, request(1, "Synchronize", pods))
    assert reply == Reply(1, RESOURCE_EXHAUSTED, text, b"")
    metadata = (("", ""),) * (MAX_FIELDS + 1)
    reply = asked(session, request(3, "Synchronize", metadata=metadata))
    assert reply == Reply(3, RESOURCE_EXHAUSTED, text, b"")
    assert still_works(session, 5)


def test_an_answer_of_too_many_fields_is_a_failure() -> None:
    session = Session(Role.PLUGIN)
    stream = session.call("UpdateContainers", api.UpdateContainersRequest())
    failed = response(stream, b"\x0a\x00" * (MAX_FIELDS + 1))
    assert session.receive(frame(2, failed)) == [
        Failure(
            *(stream, "UpdateContainers", RESOURCE_EXHAUSTED),
            f"the answer has more than {MAX_FIELDS} fields",
        )
    ]


def test_an_answer_from_the_peer_that_is_too_long_is_a_failure_and_the_session_lives_on() -> None:
    session = Session(Role.RUNTIME)
    first = session.call("Configure", api.ConfigureRequest())
    second = session.call("Shutdown", api.Empty())
    assert session.receive(
        cut(message(first, 2, bytes(LIMIT + 1))) + frame(1, response(second))
    ) == [
        Failure(
            first,
            "Configure",
            RESOURCE_EXHAUSTED,
            "the answer is longer than the 4194304 bytes that are allowed",
        ),
        Answer(second, "Shutdown", api.Empty()),
    ]


@both_roles
@pytest.mark.parametrize("channel", [0, 1, 2, 3])
def test_a_frame_that_announces_4_gib_is_an_error_at_once(role: Role, channel: int) -> None:
    header = channel.to_bytes(4, "big") + b"\xff\xff\xff\xff"
    with pytest.raises(ProtocolError, match=r"^multiplexer frame of 4294967295 bytes on channel"):
        Session(role).receive(header)


@both_roles
@pytest.mark.parametrize("channel", [1, 2])
def test_a_message_that_announces_4_gib_takes_no_memory(role: Role, channel: int) -> None:
    session = Session(role)
    piece = frame(channel, bytes(1 << 20))
    session.receive(frame(channel, bytes.fromhex("ffffffff 00000001 01 00")))
    session.outgoing()
    tracemalloc.start()
    try:
        for _ in range(32):
            assert session.receive(piece) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20  # copies of one piece
    assert session.outgoing() == b""


def test_the_limits_are_those_of_the_reference() -> None:
    assert mux.MAX_PAYLOAD == LIMIT + 10
    assert (mux.PLUGIN_CHANNEL, mux.RUNTIME_CHANNEL, mux.FIRST_PAYLOAD) == (1, 2, 4096)

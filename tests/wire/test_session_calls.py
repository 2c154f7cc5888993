"""A session sends calls and matches the answers to them."""

from __future__ import annotations

import pytest
from support.sessions import CREATE, INTERNAL, NOT_A_MESSAGE, both_roles, one
from wirebytes import (
    RUNTIME,
    frame,
    message,
    messages_in,
    response,
)

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.errors import ProtocolError
from nri_inject.wire.session import Answer, Failure, Role, Session

# Calling


def test_a_call_is_a_request_with_service_method_payload_and_timeout() -> None:
    session = Session(Role.PLUGIN)
    body = api.RegisterPluginRequest(plugin_name="p", plugin_idx="10")
    assert session.call("RegisterPlugin", body, timeout=2_000_000_000) == 1
    (raw,) = messages_in(session.outgoing())
    assert (raw.channel, raw.stream, raw.kind) == (2, 1, 1)
    assert ttrpc_pb2.Request.FromString(raw.data) == ttrpc_pb2.Request(
        service=RUNTIME,
        method="RegisterPlugin",
        payload=body.SerializeToString(),
        timeout_nano=2_000_000_000,
    )


def test_calls_count_in_odd_streams_on_their_own_channel() -> None:
    session = Session(Role.RUNTIME)
    assert [session.call("Shutdown", api.Empty()) for _ in range(3)] == [1, 3, 5]
    sent = messages_in(session.outgoing())
    assert [(raw.channel, raw.stream) for raw in sent] == [(1, 1), (1, 3), (1, 5)]


def test_answers_are_matched_by_stream_in_any_order() -> None:
    session = Session(Role.RUNTIME)
    configure = session.call("Configure", api.ConfigureRequest())
    create = session.call("CreateContainer", CREATE)
    payload = api.ConfigureResponse(events=8).SerializeToString()
    data = frame(1, response(create)) + frame(1, response(configure, payload))
    assert session.receive(data) == [
        Answer(create, "CreateContainer", api.CreateContainerResponse()),
        Answer(configure, "Configure", api.ConfigureResponse(events=8)),
    ]


def test_a_status_with_code_0_is_an_answer() -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Shutdown", api.Empty())
    data = message(stream, 2, bytes.fromhex("0a00"))
    assert session.receive(frame(1, data)) == [Answer(stream, "Shutdown", api.Empty())]


@pytest.mark.parametrize(
    ("code", "text"), [(2, "no ✗"), (12, "method Shutdown"), (99, ""), (-1, "")]
)
def test_a_status_is_a_failure(code: int, text: str) -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Shutdown", api.Empty())
    data = frame(1, response(stream, b"", code, text))
    assert session.receive(data) == [Failure(stream, "Shutdown", code, text)]


@pytest.mark.parametrize(
    "data",
    [
        message(1, 2, NOT_A_MESSAGE),
        message(1, 2, b"\x0a\x04\x12\x02\xff\xff"),
        response(1, NOT_A_MESSAGE),
        response(1, NOT_A_MESSAGE, 2, "the payload is decoded first"),
    ],
    ids=["envelope", "status text", "payload", "payload beside a status"],
)
def test_an_answer_that_cannot_be_decoded_is_a_failure(data: bytes) -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Configure", api.ConfigureRequest())
    failure = one(session.receive(frame(1, data)))
    assert isinstance(failure, Failure)
    assert failure[:3] == (stream, "Configure", INTERNAL)
    assert failure.text.startswith("the answer cannot be decoded: ")


@pytest.mark.parametrize("stream", [0, 3, 99, 0xFFFFFFFF])
def test_an_answer_that_nobody_waits_for_is_dropped_in_silence(stream: int) -> None:
    session = Session(Role.RUNTIME)
    session.call("Shutdown", api.Empty())
    session.outgoing()
    assert session.receive(frame(1, response(stream))) == []
    assert session.receive(frame(1, response(1))) == [Answer(1, "Shutdown", api.Empty())]
    assert session.outgoing() == b""


def test_a_second_answer_is_dropped_in_silence() -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Shutdown", api.Empty())
    data = frame(1, response(stream))
    assert session.receive(data + data) == [Answer(stream, "Shutdown", api.Empty())]


def test_a_late_answer_to_a_forgotten_call_is_dropped_in_silence() -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Shutdown", api.Empty())
    session.forget(stream)
    assert session.receive(frame(1, response(stream))) == []
    assert session.call("Shutdown", api.Empty()) == stream + 2


def test_forgetting_what_nobody_called_does_nothing() -> None:
    session = Session(Role.RUNTIME)
    stream = session.call("Shutdown", api.Empty())
    session.forget(stream + 2)
    assert session.receive(frame(1, response(stream))) == [Answer(stream, "Shutdown", api.Empty())]


# The end


@both_roles
def test_the_end_means_nothing_when_nothing_is_waited_for(role: Role) -> None:
    assert Session(role).receive(b"") == []


def test_the_end_is_an_error_while_calls_wait_for_answers() -> None:
    session = Session(Role.RUNTIME)
    session.call("Configure", api.ConfigureRequest())
    session.call("Shutdown", api.Empty())
    with pytest.raises(ProtocolError) as error:
        session.receive(b"")
    assert str(error.value) == "the connection ended before the answer to Configure, Shutdown"


def test_the_end_means_nothing_once_calls_are_forgotten() -> None:
    session = Session(Role.RUNTIME)
    session.forget(session.call("Configure", api.ConfigureRequest()))
    assert session.receive(b"") == []

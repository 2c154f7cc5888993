"""A session answers the requests of its peer and refuses those that break the protocol."""

from __future__ import annotations

import pytest
from support.sessions import (
    CREATE,
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_A_MESSAGE,
    UNIMPLEMENTED,
    WHOLE,
    asked,
    both_roles,
    one_call,
    still_works,
)
from wirebytes import (
    DATA,
    LIMIT,
    PLUGIN,
    RUNTIME,
    Reply,
    frame,
    message,
    replies_in,
    request,
    response,
)

from nri_inject import api
from nri_inject.wire.session import Answer, Call, Role, Session
from nri_inject.wire.ttrpc import Code

SERVED = {
    Role.PLUGIN: (1, PLUGIN, "CreateContainer", CREATE),
    Role.RUNTIME: (2, RUNTIME, "RegisterPlugin", api.RegisterPluginRequest(plugin_name="p")),
}


# Serving


@both_roles
def test_a_request_becomes_a_call(role: Role) -> None:
    channel, service, method, body = SERVED[role]
    data = frame(channel, request(1, method, body.SerializeToString(), service=service))
    assert Session(role).receive(data) == [Call(1, method, body)]


@both_roles
def test_a_request_becomes_a_call_byte_by_byte(role: Role) -> None:
    channel, service, method, body = SERVED[role]
    data = frame(channel, request(1, method, body.SerializeToString(), service=service))
    session = Session(role)
    for position in range(len(data) - 1):
        assert session.receive(data[position : position + 1]) == []
    assert session.receive(data[-1:]) == [Call(1, method, body)]


@both_roles
def test_requests_that_come_together_are_calls_in_order(role: Role) -> None:
    channel, service, method, body = SERVED[role]
    first, second, third = (
        request(stream, method, body.SerializeToString(), service=service) for stream in (1, 3, 5)
    )
    session = Session(role)
    events = session.receive(frame(channel, first + second + third[:7]))
    assert events == [Call(1, method, body), Call(3, method, body)]
    assert session.receive(frame(channel, third[7:])) == [Call(5, method, body)]


def test_a_call_carries_timeout_and_metadata() -> None:
    metadata = (("containerd-namespace-ttrpc", "k8s.io"), ("traceparent", ""), ("traceparent", "x"))
    data = request(1, "Shutdown", timeout=1_999_000_000, metadata=metadata)
    call = Session(Role.PLUGIN).receive(frame(1, data))
    assert call == [Call(1, "Shutdown", api.Empty(), 1_999_000_000, metadata)]


def test_an_answer_is_a_response_on_the_stream_of_its_call() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(7, "CreateContainer", WHOLE))))
    adjust = api.Adjustment(args=["sleep"])
    session.answer(call, api.CreateContainerResponse(adjust=adjust))
    payload = api.CreateContainerResponse(adjust=adjust).SerializeToString()
    assert session.outgoing() == frame(1, response(7, payload))


def test_an_empty_answer_is_a_response_of_zero_bytes() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(3, "Shutdown"))))
    session.answer(call, api.Empty())
    assert session.outgoing() == bytes.fromhex("00000001 0000000a 00000000 00000003 02 00")


def test_a_refusal_is_a_status_without_payload() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(3, "Shutdown"))))
    session.refuse(call, Code.UNKNOWN, "cannot do that: ✗")
    assert session.outgoing() == frame(1, response(3, b"", 2, "cannot do that: ✗"))


def test_a_refusal_in_text_that_utf_8_cannot_say_is_told_with_escapes() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(3, "Shutdown"))))
    session.refuse(call, Code.UNKNOWN, "no file \udcff")
    assert replies_in(session.outgoing(), 1) == [Reply(3, 2, "no file \\udcff", b"")]


def test_the_longest_refusal_can_be_sent() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(3, "Shutdown"))))
    session.refuse(call, Code.UNKNOWN, "𝄞" * (LIMIT // 2))
    (reply,) = replies_in(session.outgoing(), 1)
    assert reply.text == "𝄞" * (LIMIT // 8)


def test_outgoing_bytes_are_handed_out_once() -> None:
    session = Session(Role.PLUGIN)
    session.call("RegisterPlugin", api.RegisterPluginRequest())
    assert session.outgoing()
    assert session.outgoing() == b""


def test_calls_may_be_answered_in_any_order() -> None:
    session = Session(Role.PLUGIN)
    first, second = session.receive(
        frame(1, request(1, "Shutdown")) + frame(1, request(3, "Shutdown"))
    )
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    session.answer(second, api.Empty())
    session.answer(first, api.Empty())
    assert [reply.stream for reply in replies_in(session.outgoing(), 1)] == [3, 1]


def test_an_answer_of_another_type_is_a_programming_error() -> None:
    session = Session(Role.PLUGIN)
    call = one_call(session.receive(frame(1, request(1, "CreateContainer"))))
    with pytest.raises(TypeError, match=r"^CreateContainer returns CreateContainerResponse, not E"):
        session.answer(call, api.Empty())


def test_a_call_with_another_type_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match=r"^RegisterPlugin takes RegisterPluginRequest, not Empty$"):
        Session(Role.PLUGIN).call("RegisterPlugin", api.Empty())


@pytest.mark.parametrize(
    ("role", "method"), [(Role.PLUGIN, "CreateContainer"), (Role.RUNTIME, "RegisterPlugin")]
)
def test_only_methods_of_the_peer_can_be_called(role: Role, method: str) -> None:
    with pytest.raises(KeyError):
        Session(role).call(method, api.Empty())


# What a session answers by itself


@pytest.mark.parametrize(
    ("service", "method", "text"),
    [
        ("no.such.Service", "CreateContainer", "service no.such.Service"),
        (RUNTIME, "RegisterPlugin", f"service {RUNTIME}"),
        ("", "", "service "),
        (PLUGIN, "NoSuchMethod", "method NoSuchMethod"),
        (PLUGIN, "createContainer", "method createContainer"),
        (PLUGIN, "", "method "),
    ],
)
def test_an_unknown_service_or_method_is_unimplemented(
    service: str, method: str, text: str
) -> None:
    session = Session(Role.PLUGIN)
    assert asked(session, request(1, method, service=service)) == Reply(1, UNIMPLEMENTED, text, b"")
    assert still_works(session, 3)


def test_a_runtime_does_not_serve_the_service_of_plugins() -> None:
    session = Session(Role.RUNTIME)
    assert session.receive(frame(2, request(1, "Configure", service=PLUGIN))) == []
    assert replies_in(session.outgoing(), 2) == [Reply(1, UNIMPLEMENTED, f"service {PLUGIN}", b"")]


def test_a_request_that_cannot_be_decoded_is_an_invalid_argument() -> None:
    session = Session(Role.PLUGIN)
    reply = asked(session, message(1, 1, NOT_A_MESSAGE))
    assert reply.code == INVALID_ARGUMENT
    assert reply.text.startswith("request cannot be decoded: ")
    assert still_works(session, 3)


@pytest.mark.parametrize("payload", [NOT_A_MESSAGE, b"\x0a\x04" + b"\x0a\x02\xff\xff"])
def test_a_payload_that_cannot_be_decoded_is_an_internal_error(payload: bytes) -> None:
    session = Session(Role.PLUGIN)
    reply = asked(session, request(1, "CreateContainer", payload))
    assert reply.code == INTERNAL
    assert reply.text.startswith(
        "payload cannot be decoded as nri.pkg.api.v1alpha1.CreateContainerRequest: "
    )
    assert still_works(session, 3)


@pytest.mark.parametrize("stream", [0, 2, 0xFFFFFFFE])
def test_an_even_stream_is_refused_on_itself(stream: int) -> None:
    session = Session(Role.PLUGIN)
    text = "StreamID must be odd for client initiated streams"
    reply = asked(session, request(stream, "CreateContainer", WHOLE))
    assert reply == Reply(stream, INVALID_ARGUMENT, text, b"")
    assert still_works(session, 1)


@pytest.mark.parametrize("stream", [1, 3, 5])
def test_a_stream_that_does_not_increase_is_refused_on_itself(stream: int) -> None:
    session = Session(Role.PLUGIN)
    assert still_works(session, 5)
    text = "StreamID cannot be re-used and must increment"
    reply = asked(session, request(stream, "CreateContainer", WHOLE))
    assert reply == Reply(stream, INVALID_ARGUMENT, text, b"")
    assert still_works(session, 7)


def test_streams_may_have_gaps_up_to_the_greatest() -> None:
    session = Session(Role.PLUGIN)
    assert still_works(session, 4097)
    assert still_works(session, 0xFFFFFFFF)


def test_a_refused_request_uses_its_stream_up() -> None:
    session = Session(Role.PLUGIN)
    assert asked(session, request(5, "NoSuchMethod")).code == UNIMPLEMENTED
    assert asked(session, request(5, "CreateContainer")).code == INVALID_ARGUMENT


def test_a_deadline_that_has_passed_is_refused_unseen() -> None:
    session = Session(Role.PLUGIN)
    text = "the caller's deadline has passed"
    reply = asked(session, request(1, "CreateContainer", WHOLE, timeout=-1))
    assert reply == Reply(1, DEADLINE_EXCEEDED, text, b"")
    assert still_works(session, 3)


def test_data_without_a_stream_is_an_invalid_argument() -> None:
    session = Session(Role.PLUGIN)
    reply = asked(session, message(3, DATA, b"x"))
    assert reply == Reply(3, INVALID_ARGUMENT, "StreamID is no longer active", b"")
    assert still_works(session, 3)


@pytest.mark.parametrize("kind", [0, 2, 4, 9, 255])
def test_other_types_of_messages_are_ignored_by_who_serves(kind: int) -> None:
    session = Session(Role.PLUGIN)
    assert session.receive(frame(1, message(1, kind, b"x"))) == []
    assert session.outgoing() == b""
    assert still_works(session, 1)


@pytest.mark.parametrize("kind", [0, 1, 3, 4, 9, 255])
def test_other_types_of_messages_are_ignored_by_who_calls(kind: int) -> None:
    session = Session(Role.PLUGIN)
    stream = session.call("RegisterPlugin", api.RegisterPluginRequest())
    session.outgoing()
    assert session.receive(frame(2, message(stream, kind))) == []
    assert session.outgoing() == b""
    answer = Answer(stream, "RegisterPlugin", api.Empty())
    assert session.receive(frame(2, response(stream))) == [answer]


@both_roles
@pytest.mark.parametrize("channel", [0, 3, 7, 0xFFFFFFFF])
def test_channels_that_nobody_opened_are_dropped_in_silence(role: Role, channel: int) -> None:
    session = Session(role)
    served, service, method, body = SERVED[role]
    data = request(1, method, body.SerializeToString(), service=service)
    assert session.receive(frame(channel, data)) == []
    assert session.outgoing() == b""
    assert session.receive(frame(served, data)) == [Call(1, method, body)]


def test_channels_do_not_mix() -> None:
    session = Session(Role.PLUGIN)
    stream = session.call("RegisterPlugin", api.RegisterPluginRequest())
    call, answer = request(1, "Shutdown"), response(stream)
    data = frame(1, call[:12]) + frame(2, answer[:5]) + frame(1, call[12:]) + frame(2, answer[5:])
    assert session.receive(data) == [
        Call(1, "Shutdown", api.Empty()),
        Answer(stream, "RegisterPlugin", api.Empty()),
    ]

from __future__ import annotations

import tracemalloc

import pytest
from google.protobuf.message import Message
from wirebytes import (
    DATA,
    LIMIT,
    PLUGIN,
    RUNTIME,
    Reply,
    frame,
    frames_in,
    message,
    messages_in,
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
from nri_inject.wire.ttrpc import Code

# Status codes as google.rpc.Code has them.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 3, 4, 8
UNIMPLEMENTED, INTERNAL = 12, 13

CREATE = api.CreateContainerRequest(container=api.Container(id="c1", name="web"))
WHOLE = CREATE.SerializeToString()
NOT_A_MESSAGE = b"\x0a\xff"
NOT_UTF_8 = b"\x0a\x02\xff\xff"

SERVED = {
    Role.PLUGIN: (1, PLUGIN, "CreateContainer", CREATE),
    Role.RUNTIME: (2, RUNTIME, "RegisterPlugin", api.RegisterPluginRequest(plugin_name="p")),
}

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)


def one(events: list[Event]) -> Event:
    (event,) = events
    return event


def one_call(events: list[Event]) -> Call:
    event = one(events)
    assert isinstance(event, Call)
    return event


def asked(session: Session, data: bytes) -> Reply:
    """Give a plugin's session a message that it answers by itself; return the answer."""
    assert session.receive(frame(1, data)) == []
    (reply,) = replies_in(session.outgoing(), 1)
    return reply


def still_works(session: Session, stream: int) -> bool:
    events = session.receive(frame(1, request(stream, "CreateContainer", WHOLE)))
    return events == [Call(stream, "CreateContainer", CREATE)]


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

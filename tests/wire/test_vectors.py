"""The recordings of the Go implementation and of real runtimes, read and written by ours."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from wirebytes import PLUGIN, RUNTIME, Raw, Reply, frames_in, messages_in, replies_in

from nri_inject import api
from nri_inject._pb import nri_pb2, ttrpc_pb2
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin, dispatch
from nri_inject.wire.session import DECODE_ERRORS, Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

VECTORS = Path(__file__).parents[1] / "vectors" / "nri"


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / name).read_text(encoding="utf-8").splitlines()]


# messages.jsonl: every message and field

MESSAGES = [
    pytest.param(case, id=f"{number}-{case['type'].rpartition('.')[2]}")
    for number, case in enumerate(lines_of("messages.jsonl"), 1)
]


def class_of(name: str) -> type[Message]:
    package, _, message = name.rpartition(".")
    module = nri_pb2 if package == "nri.pkg.api.v1alpha1" else ttrpc_pb2
    return GetMessageClass(module.DESCRIPTOR.message_types_by_name[message])


def has_several_integer_keys(value: Any) -> bool:
    """Tell whether a JSON value has a map whose order libraries do not agree on."""
    if isinstance(value, list):
        return any(map(has_several_integer_keys, value))
    if not isinstance(value, dict):
        return False
    integers = sum(key.lstrip("-").isdigit() for key in value)
    return integers > 1 or any(map(has_several_integer_keys, value.values()))


def with_plain_details(value: Any) -> Any:
    """Write a status's details as the bytes that they are for us; Go's JSON looks into them."""
    if not isinstance(value, dict):
        return value
    plain = {key: with_plain_details(inner) for key, inner in value.items()}
    if "details" in plain:
        plain["details"] = [
            base64.b64encode(json_format.ParseDict(one, AnyMessage()).SerializeToString()).decode()
            for one in plain["details"]
        ]
    return plain


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_decode_and_encode_as_in_go(case: dict[str, Any]) -> None:
    message_class, data = class_of(case["type"]), base64.b64decode(case["b64"])
    if case.get("error"):
        with pytest.raises(DECODE_ERRORS):
            message_class.FromString(data)
        return
    decoded = message_class.FromString(data)
    said = with_plain_details(case["json"]) if "ttrpc" in message_class.__module__ else case["json"]
    assert json_format.MessageToDict(decoded) == said
    if case.get("canonical") is False:
        return
    built = json_format.ParseDict(said, message_class())
    assert built == decoded
    if has_several_integer_keys(case["json"]):
        assert message_class.FromString(built.SerializeToString()) == decoded
    else:
        assert built.SerializeToString(deterministic=True) == data


# The messages were recorded with NRI 0.12.2; this one is of 0.12.4, and its bytes stand in
# test_the_failure_policy_is_told_in_the_answer_to_configure.
NEWER = {"nri.pkg.api.v1alpha1.FailurePolicy"}


@pytest.mark.slow
def test_the_messages_cover_every_message_of_the_protocol() -> None:
    covered = {case["type"] for case in lines_of("messages.jsonl")}
    ours = {message.full_name for message in nri_pb2.DESCRIPTOR.message_types_by_name.values()}
    assert ours - covered == NEWER


# wire-plugin.jsonl: bytes to a plugin, bytes back


class Deviation(NamedTuple):
    """Where we answer otherwise than the reference, and why."""

    why: str
    replies: list[Reply]


def named(stream: int, name: str) -> Reply:
    """Return the reply to the creation of a container of that name."""
    adjust = api.Adjustment(env=[api.KeyValue(key="NAME", value=name)])
    payload = api.CreateContainerResponse(adjust=adjust).SerializeToString()
    return Reply(stream, 0, "", payload)


DIFFERENCES = {
    "mux/big-frame-kills": Deviation(
        "frames are only an envelope here, so one of more than 4096 bytes does no harm",
        [named(3, "x")],
    ),
    "mux/rest-with-next-message": Deviation(
        "nor does a frame with the end of one message and the beginning of the next",
        [named(3, "x"), named(5, "y")],
    ),
    "timeout-negative": Deviation(
        "there is no Go context that could end: our sentence says what happened",
        [Reply(3, Code.DEADLINE_EXCEEDED, "the caller's deadline has passed", b"")],
    ),
}

# How the two sides begin their sentences about bytes that cannot be decoded.
UNREADABLE = (
    "unmarshal request error: ",
    "request cannot be decoded: ",
    "ttrpc: error unmarshalling payload: ",
    "payload cannot be decoded as ",
)

WIRE_PLUGIN = {case["name"]: case for case in lines_of("wire-plugin.jsonl")}


def name_variable(_: api.Pod, container: api.Container) -> api.Adjustment:
    if container.name == "fail":
        raise NriError("cannot do that: ✗")
    return api.Adjustment(env=[api.KeyValue(key="NAME", value=container.name)])


TINY = Plugin(
    name="tiny", index="10", create_container=name_variable, run_pod_sandbox=lambda _: None
)


def serve(session: Session, call: Call) -> None:
    """Answer as the reference's plugin did; its deadline cannot pass here, so it is acted."""
    request = call.request
    if isinstance(request, api.CreateContainerRequest) and request.container.name == "deadline":
        session.refuse(call, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        return
    try:
        session.answer(call, dispatch(TINY, call.method, request))
    except NriError as error:
        session.refuse(call, Code.UNKNOWN, str(error))


def registered() -> Session:
    """Return a plugin's session after RegisterPlugin and Configure on stream 1."""
    plugin, runtime = Session(Role.PLUGIN), Session(Role.RUNTIME)
    plugin.call("RegisterPlugin", api.RegisterPluginRequest(plugin_name="tiny", plugin_idx="10"))
    (call,) = runtime.receive(plugin.outgoing())
    assert isinstance(call, Call)
    runtime.answer(call, api.Empty())
    runtime.call("Configure", api.ConfigureRequest())
    _, call = plugin.receive(runtime.outgoing())
    assert isinstance(call, Call)
    plugin.answer(call, api.ConfigureResponse(events=8))
    plugin.outgoing()
    return plugin


def replay(writes: list[bytes]) -> list[Reply]:
    session, said = registered(), b""
    for data in writes:
        for event in session.receive(data):
            assert isinstance(event, Call)
            serve(session, event)
        said += session.outgoing()
    return comparable(said)


def comparable(data: bytes) -> list[Reply]:
    """Return replies by stream, since order is not fixed, and without words about bad bytes."""
    return sorted(
        reply._replace(text="unreadable") if reply.text.startswith(UNREADABLE) else reply
        for reply in replies_in(data, 1)
    )


def expected_of(case: dict[str, Any]) -> list[Reply]:
    if case["name"] in DIFFERENCES:
        return DIFFERENCES[case["name"]].replies
    return comparable(b"".join(bytes.fromhex(each["hex"]) for each in case["receive"]))


plugin_cases = pytest.mark.parametrize("case", WIRE_PLUGIN.values(), ids=WIRE_PLUGIN)


@plugin_cases
def test_a_plugin_answers_as_the_reference_does(case: dict[str, Any]) -> None:
    assert case["closed"] is False
    assert replay([bytes.fromhex(data) for data in case["send"]]) == expected_of(case)


@plugin_cases
def test_a_plugin_answers_the_same_byte_by_byte(case: dict[str, Any]) -> None:
    data = bytes.fromhex("".join(case["send"]))
    assert replay([bytes([byte]) for byte in data]) == expected_of(case)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_differences_are_real(name: str) -> None:
    theirs = b"".join(bytes.fromhex(each["hex"]) for each in WIRE_PLUGIN[name]["receive"])
    assert comparable(theirs) != DIFFERENCES[name].replies


# Whole conversations: wire-runtime.jsonl and conversation-*.json

SIDES = {"plugin>runtime": Role.PLUGIN, "runtime>plugin": Role.RUNTIME}
OTHER = {Role.PLUGIN: Role.RUNTIME, Role.RUNTIME: Role.PLUGIN}
CALLS_ON = {Role.PLUGIN: (2, RUNTIME), Role.RUNTIME: (1, PLUGIN)}


class Recorded(NamedTuple):
    """One message: who said it, its bytes with all frame headers, and what it was about."""

    sender: Role
    data: bytes
    about: str


def recorded(steps: list[dict[str, str]]) -> Iterator[Recorded]:
    """Put the frames that Go cut together into messages; end of file is a message of no bytes."""
    begun: dict[Role, bytes] = {}
    for step in steps:
        sender, about = SIDES[step["dir"]], step["about"]
        data = begun.pop(sender, b"") + bytes.fromhex(step["hex"])
        about = about.removeprefix("conn 1: ").removeprefix("conn 2: ")
        if about.startswith("beginning of a message"):
            begun[sender] = data
            continue
        yield Recorded(sender, data, about.removesuffix(" (rest of the message)"))
    assert not begun


class Conversation:
    """Two sessions that live through a recording: one as each side, saying what it said.

    Each recorded message goes to the session of the side that got it, and the session of the
    side that sent it is made to say what the receiver understood. Then both are compared.
    """

    def __init__(self) -> None:
        self.sessions = {role: Session(role) for role in Role}
        self.calls: dict[tuple[Role, int], Call] = {}

    def step(self, message: Recorded) -> None:
        speaker = self.sessions[message.sender]
        if not message.data:
            assert self.sessions[OTHER[message.sender]].receive(b"") == []
            return
        (raw,) = messages_in(message.data)
        if raw.kind == 1:
            self._request(message, raw, speaker)
        else:
            self._response(message, raw, speaker)

    def _request(self, message: Recorded, raw: Raw, speaker: Session) -> None:
        """Let the receiver understand a request and the sender's session say it."""
        channel, service = CALLS_ON[message.sender]
        assert raw.channel == channel
        events = self.sessions[OTHER[message.sender]].receive(message.data)
        if not events:
            assert message.about == f"request {raw.stream} Plugin.Configure"
            self._call_at(raw.stream, speaker, "RegisterPlugin", api.RegisterPluginRequest())
            return
        (call,) = events
        assert isinstance(call, Call)
        assert message.about == about_call(call, service)
        self.calls[message.sender, call.stream] = call
        said = self._call_at(call.stream, speaker, call.method, call.request, call.timeout)
        assert meaning(said, type(call.request)) == meaning(message.data, type(call.request))
        assert cuts(said) == expected_cuts(message.data, said)

    def _response(self, message: Recorded, raw: Raw, speaker: Session) -> None:
        """Let the caller understand an answer and the sender's session give it."""
        caller = OTHER[message.sender]
        assert raw.channel == CALLS_ON[caller][0]
        (event,) = self.sessions[caller].receive(message.data)
        assert message.about == about_answer(event)
        call = self.calls.pop((caller, raw.stream), None)
        if call is None:  # the sender's session has answered by itself
            assert isinstance(event, Failure)
            assert event.code == Code.UNIMPLEMENTED
        elif isinstance(event, Answer):
            speaker.answer(call, event.response)
        else:
            assert isinstance(event, Failure)
            speaker.refuse(call, Code(event.code), event.text)
        said = speaker.outgoing()
        payload = type(event.response) if isinstance(event, Answer) else api.Empty
        assert meaning(said, payload) == meaning(message.data, payload)
        assert cuts(said) == expected_cuts(message.data, said)

    def _call_at(
        self, stream: int, speaker: Session, method: str, request: Message, timeout: int = 0
    ) -> bytes:
        """Call on that stream; lower ones were used up by requests that could not be sent."""
        while (used := speaker.call(method, request, timeout)) < stream:
            speaker.forget(used)
            speaker.outgoing()
        assert used == stream
        return speaker.outgoing()


def about_call(call: Call, service: str) -> str:
    text = f"request {call.stream} {service.rpartition('.')[2]}.{call.method}"
    if isinstance(call.request, api.StateChangeEvent):
        text += f" {api.Event.Name(call.request.event)}"
    return text


def about_answer(event: Event) -> str:
    if isinstance(event, Answer):
        length = len(event.response.SerializeToString())
        return f"response {event.stream} ok, payload {length} bytes"
    assert isinstance(event, Failure)
    text = json.dumps(event.text, ensure_ascii=False)
    return f"response {event.stream} status {event.code} {text}"


def meaning(data: bytes, payload: type[Message]) -> tuple[Raw, Message, Message]:
    """Return a message's header, envelope and payload, decoded; metadata is not ours to write."""
    (raw,) = messages_in(data)
    envelope = (ttrpc_pb2.Request if raw.kind == 1 else ttrpc_pb2.Response).FromString(raw.data)
    inner = payload.FromString(envelope.payload)
    envelope.ClearField("payload")
    if isinstance(envelope, ttrpc_pb2.Request):
        envelope.ClearField("metadata")
    return raw._replace(data=b""), envelope, inner


def cuts(data: bytes) -> list[int]:
    return [len(payload) for _, payload in frames_in(data)]


def expected_cuts(theirs: bytes, ours: bytes) -> list[int]:
    """Return Go's cuts; without the metadata that we do not send, the last one is shorter."""
    lengths = cuts(theirs)
    lengths[-1] -= len(theirs) - len(ours)
    return lengths


WIRE_RUNTIME = {case["name"]: case for case in lines_of("wire-runtime.jsonl")}
CONVERSATIONS = sorted(VECTORS.glob("conversation-*.json*"))


def load(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    steps = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    assert isinstance(steps, list)
    return steps


runtime_cases = pytest.mark.parametrize("case", WIRE_RUNTIME.values(), ids=WIRE_RUNTIME)
conversations = pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.name)


@runtime_cases
def test_a_runtime_says_what_the_reference_says(case: dict[str, Any]) -> None:
    conversation = Conversation()
    for message in recorded(case["steps"]):
        conversation.step(message)


def test_there_are_twelve_conversations() -> None:
    assert len(CONVERSATIONS) == 12


@conversations
def test_both_sides_of_a_recorded_conversation_are_understood_and_said_again(path: Path) -> None:
    conversation = Conversation()
    for message in recorded(load(path)):
        conversation.step(message)


@conversations
def test_a_recorded_conversation_is_understood_however_it_is_cut(path: Path) -> None:
    """All of one side's bytes at once mean the same as frame by frame, and as in odd parts."""
    for direction, sender in SIDES.items():
        data = b"".join(bytes.fromhex(s["hex"]) for s in load(path) if s["dir"] == direction)
        parts = 611 if len(data) < 1 << 20 else 99_991
        whole, cut = Session(OTHER[sender]), Session(OTHER[sender])
        events = whole.receive(data) if data else []
        assert events
        found: list[Event] = []
        for position in range(0, len(data), parts):
            found.extend(cut.receive(data[position : position + parts]))
        assert found == events
        assert cut.outgoing() == whole.outgoing()


def test_metadata_of_a_real_containerd_is_told() -> None:
    messages = recorded(load(VECTORS / "conversation-containerd-2.1.9-logger.json"))
    session = Session(Role.PLUGIN)
    metadata = set()
    for message in messages:
        if message.sender is Role.RUNTIME and message.data:
            metadata |= {e.metadata for e in session.receive(message.data) if isinstance(e, Call)}
    assert metadata == {(), (("containerd-namespace-ttrpc", "k8s.io"),)}

"""A session's bytes as text, and back to what was asked and answered."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject import api
from nri_inject.wire import recording
from nri_inject.wire.recording import Exchange, Piece, Recorder, RecordingError
from nri_inject.wire.session import Call, Role, Session
from nri_inject.wire.ttrpc import Code

VECTORS = Path(__file__).parents[1] / "vectors" / "nri"
CONVERSATIONS = sorted(VECTORS.glob("conversation-*.json*"))
REGISTER = api.RegisterPluginRequest(plugin_name="web", plugin_idx="10")


def said() -> list[Piece]:
    """Return a short session: a plugin registers, and refuses to be configured."""
    plugin, runtime = Session(Role.PLUGIN), Session(Role.RUNTIME)
    plugin.call("RegisterPlugin", REGISTER)
    pieces = [Piece(Role.PLUGIN, plugin.outgoing())]
    (call,) = runtime.receive(pieces[-1].data)
    assert isinstance(call, Call)
    runtime.answer(call, api.Empty())
    runtime.call("Configure", api.ConfigureRequest(config="é"), timeout=7)
    pieces.append(Piece(Role.RUNTIME, runtime.outgoing()))
    _, configure = plugin.receive(pieces[-1].data)
    assert isinstance(configure, Call)
    plugin.refuse(configure, Code.UNKNOWN, "no ✗")
    return [*pieces, Piece(Role.PLUGIN, plugin.outgoing())]


def recorded(pieces: list[Piece]) -> list[str]:
    lines: list[str] = []
    recorder = Recorder(lines.append)
    for piece in pieces:
        recorder(*piece)
    return lines


def test_a_line_says_who_said_what_and_what_that_is() -> None:
    lines = [json.loads(line) for line in recorded(said())]
    assert [(line["from"], line["about"]) for line in lines] == [
        ("plugin", "request 1 Runtime.RegisterPlugin"),
        ("runtime", "response 1 ok; request 1 Plugin.Configure"),
        ("plugin", 'response 1 status 2 "no \\u2717"'),
    ]
    assert base64.b64decode(lines[0]["bytes"]) == said()[0].data
    assert [list(line) for line in lines] == [["seconds", "from", "bytes", "about"]] * 3


def test_exchanges_are_calls_with_their_answers() -> None:
    assert recording.exchanges(said()) == [
        Exchange(Role.PLUGIN, "RegisterPlugin", REGISTER, 0, api.Empty()),
        Exchange(
            *(Role.RUNTIME, "Configure", api.ConfigureRequest(config="é"), 7),
            status=(2, "no ✗"),
        ),
    ]


def test_a_call_without_an_answer_has_neither_message_nor_status() -> None:
    (exchange,) = recording.exchanges(said()[:1])
    assert (exchange.response, exchange.status) == (None, None)


@given(st.data())
def test_a_recording_is_read_back_however_the_session_was_cut(data: st.DataObject) -> None:
    pieces: list[Piece] = []
    for sender, said_at_once, _ in said():
        cut = data.draw(st.integers(1, len(said_at_once) - 1))
        pieces += [Piece(sender, said_at_once[:cut]), Piece(sender, said_at_once[cut:])]
    again = list(recording.read(recorded(pieces)))
    assert again == pieces
    assert recording.exchanges(again) == recording.exchanges(said())


def test_the_end_of_a_side_is_a_line_without_bytes() -> None:
    (line,) = recorded([Piece(Role.PLUGIN, b"")])
    assert json.loads(line) == {"seconds": 0.0, "from": "plugin", "bytes": ""}
    assert list(recording.read([line, "\n"])) == [Piece(Role.PLUGIN, b"")]


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.name)
def test_conversations_of_real_runtimes_can_be_read(path: Path) -> None:
    raw = path.read_bytes()
    steps = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    pieces = [
        Piece(Role(step["dir"].partition(">")[0]), bytes.fromhex(step["hex"])) for step in steps
    ]
    exchanges = recording.exchanges(pieces)
    calls = sum(step["about"].partition(": ")[2].startswith("request") for step in steps)
    assert 0 < len(exchanges) <= calls


@pytest.mark.parametrize("line", ["{", "[]", "1", "{}", "[" * 100_000])
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(RecordingError, match=r"^line 5: "):
        list(recording.read([*recorded(said()), "", line]))


def broken(request: bytes) -> Piece:
    """Return a ttrpc request on the plugin's channel whose data is this."""
    message = len(request).to_bytes(4, "big") + b"\0\0\0\1\1\0" + request
    return Piece(Role.RUNTIME, b"\0\0\0\1" + len(message).to_bytes(4, "big") + message)


def test_what_cannot_be_decoded_is_written_down_all_the_same_and_told_when_it_is_read() -> None:
    (line,) = recorded([broken(b"\xff")])
    assert json.loads(line)["about"] == "request 1 that cannot be decoded"
    with pytest.raises(RecordingError, match=r"^what the runtime says: "):
        recording.exchanges(recording.read([line]))


def test_an_unknown_method_is_told() -> None:
    with pytest.raises(RecordingError) as caught:
        recording.exchanges([broken(b"\x12\x03Fly")])
    assert str(caught.value) == "no method 'Fly' in service Plugin"


def test_a_broken_frame_is_written_down_with_its_fault() -> None:
    frame = Piece(Role.PLUGIN, b"\0\0\0\1\xff\xff\xff\xff")
    (line,) = recorded([frame])
    assert json.loads(line)["about"].startswith("multiplexer frame of 4294967295 bytes")
    with pytest.raises(RecordingError, match=r"^what the plugin says: multiplexer frame"):
        recording.exchanges([frame])


def test_a_session_after_the_end_of_another_begins_anew() -> None:
    twice = [*said(), Piece(Role.RUNTIME, b""), *said()]
    assert recording.exchanges(twice) == recording.exchanges(said()) * 2
    assert [json.loads(line)["about"] for line in recorded(twice)[4:]] == [
        json.loads(line)["about"] for line in recorded(said())
    ]


@given(st.binary(max_size=200), st.sampled_from(list(Role)))
def test_any_bytes_can_be_recorded(data: bytes, sender: Role) -> None:
    (line,) = recorded([Piece(sender, data)])
    assert list(recording.read([line])) == [Piece(sender, data)]


# --- lines ---------------------------------------------------------------------------------------

PIECES = st.builds(
    Piece,
    st.sampled_from(Role),
    st.binary(),
    st.floats(0, 1e9).map(lambda seconds: round(seconds, 6)),
)


@given(PIECES)
def test_what_was_written_is_read_again(record: Piece) -> None:
    line = recording.encode(record)
    assert "\n" not in line
    assert recording.decode(line) == record
    assert recording.decode(line.encode() + b"\n") == record


@given(st.binary() | st.text())
def test_any_line_is_a_record_or_a_protocol_error(line: bytes | str) -> None:
    try:
        recording.decode(line)
    except RecordingError:
        return
    raise AssertionError("no three keys come about by chance")


def test_a_line_is_as_documented() -> None:
    record = Piece(Role.RUNTIME, bytes.fromhex("000000020000000a00000000000000010200"), 0.0042171)
    line = '{"seconds": 0.004217, "from": "runtime", "bytes": "AAAAAgAAAAoAAAAAAAAAAQIA"}'
    assert recording.encode(record) == line


def test_no_bytes_are_the_end_of_a_connection_and_unknown_keys_are_ignored() -> None:
    line = '{"seconds": 1, "from": "plugin", "bytes": "", "more": [1]}'
    assert recording.decode(line) == Piece(Role.PLUGIN, b"", 1.0)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "an object with seconds, from, bytes expected"),
        ("{}", "seconds: None is not a number from 0 on"),
        ('{"seconds": true}', "seconds: True is not a number from 0 on"),
        ('{"seconds": -1}', "seconds: -1 is not a number from 0 on"),
        ('{"seconds": NaN}', "seconds: nan is not a number from 0 on"),
        ('{"seconds": 1}', "from: None is neither runtime nor plugin"),
        ('{"seconds": 1, "from": "me"}', "from: 'me' is neither runtime nor plugin"),
        ('{"seconds": 1, "from": "plugin"}', "bytes: None is not base64 text"),
        (
            '{"seconds": 1, "from": "plugin", "bytes": "!"}',
            "bytes: not base64: Only base64 data is allowed",
        ),
        (
            '{"seconds": 1, "from": "plugin", "bytes": "é"}',
            "bytes: not base64: string argument should contain only ASCII characters",
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: str, sentence: str) -> None:
    with pytest.raises(RecordingError) as caught:
        recording.decode(line)
    assert str(caught.value) == sentence

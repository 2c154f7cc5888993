"""A session's bytes as text, and back to what was asked and answered."""

from __future__ import annotations

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
    assert [(line["dir"], line["about"]) for line in lines] == [
        ("plugin>runtime", "request 1 Runtime.RegisterPlugin"),
        ("runtime>plugin", "response 1 ok; request 1 Plugin.Configure"),
        ("plugin>runtime", 'response 1 status 2 "no \\u2717"'),
    ]
    assert bytes.fromhex(lines[0]["hex"]) == said()[0].data
    assert [list(line) for line in lines] == [["dir", "hex", "about"]] * 3


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
    for sender, said_at_once in said():
        cut = data.draw(st.integers(0, len(said_at_once)))
        pieces += [Piece(sender, said_at_once[:cut]), Piece(sender, said_at_once[cut:])]
    again = list(recording.read(recorded(pieces)))
    assert again == pieces
    assert recording.exchanges(again) == recording.exchanges(said())


def test_the_end_of_a_side_is_a_line_without_bytes() -> None:
    (line,) = recorded([Piece(Role.PLUGIN, b"")])
    assert json.loads(line) == {"dir": "plugin>runtime", "hex": "", "about": ""}
    assert list(recording.read([line, "\n"])) == [Piece(Role.PLUGIN, b"")]


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.name)
def test_conversations_of_real_runtimes_can_be_read(path: Path) -> None:
    raw = path.read_bytes()
    steps = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    pieces = list(recording.read(map(json.dumps, steps)))
    exchanges = recording.exchanges(pieces)
    calls = sum(step["about"].partition(": ")[2].startswith("request") for step in steps)
    assert 0 < len(exchanges) <= calls


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "1", "{}", '{"dir": "up", "hex": ""}', "[" * 100_000),
        *('{"dir": "plugin>runtime", "hex": "0"}', '{"dir": "plugin>runtime", "hex": 1}'),
    ],
)
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(RecordingError) as caught:
        list(recording.read([*recorded(said()), "", line]))
    assert str(caught.value) == "line 5: no piece of a recording"


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


@given(st.binary(max_size=200), st.sampled_from(list(Role)))
def test_any_bytes_can_be_recorded(data: bytes, sender: Role) -> None:
    (line,) = recorded([Piece(sender, data)])
    assert list(recording.read([line])) == [Piece(sender, data)]

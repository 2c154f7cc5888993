"""Splits and garbage that nobody thought of."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st
from support.properties import examples
from support.strategies import damaged, mux_frame, parts, roles, streams, ttrpc_message, uint32
from wirebytes import Raw, messages_in

from nri_inject import api
from nri_inject.errors import ProtocolError
from nri_inject.wire.session import Answer, Call, Event, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

fuzz = examples(200)

CALLS: dict[Role, list[tuple[str, Message]]] = {
    Role.PLUGIN: [
        ("RegisterPlugin", api.RegisterPluginRequest()),
        ("UpdateContainers", api.UpdateContainersRequest()),
    ],
    Role.RUNTIME: [
        ("Configure", api.ConfigureRequest()),
        ("Synchronize", api.SynchronizeRequest()),
        ("CreateContainer", api.CreateContainerRequest()),
    ],
}


def waiting(role: Role) -> Session:
    """Return a session that waits for several answers."""
    session = Session(role)
    for _ in range(4):
        for method, request in CALLS[role]:
            session.call(method, request)
    session.outgoing()
    return session


def lived(session: Session, chunks: list[bytes]) -> tuple[list[Event], list[Raw]]:
    """Return the events and what the session says, having refused every call.

    What it says is sorted: its own answers to bad requests do not wait for ours to good ones.
    """
    events: list[Event] = []
    for chunk in chunks:
        for event in session.receive(chunk):
            assert isinstance(event, Call | Answer | Failure)
            if isinstance(event, Call):
                session.refuse(event, Code.UNKNOWN, event.method)
            events.append(event)
    return events, sorted(messages_in(session.outgoing()))


@fuzz
@given(st.data(), roles, streams())
def test_any_split_gives_the_same_events_and_answers(
    data: st.DataObject, role: Role, stream: bytes
) -> None:
    whole = lived(waiting(role), [stream] if stream else [])
    assert lived(waiting(role), data.draw(parts(stream))) == whole


@pytest.mark.slow
@fuzz
@given(roles, streams())
def test_byte_by_byte_gives_the_same_events(role: Role, stream: bytes) -> None:
    events, _ = lived(waiting(role), [stream] if stream else [])
    found, _ = lived(waiting(role), [bytes([byte]) for byte in stream])
    assert found == events


def survives(role: Role, chunks: list[bytes]) -> None:
    """Give chunks to a session, and go on after an error: nothing else may be raised, ever."""
    session = waiting(role)
    for chunk in chunks:
        with contextlib.suppress(ProtocolError):
            lived(session, [chunk])


@fuzz
@given(st.data(), roles, st.binary(max_size=200))
@example(None, Role.PLUGIN, b"\0\0\0\1\xff\xff\xff\xff")
def test_arbitrary_bytes_give_events_or_a_protocol_error(
    data: st.DataObject | None, role: Role, garbage: bytes
) -> None:
    survives(role, [garbage] if data is None else data.draw(parts(garbage)))


@pytest.mark.slow
@fuzz
@given(st.data(), roles, damaged())
def test_damaged_streams_give_events_or_a_protocol_error(
    data: st.DataObject, role: Role, stream: bytes
) -> None:
    survives(role, data.draw(parts(stream)))


@fuzz
@given(roles, st.integers(1, 2), st.integers(0, 255), uint32, uint32, st.booleans())
def test_announced_lengths_take_no_memory_before_or_after_an_error(
    role: Role, channel: int, kind: int, inner: int, outer: int, in_frame: bool
) -> None:
    head = struct.pack(">IIBB", inner, 1, kind, 0)
    first = mux_frame(channel, head) if in_frame else struct.pack(">II", channel, outer) + head
    following = mux_frame(channel, ttrpc_message(3, kind, 0, bytes(1000)))
    session = waiting(role)
    tracemalloc.start()
    try:
        for chunk in (first, following, first, following):
            with contextlib.suppress(ProtocolError):
                session.receive(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 17

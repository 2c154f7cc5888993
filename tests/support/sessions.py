"""One side of a connection, and the events that it reports."""

from __future__ import annotations

import pytest
from wirebytes import (
    Reply,
    frame,
    replies_in,
    request,
)

from nri_inject import api
from nri_inject.wire.session import Call, Event, Role, Session

# Status codes as google.rpc.Code has them.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 3, 4, 8
UNIMPLEMENTED, INTERNAL = 12, 13

CREATE = api.CreateContainerRequest(container=api.Container(id="c1", name="web"))
WHOLE = CREATE.SerializeToString()
NOT_A_MESSAGE = b"\x0a\xff"

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

"""Pods, containers and scripted plugins for the tests of a whole runtime side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nri_inject import api
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import NriError
from nri_inject.runtime.peer import Peer
from nri_inject.testing import FakeRuntime, make_container, make_pod
from nri_inject.wire.session import Call, Role, Session
from nri_inject.wire.ttrpc import Code

CONTAINERD_2 = identify("containerd", "2.1.9")
POD = make_pod("web")
MAIN = make_container(POD, "main", args=["sh"])

NewRuntime = Callable[..., FakeRuntime]


@pytest.fixture
def new_runtime() -> Iterator[NewRuntime]:
    opened: list[FakeRuntime] = []

    def new(runtime: Runtime = NEWEST, **options: Any) -> FakeRuntime:
        opened.append(FakeRuntime(runtime, **options))
        return opened[-1]

    yield new
    for runtime in opened:
        runtime.close()


def refuses(*_: object) -> None:
    raise NriError("not today")


@contextmanager
def scripted(
    world: FakeRuntime, answer: Callable[[Call], Any], events: int = 0
) -> Iterator[list[tuple[str, str]]]:
    """Connect a plugin that answers every call but the first ones by a function.

    Gives the methods that it was called by, with the name of the event in a StateChange.
    """
    ours, theirs = socket.socketpair()
    called: list[tuple[str, str]] = []

    def serve() -> None:
        session = Session(Role.PLUGIN)
        session.call(
            "RegisterPlugin", api.RegisterPluginRequest(plugin_name="old", plugin_idx="10")
        )
        while True:
            theirs.sendall(session.outgoing())
            data = theirs.recv(1 << 16)
            if not data:
                theirs.close()
                return
            for event in session.receive(data):
                if isinstance(event, Call):
                    respond(session, event)

    def respond(session: Session, call: Call) -> None:
        if isinstance(call.request, api.ConfigureRequest):
            session.answer(call, api.ConfigureResponse(events=events))
            return
        if isinstance(call.request, api.SynchronizeRequest):
            session.answer(call, api.SynchronizeResponse())
            return
        event = getattr(call.request, "event", 0)
        called.append((call.method, api.Event.Name(event)))
        response = answer(call)
        if isinstance(response, NriError):
            code = Code.UNIMPLEMENTED if "method" in str(response) else Code.UNKNOWN
            session.refuse(call, code, str(response))
        else:
            session.answer(call, response)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    world.adaptation.add(Peer(ours))
    try:
        yield called
    finally:
        world.adaptation.close()
        thread.join(10)
        assert not thread.is_alive()


def empty(call: Call) -> Any:
    name = "Empty" if call.method == "StateChange" else f"{call.method}Response"
    return getattr(api, name)()


def old(call: Call) -> Any:
    return NriError(f"method {call.method}") if call.method in DEDICATED else empty(call)


DEDICATED = {
    *("RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PostCreateContainer"),
    *("StartContainer", "PostStartContainer", "PostUpdateContainer", "RemoveContainer"),
    "PostUpdatePodSandbox",
}

"""Calls and their answers on one connection, and its end."""

from __future__ import annotations

import contextlib
import queue
import socket
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from support.stubs import (
    CONTAINER,
    CREATE,
    LONG,
    POD,
    TIMEOUT,
    Listener,
    Peer,
    external,
    launched,
    plugin,
    raising,
)

from nri_inject import api
from nri_inject.errors import ConnectionLost, NriError, ProtocolError
from nri_inject.stub import Limits
from nri_inject.stub.connection import Connection
from nri_inject.stub.loop import Loop
from nri_inject.stub.updates import UpdateQueue
from nri_inject.wire import Answer, Call, Role, Session


def test_an_error_of_a_handler_is_a_status_with_its_sentence() -> None:
    with launched(plugin(create_container=raising(NriError("no such device: ✗")))) as (peer, _):
        peer.take_in()
        failure = peer.fail("CreateContainer", CREATE)
        assert failure[1:] == ("CreateContainer", 2, "no such device: ✗")


def test_an_error_that_utf_8_cannot_say_does_no_harm() -> None:
    tested = plugin(create_container=raising(NriError("no device \ud800")))
    with launched(tested) as (peer, _):
        peer.take_in()
        assert peer.fail("CreateContainer", CREATE)[2:] == (2, "no device \\ud800")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()


def test_a_bug_in_a_handler_is_logged_told_without_its_words_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def create_container(_: api.Pod, container: api.Container) -> api.Adjustment:
        return api.Adjustment(args=[{"web": "fine"}[container.name]])

    with launched(plugin(create_container=create_container)) as (peer, _):
        peer.take_in()
        bad = api.CreateContainerRequest(container=api.Container(name="secret"))
        failure = peer.fail("CreateContainer", bad)
        assert failure[2:] == (13, "plugin tested failed in CreateContainer, see its log")
        adjust = api.Adjustment(args=["fine"])
        response = api.CreateContainerResponse(adjust=adjust)
        assert peer.ask("CreateContainer", CREATE) == response
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage() == "the handler of CreateContainer failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


def test_a_handler_that_returns_nonsense_is_a_bug_too(caplog: pytest.LogCaptureFixture) -> None:
    with launched(plugin(create_container=lambda *_: True)) as (peer, _):
        peer.take_in()
        assert peer.fail("CreateContainer", CREATE).code == 13
    assert "the handler of CreateContainer returned bool" in caplog.text


ONLY_TELL = {
    "Shutdown": "shutdown",
    "PostUpdatePodSandbox": "post_update_pod_sandbox",
    "StopPodSandbox": "stop_pod_sandbox",
    "RemovePodSandbox": "remove_pod_sandbox",
    "PostCreateContainer": "post_create_container",
    "PostStartContainer": "post_start_container",
    "PostUpdateContainer": "post_update_container",
    "RemoveContainer": "remove_container",
}


def request_of(method: str) -> Message:
    return api.Empty() if method == "Shutdown" else getattr(api, f"{method}Request")()


@pytest.mark.parametrize(("method", "field"), ONLY_TELL.items(), ids=ONLY_TELL)
@pytest.mark.parametrize("error", [NriError("cannot"), KeyError("bug")], ids=["error", "bug"])
def test_a_fault_where_the_runtime_only_tells_is_logged_and_answered_empty(
    method: str, field: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with launched(plugin(**{field: raising(error)})) as (peer, _):
        peer.take_in()
        assert peer.ask(method, request_of(method)).ListFields() == []
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    if isinstance(error, NriError):
        assert record.getMessage() == f"{method} fails: cannot"
    else:
        assert record.exc_info is not None


def test_a_fault_in_a_state_change_that_only_tells_is_answered_empty() -> None:
    with launched(plugin(stop_pod_sandbox=raising(NriError("cannot")))) as (peer, _):
        peer.take_in("2.1.9")
        event = api.StateChangeEvent(event=api.Event.STOP_POD_SANDBOX, pod=POD)
        assert peer.ask("StateChange", event) == api.Empty()


@pytest.mark.parametrize("field", ["run_pod_sandbox", "start_container"])
def test_a_fault_in_a_state_change_that_asks_for_leave_is_a_status(field: str) -> None:
    with launched(plugin(**{field: raising(NriError("cannot"))})) as (peer, _):
        peer.take_in("2.1.9")
        event = api.StateChangeEvent(event=field.upper())
        assert peer.fail("StateChange", event)[2:] == (2, "cannot")


def test_a_state_change_and_the_dedicated_call_reach_the_same_handler() -> None:
    heard: queue.Queue[Any] = queue.Queue()

    def start_container(*arguments: Any) -> None:
        heard.put(arguments)

    with launched(plugin(start_container=start_container)) as (peer, _):
        peer.take_in()
        event = api.StateChangeEvent(event=api.Event.START_CONTAINER, pod=POD, container=CONTAINER)
        assert peer.ask("StateChange", event) == api.Empty()
        dedicated = api.StartContainerRequest(pod=POD, container=CONTAINER)
        assert peer.ask("StartContainer", dedicated) == api.StartContainerResponse()
        assert heard.get(timeout=TIMEOUT) == heard.get(timeout=TIMEOUT) == (POD, CONTAINER)


def test_an_unknown_event_is_answered_well() -> None:
    with launched(plugin()) as (peer, _):
        peer.take_in()
        event = api.StateChangeEvent()
        event.MergeFromString(b"\x08\x63")  # 99
        assert peer.ask("StateChange", event) == api.Empty()


def test_a_launched_plugin_ends_well_when_the_runtime_closes_the_connection() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        peer.close()
        assert running.outcome() is None


def test_a_launched_plugin_ends_well_where_runtimes_never_synchronize() -> None:
    with launched(plugin()) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure("1.7.24~ds1")
        peer.close()
        assert running.outcome() is None


@pytest.mark.parametrize("answered", [True, False], ids=["registered", "not registered"])
def test_a_connection_that_ends_before_configuration_is_lost(answered: bool) -> None:
    with launched(plugin()) as (peer, running):
        registration = peer.called("RegisterPlugin")
        if answered:
            peer.answer(registration, api.Empty())
        peer.close()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "the runtime closed the connection before it configured the plugin"


def test_a_runtime_that_breaks_the_protocol_is_left() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        peer.connection.sendall(b"HTTP/1.1")
        error = running.outcome()
        assert peer.sees_the_end()
    assert isinstance(error, ProtocolError)
    assert str(error).startswith("multiplexer frame of 791752241 bytes on channel 1213486160")


def test_a_silent_runtime_is_left() -> None:
    with launched(plugin(), limits=Limits(handshake_timeout=0.05)) as (peer, running):
        peer.called("RegisterPlugin")
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "the runtime did not finish the NRI handshake within 0 s"


@pytest.mark.parametrize(
    ("launched", "timed"),
    [(True, [True, False, False]), (False, [True, True, False])],
    ids=["launched", "external"],
)
def test_the_handshake_has_a_deadline(launched: bool, timed: list[bool]) -> None:
    """Runtimes before NRI 0.7 never synchronize what they launched."""
    ours, theirs = socket.socketpair()
    loop = Loop(on_wake=lambda: None)
    updates, limits = UpdateQueue(), Limits()
    tested = Connection(
        theirs,
        plugin(),
        loop,
        updates=updates,
        delivered=[],
        limits=limits,
        launched=launched,
    )
    with Peer(ours) as peer, contextlib.closing(loop), contextlib.closing(tested):
        tested.start()
        peer.called("RegisterPlugin")
        seen = [tested.deadline is not None]
        for method in ("Configure", "Synchronize"):
            peer.call(method, request_of(method))
            loop.turn(TIMEOUT)
            seen.append(tested.deadline is not None)
    assert seen == timed


def test_a_synchronize_before_configure_is_refused() -> None:
    with launched(plugin()) as (peer, running):
        peer.called("RegisterPlugin")
        failure = peer.fail("Synchronize", api.SynchronizeRequest())
        assert failure.text == "Synchronize is not expected while the plugin is registering"
        assert peer.sees_the_end()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == f"not synchronized: {failure.text}"


def test_a_long_answer_waits_for_a_peer_that_reads_late() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, _):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        peer.call("Shutdown", api.Empty())
        first, second = peer.event(), peer.event()
        assert isinstance(first, Answer)
        assert first.response == api.CreateContainerResponse(adjust=LONG)
        assert isinstance(second, Answer)
        assert second.method == "Shutdown"


def test_a_long_answer_is_sent_on_when_the_peer_just_reads() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, _):
        peer.take_in()
        response = api.CreateContainerResponse(adjust=LONG)
        assert peer.ask("CreateContainer", CREATE) == response


def test_an_answer_on_its_way_still_arrives_after_a_stop() -> None:
    """Half an answer would have the runtime create the container without its adjustment."""
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        running.stub.stop()
        response = api.CreateContainerResponse(adjust=LONG)
        answer = peer.event()
        assert isinstance(answer, Answer)
        assert answer.response == response
        assert peer.sees_the_end()


def test_a_peer_that_does_not_read_does_not_keep_the_stub_from_stopping() -> None:
    tested = plugin(create_container=lambda *_: LONG)
    with launched(tested, limits=Limits(drain_timeout=0.05)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        running.stub.stop()
        assert running.outcome() is None


def test_a_peer_that_closes_without_reading_is_lost() -> None:
    with launched(plugin(create_container=lambda *_: LONG)) as (peer, running):
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        peer.close()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error).startswith("the connection to the runtime broke: ")


def test_an_observer_is_shown_all_bytes_and_who_ended_the_connection(path: Path) -> None:
    shown: list[tuple[Role, bytes]] = []
    running = external(plugin(), path)
    running.stub.on_bytes(lambda sender, data: shown.append((sender, data)))
    with Listener(path) as listener, running:
        with listener.accept() as peer:
            peer.take_in()
        with listener.accept() as peer:
            peer.take_in()
            running.stub.stop()
            assert peer.sees_the_end()
    ends = [sender for sender, data in shown if not data]
    assert ends == [Role.RUNTIME, Role.PLUGIN]
    first = shown[: shown.index((Role.RUNTIME, b""))]
    replayed = Session(Role.PLUGIN)
    replayed.call("RegisterPlugin", api.RegisterPluginRequest())
    heard = [replayed.receive(data) for sender, data in first if sender is Role.RUNTIME]
    methods = [event.method for events in heard for event in events]
    assert methods == ["RegisterPlugin", "Configure", "Synchronize"]
    registration, *_ = Session(Role.RUNTIME).receive(first[0][1])
    assert isinstance(registration, Call)

"""Updates of a plugin reach the runtime, during a request and between requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from support.peers import BOUND, SHORT, connected, create, next_call, served

from nri_inject import api
from nri_inject.api import ContainerUpdate, CreateContainerRequest, CreateContainerResponse, Pod
from nri_inject.capabilities import NEWEST
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import wait
from nri_inject.stub import Stub
from nri_inject.wire.session import Answer, Failure, Role, Session
from nri_inject.wire.ttrpc import Code

UPDATES = [ContainerUpdate(container_id="c1"), ContainerUpdate(container_id="c2")]
Outcome = list[ContainerUpdate] | NriError


def updated(
    update: Callable[[list[ContainerUpdate]], list[ContainerUpdate]] | None,
    wanted: list[ContainerUpdate] = UPDATES,
) -> Outcome:
    """Let a plugin ask for updates while it handles a request; return what it learns."""
    outcomes: list[Outcome] = []
    learned = threading.Event()
    stubs: list[Stub] = []

    def then(outcome: Outcome) -> None:
        outcomes.append(outcome)
        learned.set()

    def ask(pod: Pod, _: api.Container) -> None:
        if pod.name == "web":
            stubs[0].update(wanted, then)

    with served(Plugin(name="web", index="10", create_container=ask), update) as (peer, stub):
        stubs.append(stub)
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        create(peer)
        other = CreateContainerRequest(pod=Pod(name="db"))
        for _ in range(100):  # a peer reads while it waits for something
            peer.request("CreateContainer", other, CreateContainerResponse, BOUND)
            if learned.wait(SHORT):
                break
    (outcome,) = outcomes
    return outcome


def test_updates_reach_the_runtime() -> None:
    reached: list[list[ContainerUpdate]] = []

    def take(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        reached.append(updates)
        return []

    assert updated(take) == []
    assert reached == [UPDATES]


def test_an_update_that_fails_becomes_a_status() -> None:
    outcome = updated(lambda updates: updates[1:])
    assert isinstance(outcome, RemoteError)
    assert (outcome.code, outcome.message) == (
        Code.UNKNOWN,
        "NRI update of some containers failed: c2",
    )


def test_an_update_that_may_fail_is_told_in_the_answer() -> None:
    lenient = [ContainerUpdate(container_id="c1", ignore_failure=True)]
    assert updated(lambda updates: updates, lenient) == lenient


def test_a_runtime_without_updates_fails_all_of_them() -> None:
    assert isinstance(updated(None), RemoteError)


def test_an_update_from_a_handler_waits_for_the_end_of_the_request() -> None:
    """A handler that waits for its answer is late, as at every runtime."""
    made: list[list[ContainerUpdate]] = []
    with connected() as (peer, theirs):

        def update(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
            made.append(updates)
            return []

        peer.update = update
        pending = peer.begin("CreateContainer", CreateContainerRequest(), BOUND)
        session = Session(Role.PLUGIN)
        call = next_call(theirs, session)
        stream = session.call("UpdateContainers", api.UpdateContainersRequest(update=UPDATES))
        theirs.sendall(session.outgoing())
        peer.ready()
        assert (made, pending.done) == ([], False)
        session.answer(call, CreateContainerResponse())
        theirs.sendall(session.outgoing())
        wait(pending)
        assert made == [UPDATES]
        (answer,) = session.receive(theirs.recv(1 << 16))
        assert (answer.stream, type(answer)) == (stream, Answer)


def test_few_updates_may_wait_for_the_end_of_a_request() -> None:
    with connected() as (peer, theirs):
        peer.begin("CreateContainer", CreateContainerRequest(), BOUND)
        session = Session(Role.PLUGIN)
        for _ in range(18):
            session.call("UpdateContainers", api.UpdateContainersRequest())
        theirs.sendall(session.outgoing())
        peer.ready()
        failures = [
            event for event in session.receive(theirs.recv(1 << 16)) if isinstance(event, Failure)
        ]
    assert [(failure.stream, failure.text) for failure in failures] == [
        (stream, "at most 16 updates may wait for the end of a request") for stream in (33, 35)
    ]


def test_a_peer_that_has_heard_of_its_plugins_end_does_not_ask_any_more() -> None:
    with connected() as (peer, theirs):
        theirs.close()
        peer.ready()
        with pytest.raises(ConnectionLost) as caught:
            create(peer)
    assert str(caught.value) == "plugin 10-web ended"

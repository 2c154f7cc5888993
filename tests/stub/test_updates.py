"""Updates on the plugin's own initiative."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from support.stubs import (
    CREATE,
    UPDATES,
    Asking,
    Heard,
    Peer,
    Running,
    launched,
    plugin,
    raising,
)

from nri_inject import api
from nri_inject.errors import ConnectionLost, NriError, RemoteError


@contextlib.contextmanager
def asking() -> Iterator[tuple[Peer, Running, Asking]]:
    asked = Asking()
    with launched(asked.plugin) as (peer, running):
        asked.ask = lambda: running.stub.update(UPDATES, asked.outcomes.put)
        yield peer, running, asked


def test_an_update_is_sent_after_the_answer_of_the_handler_that_asked_for_it() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["created"]))
        call = peer.called("UpdateContainers")
        assert call.request == api.UpdateContainersRequest(update=UPDATES)
        peer.answer(call, api.UpdateContainersResponse())
        assert asked.outcome() == []


def test_updates_that_failed_are_told() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        failed = api.UpdateContainersResponse(failed=UPDATES)
        peer.answer(peer.called("UpdateContainers"), failed)
        assert asked.outcome() == UPDATES


def test_a_refused_update_is_told_with_status_and_sentence() -> None:
    with asking() as (peer, _, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        peer.refuse(peer.called("UpdateContainers"), "some updates failed")
        error = asked.outcome()
        assert isinstance(error, RemoteError)
        assert (error.code, error.message) == (2, "some updates failed")


def test_an_update_without_an_answer_is_lost_with_the_connection() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        peer.called("UpdateContainers")
        peer.close()
        error = asked.outcome()
        assert isinstance(error, ConnectionLost)
        assert str(error) == "the connection ended before the runtime answered"
        assert running.outcome() is None


def test_an_update_from_another_thread_waits_until_the_plugin_is_configured() -> None:
    with asking() as (peer, running, asked):
        registration = peer.called("RegisterPlugin")
        running.stub.update(UPDATES, asked.outcomes.put)
        peer.answer(registration, api.Empty())
        peer.configure()
        peer.answer(peer.called("UpdateContainers"), api.UpdateContainersResponse())
        assert asked.outcome() == []


def test_updates_are_asked_for_one_after_the_other() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        for name in ("first", "second"):
            update = api.ContainerUpdate(container_id=name)
            running.stub.update([update], asked.outcomes.put)
        first = peer.called("UpdateContainers")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()  # so there is no second one yet
        peer.answer(first, api.UpdateContainersResponse())
        second = peer.called("UpdateContainers")
        assert [first.request, second.request] == [
            api.UpdateContainersRequest(update=[api.ContainerUpdate(container_id=name)])
            for name in ("first", "second")
        ]
        peer.answer(second, api.UpdateContainersResponse())
        assert [asked.outcome(), asked.outcome()] == [[], []]


def test_an_update_that_is_too_long_is_told_to_who_asked() -> None:
    with asking() as (peer, running, asked):
        peer.take_in()
        update = api.ContainerUpdate(container_id="x" * (4 << 20))
        running.stub.update([update], asked.outcomes.put)
        error = asked.outcome()
        assert isinstance(error, NriError)
        assert str(error).startswith("UpdateContainers request of 41943")
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()


def test_a_bug_in_what_follows_an_update_is_logged_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.update(UPDATES, raising(KeyError("bug")))
        peer.answer(peer.called("UpdateContainers"), api.UpdateContainersResponse())
        assert peer.ask("Shutdown", api.Empty()) == api.Empty()
    assert "the callback of an update failed" in caplog.messages


def test_a_failure_that_nobody_waits_for_is_logged(heard: Heard) -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.update(UPDATES)
        peer.refuse(peer.called("UpdateContainers"), "no")
        assert heard.line() == "the runtime did not make all updates: no (status 2)"

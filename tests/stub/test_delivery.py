"""Whether a response has reached the runtime while it was waiting for it."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from support.stubs import CREATE, LONG, TIMEOUT, launched, plugin

from nri_inject import api
from nri_inject.errors import ConnectionLost
from nri_inject.stub import Stub
from nri_inject.stub.delivery import Delivered, Deliveries
from nri_inject.stub.loop import Loop
from nri_inject.wire import Answer


class Following:
    """A plugin that asks whether its response was delivered, and the answers."""

    def __init__(self, meanwhile: Callable[[], object] = bool) -> None:
        self.plugin = plugin(create_container=self._create)
        self.stub: Stub | None = None
        self.answers: queue.Queue[bool] = queue.Queue()
        self._meanwhile = meanwhile

    def _create(self, *_: object) -> api.Adjustment:
        assert self.stub is not None
        self.stub.after_delivery(self.answers.put)
        self._meanwhile()
        return LONG

    def answer(self) -> bool:
        return self.answers.get(timeout=TIMEOUT)


def test_a_response_that_is_read_was_in_time() -> None:
    following = Following()
    with launched(following.plugin) as (peer, running):
        following.stub = running.stub
        peer.take_in()
        assert isinstance(peer.ask("CreateContainer", CREATE), api.CreateContainerResponse)
        assert following.answer() is True


def test_a_response_waits_until_it_is_sent_whole() -> None:
    following = Following()
    with launched(following.plugin) as (peer, running):
        following.stub = running.stub
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)  # the rest is longer than the buffer
        assert following.answers.empty()
        assert isinstance(peer.event(), Answer)
        assert following.answer() is True


def test_a_response_on_a_connection_that_the_runtime_has_closed_is_too_late() -> None:
    gone = threading.Event()
    following = Following(lambda: gone.wait(TIMEOUT))
    with launched(following.plugin) as (peer, running):
        following.stub = running.stub
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        peer.close()
        gone.set()
        assert following.answer() is False
        assert isinstance(running.outcome(), ConnectionLost)


def test_a_response_that_is_sent_in_part_when_the_connection_ends_is_too_late() -> None:
    following = Following()
    with launched(following.plugin) as (peer, running):
        following.stub = running.stub
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        peer.close()
        assert following.answer() is False
        assert isinstance(running.outcome(), ConnectionLost)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop(on_wake=lambda: None)) as made:
        yield made


def delivered(loop: Loop, *, keeps: bool, silent_for: float, patience: float = 2.0) -> list[bool]:
    """Return what a callback gets if the loop has found nothing to read until so long ago."""
    got: list[bool] = []
    added: list[Delivered] = [got.append]
    tested = Deliveries(loop, added)
    tested.stays_connected, tested.patience = keeps, patience
    loop.quiet_until = time.monotonic() - silent_for
    tested.take()
    tested.settle(sent=True)
    loop.turn(0)
    return got


def test_where_a_late_plugin_stays_connected_the_time_counts(loop: Loop) -> None:
    assert delivered(loop, keeps=True, silent_for=1.0) == [True]
    assert delivered(loop, keeps=True, silent_for=3.0) == [False]
    assert delivered(loop, keeps=True, silent_for=3.0, patience=1000.0) == [True]


def test_where_a_late_plugin_loses_its_connection_the_time_does_not_count(loop: Loop) -> None:
    assert delivered(loop, keeps=False, silent_for=3.0) == [True]


def test_the_time_counts_from_when_the_holder_of_the_connection_had_nothing_to_read() -> None:
    with closing(Loop(lambda: None, holder_quiet_until=lambda: time.monotonic() - 3)) as loop:
        assert delivered(loop, keeps=True, silent_for=0.0) == [False]
        assert delivered(loop, keeps=True, silent_for=0.0, patience=1000.0) == [True]


def test_a_loop_waits_without_end_only_if_time_does_not_count(loop: Loop) -> None:
    tested = Deliveries(loop, [])
    assert tested.longest_wait is None
    tested.stays_connected = True
    assert tested.longest_wait == 0.5


KEEPS = api.FailurePolicy(fail_request=True, keep_connected=True)


@pytest.mark.parametrize(
    ("nri", "policy", "expected"),
    [
        ("0.12.5", KEEPS, 0.025),
        ("0.12.5", api.FailurePolicy(fail_request=True), None),
        ("0.12.5", None, None),
        ("0.12.0", KEEPS, None),
    ],
)
def test_the_runtime_says_how_long_it_waits(
    nri: str, policy: api.FailurePolicy | None, expected: float | None
) -> None:
    tested = api.ConfigureRequest(
        runtime_name="containerd", runtime_version="9.0.0", NRI_version=nri, request_timeout=100
    )
    with launched(plugin(failure_policy=policy)) as (peer, running):
        peer.answer(peer.called("RegisterPlugin"), api.Empty())
        peer.ask("Configure", tested)
        (connection,) = running.stub._connections
        assert connection.longest_wait == expected

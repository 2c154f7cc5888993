"""Registration, configuration and synchronization of a plugin."""

from __future__ import annotations

import logging
import queue
from typing import Any

import pytest
from support.stubs import (
    CONTAINER,
    CREATE,
    POD,
    TIMEOUT,
    UPDATES,
    launched,
    plugin,
    raising,
)

from nri_inject import api
from nri_inject.capabilities import NEWEST, dotted
from nri_inject.errors import ConfigError, ConnectionLost, NriError, RemoteError
from nri_inject.stub import Limits
from nri_inject.stub.handshake import Handshake
from nri_inject.wire import Call, Failure

MAX_OBJECTS = Limits().max_sync_objects


def test_a_plugin_registers_with_its_name_its_index_and_the_version_of_the_protocol() -> None:
    with launched(plugin()) as (peer, _):
        request = api.RegisterPluginRequest(
            plugin_name="tested", plugin_idx="10", NRI_version="0.12.5"
        )
        assert peer.event() == Call(1, "RegisterPlugin", request)
        peer.configure()


def test_configure_may_come_before_the_answer_to_the_registration() -> None:
    with launched(plugin(create_container=lambda *_: None)) as (peer, _):
        registration = peer.called("RegisterPlugin")
        assert peer.configure() == 0b1000
        peer.answer(registration, api.Empty())
        assert peer.ask("Synchronize", api.SynchronizeRequest()) == api.SynchronizeResponse()


def test_the_handler_of_configure_gets_the_whole_request() -> None:
    requests: queue.Queue[api.ConfigureRequest] = queue.Queue()
    with launched(plugin(configure=requests.put)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure("1.7.24~ds1", config="verbose: true")
    assert requests.get(timeout=TIMEOUT) == api.ConfigureRequest(
        runtime_name="containerd", runtime_version="1.7.24~ds1", config="verbose: true"
    )


def test_the_failure_policy_is_told_in_the_answer_to_configure() -> None:
    policy = api.FailurePolicy(fail_request=True, keep_connected=True)
    answer = Handshake(plugin(failure_policy=policy), Limits()).configure(api.ConfigureRequest())
    assert answer.failure_policy == policy
    # The bytes that runtimes of NRI 0.12.4 read: field 3, and in it fields 1 and 2.
    assert answer.SerializeToString().endswith(bytes.fromhex("1a0408011001"))


def test_a_plugin_without_a_failure_policy_sends_none() -> None:
    answer = Handshake(plugin(), Limits()).configure(api.ConfigureRequest())
    assert not answer.HasField("failure_policy")


def test_the_failure_policy_is_that_of_the_record_which_configure_returns() -> None:
    policy = api.FailurePolicy(fail_request=True)
    other = plugin(failure_policy=policy)
    tested = plugin(configure=lambda _: other)
    answer = Handshake(tested, Limits()).configure(api.ConfigureRequest())
    assert answer.failure_policy == policy


NEW_EVENTS = "UPDATE_POD_SANDBOX, POST_UPDATE_POD_SANDBOX, VALIDATE_CONTAINER_ADJUSTMENT"


def test_configure_may_return_the_plugin_that_serves_from_then_on() -> None:
    created: queue.Queue[api.Container] = queue.Queue()
    other = plugin(create_container=lambda _, container: created.put(container))
    with launched(plugin(configure=lambda _: other, run_pod_sandbox=lambda _: None)) as (peer, _):
        assert peer.take_in() == 0b1000
        peer.ask("CreateContainer", CREATE)
    assert created.get(timeout=TIMEOUT) == CONTAINER


@pytest.mark.parametrize(
    ("version", "mask", "missing"),
    [("1.7.24~ds1", 0x7FF, True), ("2.1.9", 0x7FF, True), ("2.3.0", 0x3FFF, False)],
)
def test_a_runtime_is_asked_only_for_events_that_it_knows(
    version: str, mask: int, missing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    names = [name.lower() for name in api.Event.keys()[1:-1]]
    tested = plugin(**{name: lambda *_: None for name in names})
    with launched(tested) as (peer, _):
        assert peer.take_in(version) == mask
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    sentence = f"containerd {version} does not report these events: {NEW_EVENTS}"
    assert warnings == [sentence] * missing


def test_a_plugin_of_unknown_events_alone_asks_for_a_harmless_one() -> None:
    with launched(plugin(validate_container_adjustment=lambda _: None)) as (peer, _):
        assert peer.take_in("2.1.9") == 0b100


@pytest.mark.parametrize(
    ("name", "version", "shown"),
    [("other", "5.0", "other 5.0"), ("", "", "an unnamed runtime")],
    ids=["named", "unnamed"],
)
def test_what_is_assumed_of_an_unknown_runtime_is_logged(
    name: str, version: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = api.ConfigureRequest(runtime_name=name, runtime_version=version)
    with caplog.at_level(logging.INFO, "nri_inject.stub"):
        Handshake(plugin(), Limits()).configure(request)
    assert caplog.messages == [
        f"{shown} is an unknown runtime, so NRI {dotted(NEWEST.nri)} is assumed",
        f"configured by {shown}, plugin 10-tested",
    ]


def test_a_refused_registration_is_raised() -> None:
    with launched(plugin()) as (peer, running):
        peer.refuse(peer.called("RegisterPlugin"), "invalid plugin name")
        error = running.outcome()
    assert isinstance(error, RemoteError)
    assert (error.code, str(error)) == (
        2,
        "the runtime refused the registration: invalid plugin name (status 2)",
    )


def test_a_refused_configuration_is_told_and_raised() -> None:
    problem = ConfigError("verbose is 'maybe', true or false expected")
    with launched(plugin(configure=raising(problem))) as (peer, running):
        peer.called("RegisterPlugin")
        assert peer.fail("Configure", api.ConfigureRequest()) == Failure(
            1, "Configure", 2, "verbose is 'maybe', true or false expected"
        )
        peer.close()
        assert running.outcome() is problem


def test_a_bug_in_configure_is_told_without_its_words_and_raised() -> None:
    with launched(plugin(configure=raising(KeyError("secret")))) as (peer, running):
        peer.called("RegisterPlugin")
        failure = peer.fail("Configure", api.ConfigureRequest())
        peer.close()
        error = running.outcome()
    assert failure[2:] == (13, "plugin tested failed in Configure, see its log")
    assert isinstance(error, NriError)
    assert str(error) == failure.text


def test_what_exists_is_told_at_once_however_it_was_split() -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(*exists: Any) -> list[api.ContainerUpdate]:
        told.put(exists)
        return UPDATES

    pods = [api.Pod(id=str(number)) for number in range(5)]
    containers = [api.Container(id=str(number)) for number in range(5)]
    with launched(plugin(synchronize=synchronize)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        for part in (slice(0, 2), slice(2, 4)):
            request = api.SynchronizeRequest(
                pods=pods[part], containers=containers[part], more=True
            )
            assert peer.ask("Synchronize", request) == api.SynchronizeResponse(more=True)
        assert told.empty()
        last = api.SynchronizeRequest(pods=pods[4:], containers=containers[4:])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse(update=UPDATES)
        assert told.get(timeout=TIMEOUT) == (pods, containers)
        again = api.SynchronizeRequest(pods=pods[:1])
        assert peer.ask("Synchronize", again) == api.SynchronizeResponse(update=UPDATES)
        assert told.get(timeout=TIMEOUT) == (pods[:1], [])


def test_a_plugin_that_does_not_care_what_exists_answers_parts_all_the_same() -> None:
    with launched(plugin()) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[POD], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        last = api.SynchronizeRequest(containers=[CONTAINER])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse()


@pytest.mark.slow
def test_a_runtime_that_never_stops_telling_what_exists_is_left() -> None:
    with launched(plugin(synchronize=lambda *_: None)) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod()] * (MAX_OBJECTS // 2), more=True)
        for _ in range(2):
            assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        failure = peer.fail("Synchronize", api.SynchronizeRequest(pods=[api.Pod()], more=True))
        assert failure[2:] == (2, "the runtime reported more than 100000 pods and containers")
        assert isinstance(running.outcome(), ConnectionLost)


def test_parts_are_handed_on_as_they_come_to_a_plugin_that_wants_them() -> None:
    told: queue.Queue[Any] = queue.Queue()
    handlers = {
        "synchronize_part": lambda *part: told.put((*map(list, part),)),
        "synchronize": lambda *exists: told.put(exists),
    }
    with launched(plugin(**handlers)) as (peer, _):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[POD], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        assert told.get(timeout=TIMEOUT) == ([POD], [])
        last = api.SynchronizeRequest(containers=[CONTAINER])
        assert peer.ask("Synchronize", last) == api.SynchronizeResponse()
        assert told.get(timeout=TIMEOUT) == ([], [CONTAINER])
        assert told.get(timeout=TIMEOUT) == ([], [])


@pytest.mark.parametrize("handler", ["synchronize_part", "run_pod_sandbox"])
def test_a_plugin_that_keeps_nothing_is_not_held_to_any_bytes_but_to_a_count(
    handler: str,
) -> None:
    tested = plugin(**{handler: lambda *_: None})
    with launched(tested, limits=Limits(max_sync_bytes=10)) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod(name="longer than ten")], more=True)
        assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        part = api.SynchronizeRequest(pods=[api.Pod()] * MAX_OBJECTS, more=True)
        failure = peer.fail("Synchronize", part)
        assert failure[2:] == (2, "the runtime reported more than 100000 pods and containers")
        assert isinstance(running.outcome(), ConnectionLost)


def test_a_runtime_that_reports_too_many_bytes_for_a_plugin_that_wants_all_is_left() -> None:
    tested = plugin(synchronize=lambda *_: None)
    with launched(tested, limits=Limits(max_sync_bytes=3 << 20)) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        part = api.SynchronizeRequest(pods=[api.Pod(name="x" * (1 << 20))], more=True)
        for _ in range(2):
            assert peer.ask("Synchronize", part) == api.SynchronizeResponse(more=True)
        failure = peer.fail("Synchronize", part)
        assert failure.text == (
            "the runtime reported more than 3 MiB of pods and containers;"
            " a plugin with a handler synchronize_part can read them in parts"
        )
        assert isinstance(running.outcome(), ConnectionLost)


def test_a_fault_in_synchronize_is_told_and_ends_the_connection() -> None:
    with launched(plugin(synchronize=raising(NriError("cannot")))) as (peer, running):
        peer.called("RegisterPlugin")
        peer.configure()
        failure = peer.fail("Synchronize", api.SynchronizeRequest())
        assert failure[2:] == (2, "cannot")
        assert peer.sees_the_end()
        error = running.outcome()
    assert isinstance(error, ConnectionLost)
    assert str(error) == "not synchronized: cannot"

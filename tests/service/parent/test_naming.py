"""Which request some bytes are, and whom they are about, whatever the bytes."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.service.parent.naming import (
    MethodCall,
    event_of,
    expects_more,
    is_error,
    number_in,
    request_of,
    subject_of,
)
from nri_inject.wire.fields import walk

POD = api.Pod(id="p", name="web", uid="u", namespace="shop", annotations={"k": "v"})
CONTAINER = api.Container(id="c", pod_sandbox_id="p", name="app", env=["A=1"])


def request(method: str, message: Message) -> MethodCall:
    envelope = ttrpc_pb2.Request(
        service="s", method=method, payload=message.SerializeToString(), timeout_nano=2 * 10**9
    )
    return request_of(envelope.SerializeToString())


@pytest.mark.parametrize(
    ("method", "message", "event", "subject"),
    [
        (
            "CreateContainer",
            api.CreateContainerRequest(pod=POD, container=CONTAINER),
            "create_container",
            "pod shop/web, container app",
        ),
        (
            "StateChange",
            api.StateChangeEvent(event=api.Event.REMOVE_CONTAINER, pod=POD, container=CONTAINER),
            "remove_container",
            "pod shop/web, container app",
        ),
        (
            "RunPodSandbox",
            api.RunPodSandboxRequest(pod=POD),
            "run_pod_sandbox",
            "pod shop/web",
        ),
        ("Configure", api.ConfigureRequest(runtime_name="containerd"), "configure", ""),
        ("Synchronize", api.SynchronizeRequest(pods=[POD]), "synchronize", ""),
        ("StateChange", api.StateChangeEvent(), "unknown", ""),
    ],
)
def test_a_request_is_named(method: str, message: Message, event: str, subject: str) -> None:
    found = request(method, message)
    assert (found.method, event_of(found), subject_of(found)) == (method, event, subject)


def test_control_characters_in_names_are_escaped_and_long_names_are_cut() -> None:
    pod = api.Pod(name="a\nb" + "x" * 1000, namespace="shop")
    subject = subject_of(request("RunPodSandbox", api.RunPodSandboxRequest(pod=pod)))
    assert subject.startswith("pod shop/a\\nbxxx")
    assert len(subject) < 400


def test_numbers_and_answers_are_read() -> None:
    configure = api.ConfigureRequest(request_timeout=2500)
    number = number_in(configure.SerializeToString(), api.ConfigureRequest, "request_timeout")
    assert number == 2500
    status = ttrpc_pb2.Response(status=ttrpc_pb2.Status(code=2, message="no"))
    more = api.SynchronizeResponse(more=True).SerializeToString()
    assert is_error(status.SerializeToString())
    assert not is_error(ttrpc_pb2.Response(payload=more).SerializeToString())
    assert expects_more(ttrpc_pb2.Response(payload=more).SerializeToString())
    assert not expects_more(b"")


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    for method in ("CreateContainer", "StateChange"):
        found = MethodCall(method, data)
        subject_of(found)
        event_of(found)
    request_of(data)
    is_error(data)
    expects_more(data)


@given(st.binary(max_size=200))
def test_a_walk_over_fields_ends(data: bytes) -> None:
    assert len([*walk(data)]) <= len(data)


def test_a_walk_yields_the_fields_of_a_message() -> None:
    message = api.StateChangeEvent(event=api.Event.REMOVE_CONTAINER, pod=POD)
    assert [*walk(message.SerializeToString())] == [
        (1, api.Event.REMOVE_CONTAINER),
        (2, POD.SerializeToString()),
    ]

"""The calls that carry an event, by NRI version and by what the plugin serves."""

from __future__ import annotations

import pytest
from support.lives import live
from support.worlds import (
    CONTAINERD_2,
    DEDICATED,
    MAIN,
    POD,
    NewRuntime,
    empty,
    old,
    scripted,
)

from nri_inject import api
from nri_inject.errors import NriError, RemoteError
from nri_inject.wire.ttrpc import Code

METHODS = [
    *("RunPodSandbox", "CreateContainer", "PostCreateContainer", "StartContainer"),
    *("PostStartContainer", "UpdateContainer", "PostUpdateContainer", "StopContainer"),
    *("StopPodSandbox", "RemoveContainer", "RemovePodSandbox"),
]
MASK = 0x7FF


def by_state_change(method: str) -> tuple[str, str]:
    if method not in DEDICATED:
        return method, "UNKNOWN"
    snake = "".join(f"_{letter}" if letter.isupper() else letter for letter in method)
    return "StateChange", snake.lstrip("_").upper()


def test_since_nri_0_12_every_event_has_a_call_of_its_own(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    with scripted(world, empty, MASK) as called:
        live(world, POD, MAIN)
    assert called == [(method, "UNKNOWN") for method in METHODS]


def test_before_that_most_are_told_by_state_change(new_runtime: NewRuntime) -> None:
    world = new_runtime(CONTAINERD_2)
    with scripted(world, empty, MASK) as called:
        live(world, POD, MAIN)
    assert called == [by_state_change(method) for method in METHODS]


def test_a_plugin_without_those_calls_is_asked_for_one_of_them_once(
    new_runtime: NewRuntime,
) -> None:
    world = new_runtime()
    with scripted(world, old, MASK) as called:
        live(world, POD, MAIN)
    assert called == [("RunPodSandbox", "UNKNOWN"), *map(by_state_change, METHODS)]
    assert world.faults == []


def test_an_update_of_a_pod_has_no_other_form(new_runtime: NewRuntime) -> None:
    world = new_runtime()
    world.pods[POD.id] = POD
    with (
        scripted(world, lambda call: NriError(f"method {call.method}")),
        pytest.raises(RemoteError) as caught,
    ):
        world.update_pod(POD.id, api.LinuxResources(), api.LinuxResources())
    assert caught.value.code == Code.UNIMPLEMENTED

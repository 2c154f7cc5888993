"""Validators see each container before and after, and can reject it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from support.worlds import (
    CONTAINERD_2,
    MAIN,
    POD,
    NewRuntime,
    empty,
    refuses,
    scripted,
)

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.errors import NriError, RequestError
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import Timeouts
from nri_inject.runtime.validate import Rejection, Rules


def validator(name: str, check: Callable[..., None], index: str = "90") -> Plugin:
    return Plugin(name=name, index=index, validate_container_adjustment=check)


def greets(*_: object) -> Adjustment:
    return Adjustment(env=[api.KeyValue(key="A", value="1")])


def test_a_validator_gets_the_container_as_it_was_and_what_becomes_of_it(
    new_runtime: NewRuntime,
) -> None:
    requests: list[api.ValidateContainerAdjustmentRequest] = []
    world = new_runtime(rules=Rules())
    world.connect(Plugin(name="web", index="10", create_container=greets))
    world.connect(validator("strict", requests.append))
    world.run_pod(POD)
    world.create(MAIN)
    (request,) = requests
    assert (list(request.container.env), request.adjust.env[0].key) == ([], "A")
    assert request.owners.owners[MAIN.id].compound[api.Field.Env].owners["A"] == "10-web"
    assert [f"{each.index}-{each.name}" for each in request.plugins] == [
        "00-default-validator",
        "10-web",
        "90-strict",
    ]


def test_validators_are_asked_side_by_side(new_runtime: NewRuntime) -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=10)

    def meets(_: object) -> None:
        meeting.wait()

    world = new_runtime()
    for name in ("a", "b"):
        world.connect(validator(name, meets))
    world.run_pod(POD)
    world.create(MAIN)
    assert world.adaptation.dropped == []


def test_every_rejection_is_told(new_runtime: NewRuntime) -> None:
    def rejects(_: object) -> None:
        raise RequestError(["not here"])

    def breaks(_: object) -> None:
        raise NriError("cannot tell")

    rules = Rules(required_plugins=("guard",))
    world = new_runtime(rules=rules)
    world.connect(validator("a", rejects))
    world.connect(validator("b", breaks))
    world.run_pod(POD)
    with pytest.raises(Rejection) as caught:
        world.create(MAIN)
    assert str(caught.value) == (
        'validator "00-default-validator" rejected container adjustment,'
        " reason: required plugin not there: guard;"
        ' validator "90-a" rejected container adjustment, reason: not here;'
        ' validator "90-b" failed: cannot tell'
    )
    assert world.adaptation.plugins == ["90-a", "90-b"]


def test_a_rejection_without_a_reason_is_one(new_runtime: NewRuntime) -> None:
    rejection = api.ValidateContainerAdjustmentResponse(reject=True)
    world = new_runtime()
    world.pods[POD.id] = POD
    with (
        scripted(
            world,
            lambda call: rejection if call.method.startswith("Validate") else empty(call),
            1 << 13,
        ),
        pytest.raises(Rejection, match=r"reason: unknown rejection reason$"),
    ):
        world.create(MAIN)


@pytest.mark.slow
def test_a_late_validator_fails_the_container_and_is_dropped(new_runtime: NewRuntime) -> None:
    release = threading.Event()

    def hangs(_: object) -> None:
        release.wait(10)

    world = new_runtime(timeouts=Timeouts(request=0.3))
    world.connect(validator("slow", hangs))
    world.run_pod(POD)
    late = "plugin 90-slow did not answer ValidateContainerAdjustment in time"
    with pytest.raises(Rejection) as caught:
        world.create(MAIN)
    release.set()
    assert str(caught.value) == f'validator "90-slow" failed: {late}'
    assert world.adaptation.dropped == [late]


def test_runtimes_before_nri_0_10_ask_no_validator(new_runtime: NewRuntime) -> None:
    world = new_runtime(CONTAINERD_2)
    world.connect(validator("strict", refuses))
    world.run_pod(POD)
    world.create(MAIN)

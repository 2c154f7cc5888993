"""The state that one version leaves to the next: its form, and states that cannot be used."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from nri_inject.errors import NriError
from nri_inject.service.health.life import Life
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import State
from nri_inject.service.parent import handover
from nri_inject.service.parent.handover import TRIAL, VARIABLE, Handover
from nri_inject.service.parent.relay import Relay
from nri_inject.version import VERSION

STATE = Handover(
    since=1.5,
    relays=[Relay("10-a").saved()],
    descriptors=[3],
    children=[7],
    failures=2,
    has_served=True,
    is_launched=True,
    life={"started": 1.0},
)


def left(document: object) -> dict[str, str]:
    """Return the environment of a process to which a document was left."""
    descriptor = os.memfd_create("state", 0)
    os.write(descriptor, json.dumps(document).encode())
    return {VARIABLE: str(descriptor)}


def test_this_is_state_1() -> None:
    """A change here needs another STATE_VERSION."""
    descriptor = handover.write(STATE)
    assert json.loads(os.pread(descriptor, 1 << 16, 0)) == {
        "state": 1,
        "program": VERSION,
        "since": 1.5,
        "relays": [
            {
                "configured": False,
                "synchronized": False,
                "timeout": 2.0,
                "next_stream": 1,
                "configured_as": "",
                "registration": [],
                "history": [],
            }
        ],
        "descriptors": [3],
        "children": [7],
        "failures": 2,
        "has_served": True,
        "is_launched": True,
        "life": {"started": 1.0},
    }
    os.close(descriptor)
    assert Life(started=1.0, notes=Notes()).saved() == {
        "started": 1.0,
        "counts": (0,) * 12,
        "counters": [0] * 29,
        "listener": None,
        "upgrades": 0,
        "notes": "",
    }


@pytest.mark.parametrize("variable", [VARIABLE, TRIAL])
def test_a_state_is_read_once(variable: str) -> None:
    descriptor = handover.write(STATE)
    assert os.get_inheritable(descriptor)
    environ = {variable: str(descriptor), "OTHER": "x"}
    assert handover.read(environ) == STATE
    assert environ == {"OTHER": "x"}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert handover.read(environ) is None


def test_a_state_of_another_version_says_both() -> None:
    with pytest.raises(NriError) as caught:
        handover.read(left({"state": 2, "program": "9.0"}))
    assert str(caught.value) == (
        f"version {VERSION} cannot take over from version 9.0: it reads state 1, and that version"
        " writes state 2"
    )


@pytest.mark.parametrize(
    "document", [{}, [], "x", {"state": 1, "program": "9.0", "more": 1}, {"state": 1}]
)
def test_a_state_that_cannot_be_read_is_refused(document: object) -> None:
    with pytest.raises(NriError, match=f"version {VERSION} cannot read the state of"):
        handover.read(left(document))


@pytest.mark.parametrize("number", ["x", "-1", "1000000"])
def test_a_descriptor_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(NriError, match=f"version {VERSION} cannot read the state of"):
        handover.read({VARIABLE: number})


@pytest.mark.parametrize("relay", [{}, {**Relay("").saved(), "history": ["%"]}, "x"])
def test_a_conversation_that_cannot_be_read_is_refused(relay: Any) -> None:
    state = replace(STATE, relays=[relay])
    with pytest.raises(NriError, match="cannot read the state of"):
        state.restored("10-a")


def test_a_life_goes_on_with_its_counts_and_notes() -> None:
    life = Life(started=5.0, notes=Notes())
    state = State("10", "a", 1)
    state.asked, state.late = 4, 1
    life.keep_counts(state)
    life.upgraded("it does not start")
    assert life.upgrades() == (1, "it does not start")
    assert life.notes is not None
    life.notes.put("key", b"value")
    after = Life.restored(json.loads(json.dumps(life.saved())))
    assert after.upgrades() == (1, "")
    assert after.notes is not None
    after.notes.inherit()  # as each worker does
    assert after.notes.get("key") == b"value"
    again = after.state("10", "a")
    assert (again.started, again.asked, again.late) == (5.0, 4, 1)


def test_a_life_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(NriError, match="cannot read the counts and notes of another version"):
        Life.restored({"started": 1.0, "counts": [1], "upgrades": 0, "notes": ""})

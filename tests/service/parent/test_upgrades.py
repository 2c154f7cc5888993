"""An upgrade that fails inside of the process leaves it as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from nri_inject.service.parent.handover import Handover
from nri_inject.service.parent.link import Links
from nri_inject.service.parent.upgrade import Replace, Upgrades
from nri_inject.stub.loop import Loop
from nri_inject.version import VERSION


class Owner:
    """A process that cannot save its state."""

    may_hand_over = True

    def __init__(self) -> None:
        self.links = Links((), is_launched=True)
        self.faults: list[str] = []

    def saved(self) -> tuple[Handover, Sequence[object]]:
        raise ValueError("no state")

    def hand_over(self, replace: Replace) -> str:
        raise AssertionError(replace)

    def upgrade_failed(self, fault: str) -> None:
        self.faults.append(fault)

    def leave(self, children: Sequence[int]) -> None:
        assert children == []


def test_a_fault_of_the_process_itself_ends_the_upgrade_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, owner = Loop(on_wake=lambda: None), Owner()
    upgrades = Upgrades(loop, owner)  # type: ignore[arg-type]  # saved() returns nothing
    upgrades.advance()
    assert owner.faults == []
    for count in (1, 2):
        upgrades.ask()
        upgrades.advance()
        assert owner.faults == ["ValueError: no state"] * count
        assert upgrades.next_look > time.monotonic() + 1e6
    upgrades.close()
    loop.close()
    assert f"version {VERSION} goes on: ValueError: no state" in caplog.text

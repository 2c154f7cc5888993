"""The budget of one request: steps are counted, and one too many fails the container."""

from __future__ import annotations

import pytest

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.compose import compose
from nri_inject.injectors.host import Host
from nri_inject.text.budget import MAX_STEPS, UNLIMITED, Budget, Counted, OverBudget

SENTENCE = "reading it takes more than 100000 steps, the limit for one container"
ADVICE = "request fewer or shorter things"


def test_the_last_step_of_a_budget_is_free_and_the_next_one_fails_the_container() -> None:
    budget = Budget(lambda: "pod ns/p, container c")
    budget.spend("reading it", MAX_STEPS)
    with pytest.raises(OverBudget) as caught:
        budget.spend("reading it", 1)
    assert str(caught.value) == f"pod ns/p, container c: {SENTENCE}; {ADVICE}"
    assert isinstance(caught.value, RequestError)


def test_a_budget_that_is_spent_stays_spent() -> None:
    budget = Budget(steps=1)
    for _ in range(2):
        with pytest.raises(OverBudget, match="more than 1 steps"):
            budget.spend("it", 2)


def test_who_asks_for_himself_has_steps_enough() -> None:
    for _ in range(10):
        UNLIMITED.spend("it", MAX_STEPS)


def test_a_look_costs_its_price_and_what_it_turns_out_to_cost() -> None:
    budget = Budget()
    counted = Counted({"a": 1}, budget, len, lambda _, found: 10 if found is None else 100)
    assert counted["a"] == 1
    assert budget.spent == 101
    assert counted.get("gone") is None
    assert budget.spent == 115


def test_nothing_is_looked_at_that_the_budget_does_not_cover() -> None:
    looked: list[str] = []

    class Source(dict[str, int]):
        def __missing__(self, key: str) -> int:
            looked.append(key)
            return 1

    counted = Counted(Source(), Budget(steps=2), len)
    assert counted["ab"] == 1
    with pytest.raises(OverBudget, match="looking for it on the host takes more than 2 steps"):
        counted["a"]
    assert looked == ["ab"]


def test_one_injector_over_the_budget_ends_all_of_them() -> None:
    asked: list[str] = []

    def spends(_: Pod, __: Container, host: Host) -> Adjustment:
        asked.append("spends")
        host.budget.spend("it", 2)
        return Adjustment()

    def faulty(_: Pod, __: Container, ___: Host) -> Adjustment:
        asked.append("faulty")
        raise RequestError(["no"])

    with pytest.raises(OverBudget) as caught:
        compose(faulty, spends, faulty)(Pod(), Container(), Host({}, budget=Budget(steps=1)))
    assert caught.value.faults == (
        f"it takes more than 1 steps, the limit for one container; {ADVICE}",
    )
    assert asked == ["faulty", "spends"]

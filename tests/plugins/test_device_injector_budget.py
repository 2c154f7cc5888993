"""The annotations of a container share one budget of steps."""

import dataclasses
from functools import partial

import pytest
from support.annotating import HOST, faults, pod_wide
from support.counting import calls_of

from nri_inject.api import Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.devices import selectors
from nri_inject.injectors.device import KINDS, inject
from nri_inject.text.budget import Budget, OverBudget


def test_a_path_has_at_most_64_slashes() -> None:
    item = "- {{path: '{}', type: c, major: 1, minor: 3}}"
    assert pod_wide("devices", item.format("/a" * 64)).linux.devices[0].path == "/a" * 64
    assert faults("devices", item.format("/a" * 65)) == [
        f"item 1: path: '{'/a' * 38}/...' contains more than 64 slashes"
    ]


def test_a_thousand_selectors_are_counted_before_one_is_read() -> None:
    text = "- usb:1a86:7523\n" * 900 + "- {DEVICE: class:fuse}\n"
    asked = partial(faults, "devices", text)
    assert calls_of(selectors.parse.__code__, asked) == 0
    assert asked() == ["901 devices by `links` or by a selector that is no path, at most 8 allowed"]


def test_a_text_over_the_budget_is_one_sentence() -> None:
    text = "".join(f"k{number}: a\n" for number in range(25_000))
    host = dataclasses.replace(HOST, budget=Budget())
    with pytest.raises(OverBudget) as caught:
        inject(Pod(annotations={"sysctl.noderesource.dev": text}), Container(), host)
    (sentence,) = caught.value.faults
    assert sentence == (
        "annotation sysctl.noderesource.dev: reading it takes more than 100000 steps, the limit for"
        " one container; request fewer or shorter things"
    )


def test_one_long_word_costs_little() -> None:
    budget = Budget()
    text = "- " + "x" * 255_000
    with pytest.raises(RequestError, match="a list is not a map of text to text"):
        inject(
            Pod(annotations={"sysctl.noderesource.dev": text}),
            Container(),
            dataclasses.replace(HOST, budget=budget),
        )
    assert budget.spent < 20_000


def test_all_annotations_share_one_budget() -> None:
    text = "- a\n" * 8000
    kinds = {f"{kind.prefix}": text for kind in KINDS}
    for number, over in ((2, False), (8, True)):
        host = dataclasses.replace(HOST, budget=Budget())
        with pytest.raises(RequestError) as caught:
            inject(Pod(annotations=dict([*kinds.items()][:number])), Container(), host)
        assert isinstance(caught.value, OverBudget) is over


def test_a_reading_costs_the_same_steps_when_it_is_cached() -> None:
    spent = []
    for _ in range(2):
        budget = Budget()
        pod_wide(
            "ulimits", "- {type: NOFILE, hard: 7777}\n", dataclasses.replace(HOST, budget=budget)
        )
        spent.append(budget.spent)
    assert spent[0] == spent[1] > 0

"""Rules for the device cgroup mean the same on every OCI runtime, or are not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.device_rules import OPENINGS, READINGS, Rule, of_message

from nri_inject.host.access import AUTOMATIC, Number, letters, possible_access, refusal, rules

FUSE: Number = ("c", 10, 229)
DISK: Number = ("b", 8, 0)
AUTO = Rule(True, "rw", *FUSE)

accesses = st.sets(st.sampled_from("rwm"))
numbers = st.sampled_from([FUSE, DISK, ("c", 10, 200), ("b", 8, 1)])


def deny(access: str, kind: str = "c", major: int = 10, minor: int = 229) -> Rule:
    return Rule(False, access, kind, major, minor)


def allow(access: str, kind: str = "c", major: int = 10, minor: int = 229) -> Rule:
    return Rule(True, access, kind, major, minor)


# --- rules that are made ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "wanted", "made"),
    [
        ("rw", "rw", []),
        ("rw", "r", [deny("rwm"), allow("r")]),
        ("rw", "w", [deny("rwm"), allow("w")]),
        ("rw", "m", [deny("rwm"), allow("m")]),
        ("rw", "mwr", [allow("rwm")]),
        ("rw", "", [deny("rwm")]),
        ("rwm", "rw", [deny("rwm"), allow("rw")]),
        ("", "r", [allow("r")]),
        ("", "", []),
    ],
)
def test_access_is_taken_away_as_a_whole_and_allowed_in_one_rule(
    has: str, wanted: str, made: list[Rule]
) -> None:
    assert [of_message(rule) for rule in rules(FUSE, has, wanted)] == made


@given(numbers, accesses)
def test_a_device_has_the_access_that_is_wanted_however_rules_are_read(
    number: Number, wanted: set[str]
) -> None:
    automatic = AUTOMATIC[number[0]]
    made = [of_message(rule) for rule in rules(number, automatic, wanted)]
    expected = {opening for opening, needed in OPENINGS.items() if needed <= wanted}
    for passed in READINGS:
        assert passed([Rule(True, letters(automatic), *number), *made], number) == expected


@pytest.mark.parametrize(
    "number",
    [
        *(("c", 1, minor) for minor in (3, 5, 7, 8, 9)),
        *(("c", 5, minor) for minor in (0, 1, 2)),
        ("c", 10, 200),
        ("c", 136, 0),
        ("c", 136, 77),
    ],
)
def test_what_every_container_may_open_cannot_be_narrowed(number: Number) -> None:
    numbers = f"c {number[1]}:{number[2]}"
    for access in ("r", "w", "m", ""):
        assert refusal(number, access) == f"runc and crun let every container open {numbers}"
    assert refusal(number, "rw") == refusal(number, "rwm") == ""


@pytest.mark.parametrize("number", [FUSE, DISK, ("b", 1, 3), ("c", 1, 1), ("c", 5, 3)])
def test_any_other_device_can_be(number: Number) -> None:
    assert refusal(number, "r") == refusal(number, "") == ""


# --- rules that are read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beside", "access"),
    [
        ([], "rw"),
        ([allow("m")], "rwm"),
        ([deny("rwm")], ""),
        ([deny("mwr"), allow("r")], "r"),
        ([deny("rwm"), allow("r"), allow("w")], "rw"),
        # a part of the letters: crun's cgroup v2 lets a request for more of them through
        ([deny("w")], "rw"),
        ([deny("rw")], "rw"),
        ([deny("r"), deny("w"), deny("m")], "rw"),
        # wildcards that deny: runc leaves the entry of the device itself
        ([deny("rwm", "c", -1, -1)], "rw"),
        ([deny("rwm", "c", 10, -1)], "rw"),
        ([deny("rwm", "b")], "rw"),
        ([deny("rwm", "a", 10, 229)], "rw"),
        ([deny("rwm", "a", -1, -1)], ""),
        ([deny("rwm", "a", -1, -1), allow("r")], "r"),
        ([deny("w", "a", -1, -1)], "rw"),
        # wildcards that allow: on cgroup v1 a denied number is no hole in them
        ([deny("rwm"), allow("r", "c", 10, -1)], "r"),
        ([allow("m", "c", -1, -1), deny("rwm")], "m"),
        ([allow("m", "c", -1, -1), deny("rwm", "a", -1, -1)], ""),
        ([allow("m", "b", -1, -1)], "rw"),
        ([allow("m", "c", 10, 1)], "rw"),
        # of type `a` every rule opens every device, whatever else it says
        ([deny("rwm"), allow("r", "a", 1, 1)], "rwm"),
        ([deny("rwm"), allow("r", "", -1, -1)], "rwm"),
    ],
)
def test_believed_is_the_most_that_any_runtime_gives(beside: list[Rule], access: str) -> None:
    found = possible_access(FUSE, [rule.message() for rule in beside])
    assert letters(found) == access


anything = st.builds(
    Rule,
    st.booleans(),
    st.sets(st.sampled_from("rwm"), min_size=1).map(letters),
    st.sampled_from("aabccc"),
    st.sampled_from([-1, 10, 10, 8]),
    st.sampled_from([-1, 229, 229, 0]),
)


@given(st.lists(anything, max_size=5))
def test_no_reading_of_any_rules_gives_more_than_is_believed(beside: list[Rule]) -> None:
    found = possible_access(FUSE, [rule.message() for rule in beside])
    for passed in READINGS:
        for opening in passed([AUTO, *beside], FUSE):
            assert OPENINGS[opening] <= found

"""Values become typed fields, or sentences with their places."""

from __future__ import annotations

import pytest

from nri_inject.text.fields import (
    Fault,
    Field,
    Findings,
    Map,
    Problem,
    dotted,
    folded,
    integer,
    map_of,
    not_one_of,
    read_flag,
)
from nri_inject.text.yamltext import Value

POINT = Map((Field("x", integer(0, 9), required=True), Field("hostPath", read_flag, to="path")))


def read(value: Value, found: Findings) -> object:
    return POINT.read(value, found)


def sentences(value: Value, point: Map = POINT) -> list[str]:
    found = Findings()
    try:
        point.read(value, found)
    except Fault as fault:
        found.add(*fault.problems)
    return [f"{problem.code}: {problem}" for problem in found.problems]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"x": 1}, []),
        ({}, ["missing: x is missing"]),
        ({"x": None}, ["missing: x is missing"]),
        ({"x": "ten"}, ["wrong-type: x: 'ten' is not an integer"]),
        ({"x": "7"}, ["wrong-type: x: '7' is not an integer; leave out the quotes"]),
        ({"x": -0.0}, ["wrong-type: x: -0.0 is not an integer"]),
        ({"x": True}, ["wrong-type: x: true is not an integer"]),
        ({"x": [1]}, ["wrong-type: x: a list is not an integer"]),
        ({"x": 10}, ["wrong-type: x: 10 is not between 0 and 9"]),
        ({"x": 1, "hostPath": 0}, ["wrong-type: hostPath: 0 is not true or false"]),
        (
            {"x": 1, "hostpth": True},
            ["unknown-field: unknown key 'hostpth'; did you mean 'hostPath'?"],
        ),
        (
            {"X": 1},
            ["key-case: X: the key is read as x; write it so"],
        ),
        ({"x": 1, "X": 2}, ["duplicate-key: x is given twice, as 'x' and 'X'"]),
        ({"X": 1, "x": 2}, ["duplicate-key: x is given twice, as 'x' and 'X'"]),
        (
            {"HOSTPATH": True, "HostPath": True, "x": 1},
            [
                "key-case: HOSTPATH: the key is read as hostPath; write it so",
                "duplicate-key: hostPath is given twice, as 'HOSTPATH' and 'HostPath'",
            ],
        ),
        (None, ["null-item: null where a map with x, hostPath is expected"]),
        ("x", ["wrong-type: 'x' is not a map with x, hostPath"]),
        ([1], ["wrong-type: a list is not a map with x, hostPath"]),
    ],
)
def test_each_fault_of_a_map_is_a_sentence(value: Value, expected: list[str]) -> None:
    assert sentences(value) == expected


def test_key_that_was_meant_is_not_missing_as_well() -> None:
    box = Map((Field("path", read_flag, required=True), Field("size", read_flag)))
    assert sentences({"pth": True}, box) == [
        "unknown-field: unknown key 'pth'; did you mean 'path'?"
    ]
    assert sentences({"zzz": True}, box) == [
        "unknown-field: unknown key 'zzz'; known: path, size",
        "missing: path is missing",
    ]


def test_values_have_the_names_of_their_record_and_none_where_they_are_wrong() -> None:
    found = Findings()
    assert POINT.read({"x": 10, "hostPath": True}, found) == {"x": None, "path": True}
    assert found.errors == 1


def test_other_keys_may_be_ignored() -> None:
    some = Map((Field("x", integer(0, 9)),), ignored=True)
    assert some.read({"x": 1, "y": 2}, Findings()) == {"x": 1}


def test_places_add_up_from_the_inside_out() -> None:
    found = Findings()
    points: Value = [{"x": 1}, {"x": 1, "X": 2}, {"x": "ten"}]
    found.read("points", lambda value: found.read_list(lambda v: read(v, found), value), points)
    assert [str(problem) for problem in found.problems] == [
        "points[1]: x is given twice, as 'x' and 'X'",
        "points[2].x: 'ten' is not an integer",
    ]
    assert Fault(*found.problems).sentences == (
        "points: item 2: x is given twice, as 'x' and 'X'",
        "points: item 3: x: 'ten' is not an integer",
    )
    with pytest.raises(Fault):
        found.check()


def test_reading_ends_when_there_are_faults_enough() -> None:
    found = Findings(most=3)
    found.read_list(read_flag, [0] * 10)
    assert found.errors == 3
    found = Findings(most=3)
    POINT.read({f"k{number}": 1 for number in range(10)}, found)
    assert found.errors == 3


def test_warning_is_no_fault() -> None:
    found = Findings()
    found.warn("odd", "is odd", "x")
    found.check()
    assert found.problems == [Problem("odd", ("x",), "is odd", warning=True)]


def test_fault_has_no_warnings() -> None:
    read_point = map_of((Field("x", integer(0, 9)), Field("y", integer(0, 9))))
    assert read_point({"X": 1}) == {"x": 1}
    with pytest.raises(Fault) as caught:
        read_point({"X": 1, "y": "ten"})
    assert caught.value.sentences == ("y: 'ten' is not an integer",)


def test_word_that_is_not_known_is_answered_with_all_and_the_nearest() -> None:
    assert not_one_of("warm", ("fail", "warn")) == (
        "'warm' must be one of fail, warn; did you mean 'warn'?"
    )
    assert not_one_of(3, ("fail", "warn")) == "3 must be one of fail, warn"


def test_place_is_written_as_in_a_program() -> None:
    assert dotted(("devices", 0, "a b", "c")) == "devices[0]['a b'].c"
    assert str(Problem("", ("a",), "is odd", line=2, column=3)) == "line 2, column 3: a: is odd"


def test_letters_are_compared_as_go_compares_them() -> None:
    assert folded("Hook\u017f") == "hooks"
    assert folded("\u212aIND") == "kind"
    assert folded("\u0130") == "\u0130"

"""Values become typed fields, or sentences with their places."""

from __future__ import annotations

from typing import Any

import pytest

from nri_inject.text.fields import (
    Fault,
    Field,
    Findings,
    Map,
    Problem,
    Reader,
    choice,
    dotted,
    folded,
    integer,
    list_of,
    map_of,
    not_one_of,
    read_flag,
    read_line,
    read_short_line,
    read_tabbed_line,
    read_text,
)
from nri_inject.text.words import plain, quoted
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
            ["key-case: X: the key is read as x; use that spelling"],
        ),
        ({"x": 1, "X": 2}, ["duplicate-key: x is set twice, as 'x' and 'X'"]),
        ({"X": 1, "x": 2}, ["duplicate-key: x is set twice, as 'x' and 'X'"]),
        (
            {"HOSTPATH": True, "HostPath": True, "x": 1},
            [
                "key-case: HOSTPATH: the key is read as hostPath; use that spelling",
                "duplicate-key: hostPath is set twice, as 'HOSTPATH' and 'HostPath'",
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
        "points[1]: x is set twice, as 'x' and 'X'",
        "points[2].x: 'ten' is not an integer",
    ]
    assert Fault(*found.problems).sentences == (
        "points: item 2: x is set twice, as 'x' and 'X'",
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


# --- texts, numbers, lists and maps as annotations have them -------------------------------------

COLOURS = {"COLOUR_RED": 1, "COLOUR_GREEN": 2}
BOX = map_of(
    (
        Field("path", read_text, required=True),
        Field("size", integer(0, 9)),
        Field("colours", list_of(choice(COLOURS))),
    )
)


def faults(read: Reader[Any], value: Value) -> list[str]:
    with pytest.raises(Fault) as caught:
        read(value)
    return list(caught.value.sentences)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("", ""),
        (256, "256"),
        (-1, "-1"),
        (2**64 - 1, "18446744073709551615"),
        (8.0, "8"),
        (1e3, "1000"),
        (-5.0, "-5"),
    ],
)
def test_whole_numbers_are_text_where_text_is_due(value: Value, text: str) -> None:
    assert read_text(value) == text


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (True, "true is a boolean, not text; put the value in quotes"),
        (False, "false is a boolean, not text; put the value in quotes"),
        (1.5, "1.5 is a fraction, not text; put the value in quotes"),
        (1e6, "1000000.0 is a number that is not written out, not text; put the value in quotes"),
        (-0.0, "-0.0 is a number that is not written out, not text; put the value in quotes"),
        (None, "null where text is expected"),
        (["a"], "a list is not text"),
        ({"a": "b"}, "a map is not text"),
        ("a\ud800", "'a\\ud800' is not Unicode text"),
    ],
)
def test_what_is_not_text(value: Value, sentence: str) -> None:
    assert faults(read_text, value) == [sentence]


ODD = [
    *("\0", "\x1b", "\n", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"),
    *("\u061c", "\u200b", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069", "\ufeff"),
]


@pytest.mark.parametrize("read", [read_line, read_short_line, read_tabbed_line])
@pytest.mark.parametrize("character", ODD, ids=ascii)
def test_a_line_has_no_control_characters(read: Reader[str], character: str) -> None:
    text = f"a{character}b"
    escaped = ascii(character)[1:-1]
    assert faults(read, text) == [f"'a{escaped}b' contains a control character"]
    assert quoted(text) == f"'a{escaped}b'"
    assert plain(text) == f"a{escaped}b"


def test_a_tab_is_a_control_character_but_where_it_is_due() -> None:
    assert faults(read_line, "a\tb") == ["'a\\tb' contains a control character"]
    assert read_tabbed_line("a\tb") == "a\tb"


def test_letters_of_all_scripts_are_no_control_characters() -> None:
    assert read_line("é 名前 \u200d") == "é 名前 \u200d"


@pytest.mark.parametrize("read", [read_short_line, read_tabbed_line])
def test_a_short_line_has_at_most_4096_bytes(read: Reader[str]) -> None:
    assert read("é" * 2048) == "é" * 2048
    assert faults(read, "é" * 2048 + "x") == ["'" + "é" * 77 + "...' is longer than 4096 bytes"]


@pytest.mark.parametrize(("value", "number"), [(0, 0), (9, 9), (9.0, 9), (4e0, 4)])
def test_whole_numbers_pass_in_any_form(value: Value, number: int) -> None:
    assert integer(0, 9)(value) == number


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("ten", "'ten' is not an integer"),
        ("10", "'10' is not an integer; leave out the quotes"),
        ("0o644", "'0o644' is not an integer; leave out the quotes"),
        (1.5, "1.5 is not an integer"),
        (-0.0, "-0.0 is not an integer"),
        (True, "true is not an integer"),
        (None, "null where an integer is expected"),
        ([1], "a list is not an integer"),
        (10, "10 is not between 0 and 9"),
        (-1, "-1 is not between 0 and 9"),
        (1e300, "1" + "0" * 300 + " is not between 0 and 9"),
    ],
)
def test_what_is_not_a_number_in_range(value: Value, sentence: str) -> None:
    assert faults(integer(0, 9), value) == [sentence]


def test_a_choice_takes_names_exactly() -> None:
    assert choice(COLOURS)("COLOUR_RED") == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "COLOUR_REDD",
            "'COLOUR_REDD' must be one of COLOUR_RED, COLOUR_GREEN; did you mean 'COLOUR_RED'?",
        ),
        (
            "colour_red",
            "'colour_red' must be one of COLOUR_RED, COLOUR_GREEN; did you mean 'COLOUR_RED'?",
        ),
        ("GREEN", "'GREEN' must be one of COLOUR_RED, COLOUR_GREEN; did you mean 'COLOUR_GREEN'?"),
        ("COLOUR_MAUVE", "'COLOUR_MAUVE' must be one of COLOUR_RED, COLOUR_GREEN"),
        ("", "'' must be one of COLOUR_RED, COLOUR_GREEN"),
        (2, "'2' must be one of COLOUR_RED, COLOUR_GREEN"),
        (None, "null where text is expected"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(name: Value, sentence: str) -> None:
    assert faults(choice(COLOURS), name) == [sentence]


def test_a_list_is_read_item_by_item() -> None:
    assert list_of(read_text)(["a", 1]) == ["a", "1"]
    assert list_of(read_text)([]) == []
    assert list_of(read_text)(None) == []


def test_a_list_tells_every_fault_with_the_number_of_its_item() -> None:
    assert faults(list_of(integer(0, 9)), [1, "a", 10]) == [
        "item 2: 'a' is not an integer",
        "item 3: 10 is not between 0 and 9",
    ]
    assert faults(list_of(read_text), ["a", None]) == ["item 2: null where text is expected"]
    assert faults(list_of(read_text), "a,b") == ["'a,b' is not a list"]
    assert faults(list_of(read_text), {}) == ["a map is not a list"]


def test_a_list_that_is_wrong_in_many_places_is_not_read_to_its_end() -> None:
    assert len(faults(list_of(read_text), [None] * 1000)) == 20
    assert len(faults(BOX, {f"k{number}": 1 for number in range(100_000)})) == 20


def test_a_list_has_at_most_1000_items() -> None:
    assert len(list_of(read_text)(["a"] * 1000)) == 1000
    assert faults(list_of(read_text), [None] * 1001) == ["1001 items, at most 1000 allowed"]


def test_a_map_has_the_fields_that_were_given() -> None:
    assert BOX({"path": "/a", "colours": ["COLOUR_RED"]}) == {"path": "/a", "colours": [1]}


def test_letter_case_of_keys_does_not_matter() -> None:
    assert BOX({"PATH": "/a", "Size": 3}) == {"path": "/a", "size": 3}


def test_null_counts_as_not_given() -> None:
    assert BOX({"path": "/a", "size": None, "colours": None}) == {"path": "/a"}


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ({}, ["path is missing"]),
        ({"path": None}, ["path is missing"]),
        ({"path": True}, ["path: true is a boolean, not text; put the value in quotes"]),
        ({"path": "a", "PATH": "b"}, ["path is set twice, as 'path' and 'PATH'"]),
        ({"path": "a", "siz": 1}, ["unknown key 'siz'; did you mean 'size'?"]),
        ({"pth": "a"}, ["unknown key 'pth'; did you mean 'path'?"]),
        ({"pth": "a", "path": None}, ["unknown key 'pth'; did you mean 'path'?"]),
        ({"x": 1}, ["unknown key 'x'; known: path, size, colours", "path is missing"]),
        ({"path": "a", "\u017fize": 10}, ["\u017fize: 10 is not between 0 and 9"]),
        ({"path": "a", "x": None}, ["unknown key 'x'; known: path, size, colours"]),
        (
            {"size": "ten", "colours": ["COLOUR_RED", "BLUE"]},
            [
                "size: 'ten' is not an integer",
                "colours: item 2: 'BLUE' must be one of COLOUR_RED, COLOUR_GREEN",
                "path is missing",
            ],
        ),
        (None, ["null where a map with path, size, colours is expected"]),
        (["path"], ["a list is not a map with path, size, colours"]),
        ("path", ["'path' is not a map with path, size, colours"]),
    ],
)
def test_a_map_tells_every_fault_with_its_key(value: Value, sentences: list[str]) -> None:
    assert faults(BOX, value) == sentences


def test_places_add_up_from_the_outside_in() -> None:
    assert faults(list_of(BOX), [{"path": "a"}, {"path": "a", "size": "ten"}]) == [
        "item 2: size: 'ten' is not an integer"
    ]

"""Finding an annotation, and reading values with every fault named."""

from typing import Any

import pytest

from nri_inject import api
from nri_inject.text.annotations import (
    Fault,
    Field,
    Reader,
    candidates,
    choice,
    container_name,
    find,
    integer,
    list_of,
    map_of,
    nearest,
    plain,
    quoted,
    read_line,
    read_short_line,
    read_tabbed_line,
    read_text,
    where,
)
from nri_inject.text.yamltext import Value

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


KEYS = ("new/container.c", "old/container.c", "new/pod", "old/pod", "new", "old")


def test_the_most_specific_key_comes_first_and_the_old_prefix_after_the_new() -> None:
    assert candidates("new", "old", "c") == KEYS


def test_without_an_old_prefix_there_are_three_keys() -> None:
    assert candidates("new", "", "c") == ("new/container.c", "new/pod", "new")


@pytest.mark.parametrize("first", range(len(KEYS)))
def test_the_first_key_that_exists_counts_even_if_it_is_empty(first: int) -> None:
    annotations = {key: key for key in KEYS[first:]} | {KEYS[first]: ""}
    assert find(annotations, "new", "old", "c") == (KEYS[first], "")


def test_keys_of_other_containers_are_not_found() -> None:
    assert find({"new/container.d": "x", "new/Pod": "x"}, "new", "old", "c") is None


def test_an_empty_name_has_the_key_that_ends_in_a_dot() -> None:
    assert find({"new/container.": "x"}, "new", "old", "") == ("new/container.", "x")


def test_the_name_of_a_container_is_its_own_or_that_of_its_label() -> None:
    label = {"io.kubernetes.container.name": "label"}
    assert container_name(api.Container(name="own", labels=label)) == "own"
    assert container_name(api.Container(labels=label)) == "label"
    assert container_name(api.Container()) == ""


def test_a_container_is_named_with_its_pod_and_without_control_characters() -> None:
    pod = api.Pod(name="p\n", namespace="ns")
    assert where(pod, api.Container(name="c")) == "pod ns/p\\n, container c"


def test_long_or_odd_text_is_cut_and_escaped_in_sentences() -> None:
    assert quoted("a\tb\x1b") == "'a\\tb\\x1b'"
    assert quoted("x" * 81) == "'" + "x" * 77 + "...'"
    assert plain("new/pod") == "new/pod"
    assert len(plain("x" * 1000)) == 320


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
        (None, "nothing instead of text"),
        (["a"], "a list instead of text"),
        ({"a": "b"}, "a map instead of text"),
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
    assert faults(read, text) == [f"'a{escaped}b' has a control character"]
    assert quoted(text) == f"'a{escaped}b'"
    assert plain(text) == f"a{escaped}b"


def test_a_tab_is_a_control_character_but_where_it_is_due() -> None:
    assert faults(read_line, "a\tb") == ["'a\\tb' has a control character"]
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
        (None, "nothing is not an integer"),
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
        ("COLOUR_REDD", "'COLOUR_REDD' is unknown; did you mean COLOUR_RED?"),
        ("colour_red", "'colour_red' is unknown; did you mean COLOUR_RED?"),
        ("GREEN", "'GREEN' is unknown; did you mean COLOUR_GREEN?"),
        ("COLOUR_MAUVE", "'COLOUR_MAUVE' is unknown; known: COLOUR_RED, COLOUR_GREEN"),
        ("", "'' is unknown; known: COLOUR_RED, COLOUR_GREEN"),
        (2, "'2' is unknown; known: COLOUR_RED, COLOUR_GREEN"),
        (None, "nothing instead of text"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(name: Value, sentence: str) -> None:
    assert faults(choice(COLOURS), name) == [sentence]


def test_what_all_names_begin_with_does_not_make_them_alike() -> None:
    assert nearest("RLIMIT_FOO", ("RLIMIT_CORE", "RLIMIT_CPU")) is None
    assert nearest("majr", ("path", "major")) == "major"


def test_a_list_is_read_item_by_item() -> None:
    assert list_of(read_text)(["a", 1]) == ["a", "1"]
    assert list_of(read_text)([]) == []
    assert list_of(read_text)(None) == []


def test_a_list_tells_every_fault_with_the_number_of_its_item() -> None:
    assert faults(list_of(integer(0, 9)), [1, "a", 10]) == [
        "item 2: 'a' is not an integer",
        "item 3: 10 is not between 0 and 9",
    ]
    assert faults(list_of(read_text), ["a", None]) == ["item 2: nothing instead of text"]
    assert faults(list_of(read_text), "a,b") == ["'a,b' instead of a list"]
    assert faults(list_of(read_text), {}) == ["a map instead of a list"]


def test_a_list_that_is_wrong_in_many_places_is_not_read_to_its_end() -> None:
    assert len(faults(list_of(read_text), [None] * 1000)) == 20
    assert len(faults(BOX, {f"k{number}": 1 for number in range(100_000)})) == 21


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
        ({"path": "a", "PATH": "b"}, ["path is given twice, as 'path' and 'PATH'"]),
        ({"path": "a", "siz": 1}, ["unknown key 'siz'; did you mean size?"]),
        ({"pth": "a"}, ["unknown key 'pth'; did you mean path?"]),
        ({"pth": "a", "path": None}, ["unknown key 'pth'; did you mean path?"]),
        ({"x": 1}, ["unknown key 'x'; known: path, size, colours", "path is missing"]),
        ({"path": "a", "\u017fize": 1}, ["unknown key '\u017fize'; did you mean size?"]),
        ({"path": "a", "x": None}, ["unknown key 'x'; known: path, size, colours"]),
        (
            {"size": "ten", "colours": ["COLOUR_RED", "BLUE"]},
            [
                "size: 'ten' is not an integer",
                "colours: item 2: 'BLUE' is unknown; known: COLOUR_RED, COLOUR_GREEN",
                "path is missing",
            ],
        ),
        (None, ["nothing instead of a map with path, size, colours"]),
        (["path"], ["a list instead of a map with path, size, colours"]),
        ("path", ["'path' instead of a map with path, size, colours"]),
    ],
)
def test_a_map_tells_every_fault_with_its_key(value: Value, sentences: list[str]) -> None:
    assert faults(BOX, value) == sentences


def test_places_add_up_from_the_outside_in() -> None:
    assert faults(list_of(BOX), [{"path": "a"}, {"path": "a", "size": "ten"}]) == [
        "item 2: size: 'ten' is not an integer"
    ]

"""JSON texts and their values, as Go's encoding/json reads them, or their faults."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.text.jsontext import Malformed, Object, load_members


def malformed(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        load_members(data)
    return str(caught.value)


def test_value_keeps_every_member() -> None:
    assert load_members(b' {"a": [1, "b"], "a": null, "A": {}} ') == Object(
        (("a", [1, "b"]), ("a", None), ("A", Object()))
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-0", 0),
        ("7.0", 7.0),
        ("1e1", 10.0),
        (str(2**64), 2**64),
        ("9" * 30, 10**30 - 1),
        ("9" * 31, float("9" * 31)),
        ("-" + "9" * 10_000, -math.inf),
    ],
)
def test_number_is_whole_only_if_it_is_written_so(text: str, value: float) -> None:
    found = load_members(text.encode())
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'"a\xffb\xe2\x82"', "a\ufffdb\ufffd\ufffd"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\uD83D\\uDE00"', "\U0001f600"),
        (b'"\\ud83dx"', "\ufffdx"),
        (b'"\\ude00\\ud83d\\ud83d\\ude00"', "\ufffd\ufffd\U0001f600"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'"\\ud83d\xff"', "\ufffd\ufffd"),
        (b'"\\/\\b\\f\\n\\r\\t\\"\\\\"', '/\b\f\n\r\t"\\'),
        (b'"\x7f\xed\xa0\x80"', "\x7f\ufffd\ufffd\ufffd"),
    ],
)
def test_bad_text_becomes_replacement_characters_as_in_go(data: bytes, text: str) -> None:
    assert load_members(data) == text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "line 1, column 1: not JSON: expecting value"),
        (b'{"a": 1', "line 1, column 8: not JSON: expecting ',' delimiter"),
        (b"[1] x", "line 1, column 5: not JSON: extra data"),
        (b"[01]", "line 1, column 3: not JSON: expecting ',' delimiter"),
        (b'"\\ud83d\t"', "line 1, column 8: not JSON: invalid control character"),
        (b'{\n"a": \\x}', "line 2, column 6: not JSON: expecting value"),
        (b'[\n "a]', "line 2, column 2: not JSON: unterminated string"),
        (b"\xef\xbb\xbf{}", "line 1, column 1: not JSON: expecting value"),
        (b"[NaN]", "not JSON: NaN is not a value"),
        (b"-Infinity", "not JSON: -Infinity is not a value"),
    ],
)
def test_malformed_text_is_reported_with_its_place(data: bytes, sentence: str) -> None:
    assert malformed(data) == sentence


@pytest.mark.parametrize("data", [b"{'a': 1}", b'{"a": 1,}', b"[1,]", b'"\\q"', b'"a', b"// a\n1"])
def test_text_that_go_refuses_is_refused(data: bytes) -> None:
    assert "not JSON: " in malformed(data)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_without_end_is_a_fault(opening: bytes) -> None:
    assert malformed(opening * 500_000) == "too many levels of lists and objects"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_python_writes_is_read_back(value: Any) -> None:
    def plain(read_value: Any) -> Any:
        match read_value:
            case Object(members):
                return {key: plain(item) for key, item in members}
            case list():
                return [plain(item) for item in read_value]
        return read_value

    assert plain(load_members(json.dumps(value).encode())) == value

"""Header blocks: the examples of RFC 7541, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.errors import ProtocolError
from nri_inject.wire import hpack

EXAMPLES = {
    "C.2.1": (
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        [("custom-key", "custom-header")],
    ),
    "C.2.2": ("040c 2f73 616d 706c 652f 7061 7468", [("", "/sample/path")]),
    "C.2.3": ("1008 7061 7373 776f 7264 0673 6563 7265 74", [("password", "secret")]),
    "C.2.4": ("82", [("", "")]),
    "C.4.1": (
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        [("", ""), ("", ""), ("", ""), ("", "www.example.com")],
    ),
    "C.4.3": (
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        [("", ""), ("", ""), ("", ""), ("", ""), ("custom-key", "custom-value")],
    ),
    "C.6.1, its date": (
        "6196 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
        [("", "Mon, 21 Oct 2013 20:13:21 GMT")],
    ),
    "a new size of the table": ("20 3fe11f 82", [("", "")]),
}


@pytest.mark.parametrize(("block", "fields"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_of_the_standard_is_read(block: str, fields: list[tuple[str, str]]) -> None:
    assert list(hpack.decode(bytes.fromhex(block))) == fields


def test_a_field_is_written_as_a_literal_that_is_not_indexed() -> None:
    assert hpack.encode([("te", "trailers")]) == b"\0\2te\x08trailers"


@given(st.lists(st.tuples(st.text("abcdefghij-:", min_size=1), st.text("\x20~é", max_size=400))))
def test_what_is_written_is_read(fields: list[tuple[str, str]]) -> None:
    assert list(hpack.decode(hpack.encode(fields))) == fields


FAULTS = {
    "a text that is cut": ("00 02 74", "a header block ends within a text"),
    "a field that is cut": ("00", "a header block ends within a field"),
    "a number that is cut": ("ff 80", "a header block ends within a field"),
    "a large number": ("ff 8080 8080 8001", "a number in a header block is too large"),
    "a length of gigabytes": ("00 7f ffffff7f", "a header block ends within a text"),
    "padding of zeros": ("00 81 18 00", "a text of a header block ends within a code"),
    "padding of more than 7 bits": ("00 82 1fff 00", "a text of a header block ends within a code"),
    "the code for the end": (
        "00 84 ffffffff 00",
        "a text of a header block has a code that stands for no byte",
    ),
}


@pytest.mark.parametrize(("block", "sentence"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_block_is_an_error(block: str, sentence: str) -> None:
    with pytest.raises(ProtocolError) as error:
        list(hpack.decode(bytes.fromhex(block)))
    assert str(error.value) == sentence


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_fields_or_an_error(block: bytes) -> None:
    try:
        for name, value in hpack.decode(block):
            assert len(name) + len(value) <= 8 * len(block)
    except ProtocolError:
        pass

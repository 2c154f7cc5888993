"""A recording's lines, by value: what they say, and what is wrong with those that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.errors import ProtocolError
from nri_inject.wire.recording import Record, decode, encode
from nri_inject.wire.session import Role

RECORDS = st.builds(
    Record,
    st.floats(0, 1e9).map(lambda seconds: round(seconds, 6)),
    st.sampled_from(Role),
    st.binary(),
)


@given(RECORDS)
def test_what_was_written_is_read_again(record: Record) -> None:
    line = encode(record)
    assert "\n" not in line
    assert decode(line) == record
    assert decode(line.encode() + b"\n") == record


@given(st.binary() | st.text())
def test_any_line_is_a_record_or_a_protocol_error(line: bytes | str) -> None:
    try:
        decode(line)
    except ProtocolError:
        return
    raise AssertionError("no three keys come about by chance")


def test_a_line_is_as_documented() -> None:
    record = Record(0.0042171, Role.RUNTIME, bytes.fromhex("000000020000000a00000000000000010200"))
    line = '{"seconds": 0.004217, "from": "runtime", "bytes": "AAAAAgAAAAoAAAAAAAAAAQIA"}'
    assert encode(record) == line


def test_no_bytes_are_the_end_of_a_connection_and_unknown_keys_are_ignored() -> None:
    line = '{"seconds": 1, "from": "plugin", "bytes": "", "more": [1]}'
    assert decode(line) == Record(1.0, Role.PLUGIN, b"")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "an object with seconds, from, bytes expected"),
        ("{}", "seconds: None is not a number from 0 on"),
        ('{"seconds": true}', "seconds: True is not a number from 0 on"),
        ('{"seconds": -1}', "seconds: -1 is not a number from 0 on"),
        ('{"seconds": NaN}', "seconds: nan is not a number from 0 on"),
        ('{"seconds": 1}', "from: None is neither runtime nor plugin"),
        ('{"seconds": 1, "from": "me"}', "from: 'me' is neither runtime nor plugin"),
        ('{"seconds": 1, "from": "plugin"}', "bytes: None is not base64 text"),
        (
            '{"seconds": 1, "from": "plugin", "bytes": "!"}',
            "bytes: not base64: Only base64 data is allowed",
        ),
        (
            '{"seconds": 1, "from": "plugin", "bytes": "é"}',
            "bytes: not base64: string argument should contain only ASCII characters",
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: str, sentence: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(line)
    assert str(caught.value) == f"recording: {sentence}"

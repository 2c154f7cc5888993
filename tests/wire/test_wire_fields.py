"""How many fields a message has, counted without making anything of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject import api
from nri_inject.wire.fields import MAX_FIELDS, has_too_many_fields


@pytest.mark.parametrize(
    ("field", "says"),
    [
        pytest.param(b"\x12\x00", True, id="empty messages"),
        pytest.param(b"\x12\x02\x60\x01", True, id="short messages"),
        pytest.param(b"\x18\x96\x01", True, id="numbers"),
        pytest.param(b"\x21\0\0\0\0\0\0\0\0", True, id="numbers of 8 bytes"),
        pytest.param(b"\x25\0\0\0\0", True, id="numbers of 4 bytes"),
        pytest.param(b"\x1b\x1c", True, id="groups"),
        pytest.param(b"\x16\x00", False, id="no message"),
    ],
)
def test_more_fields_than_the_bound_are_too_many(field: bytes, says: bool) -> None:
    assert has_too_many_fields(field * (MAX_FIELDS + 1)) is says
    assert has_too_many_fields(field * (MAX_FIELDS // 2)) is False


def test_what_is_within_a_field_does_not_count() -> None:
    request = api.SynchronizeRequest(containers=[api.Container(args=[""] * (MAX_FIELDS + 1))])
    assert has_too_many_fields(request.SerializeToString()) is False


def test_a_number_that_never_ends_takes_no_time() -> None:
    assert has_too_many_fields(b"\xff" * (4 << 20)) is False
    assert has_too_many_fields(b"\x12" + b"\xff" * (4 << 20)) is False


@given(st.binary())
def test_arbitrary_bytes_have_few_fields_or_are_left_to_the_parser(data: bytes) -> None:
    assert has_too_many_fields(data) is False

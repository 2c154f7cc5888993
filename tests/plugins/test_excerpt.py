"""Which fields of a message are too large to be reported."""

from __future__ import annotations

from nri_inject import api
from nri_inject.plugins.excerpt import MAX_BYTES, large_fields, without


def test_a_message_of_32_kilobytes_is_reported_whole() -> None:
    message = api.Container(env=["x" * 16] * 1000)
    assert message.ByteSize() < MAX_BYTES
    assert large_fields(message) == []
    assert without(message, []) is message


def test_the_largest_fields_are_left_out_until_the_rest_fits() -> None:
    message = api.Container(
        id="c1",
        name="n" * 9000,
        args=["a" * 10_000],
        env=["e" * 20_000],
        labels={"l": "v" * 30_000},
        linux=api.LinuxContainer(sysctl={"s": "1"}),
    )
    assert large_fields(message) == ["env", "labels"]
    rest = without(message, large_fields(message))
    assert rest.ByteSize() < MAX_BYTES
    assert (rest.id, rest.args, rest.linux) == ("c1", message.args, message.linux)
    assert not rest.env
    assert not rest.labels


def test_a_field_of_many_entries_is_large_beside_others() -> None:
    message = api.Container(args=["x"] * 1001, name="n" * MAX_BYTES)
    assert large_fields(message) == ["args", "name"]
    assert large_fields(api.Container(args=["x"] * 1001)) == []

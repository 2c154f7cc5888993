"""Records within a bound of bytes: which are kept, and which are left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nri_inject.service.health.records import OVERHEAD, Records


def test_a_record_is_kept_until_it_is_taken() -> None:
    records = Records(10_000)
    records.put("a", b"1")
    records.put("b", b"2")
    records.put("a", b"3")
    assert (records.get("a"), records.get("c"), len(records)) == (b"3", None, 2)
    assert (records.pop_first(), records.pop_first(), records.pop_first()) == (b"2", b"3", None)
    assert records.left_out == 0


def test_the_longest_are_left_out_first() -> None:
    records = Records(3 * OVERHEAD)
    records.put("short", b"x")
    records.put("longest", b"x" * 3 * OVERHEAD)
    records.put("long", b"x" * OVERHEAD)
    records.put("another", b"x")
    assert [records.get(key) for key in ("short", "longest", "long", "another")] == [
        *(b"x", None, None, b"x")
    ]
    assert records.left_out == 2


def test_a_record_that_was_put_anew_is_not_taken_for_the_one_before() -> None:
    records = Records(4 * OVERHEAD)
    records.put("a", b"x" * OVERHEAD)
    records.put("a", b"x")
    records.put("b", b"x" * 4 * OVERHEAD)
    assert (records.get("a"), records.get("b"), records.left_out) == (b"x", None, 1)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=2000))),
    st.integers(0, 10_000),
)
def test_they_never_take_more_than_the_bound(puts: list[tuple[str, bytes]], most: int) -> None:
    records = Records(most)
    for key, record in puts:
        records.put(key, record)
        kept = [value for name in "abcdefgh" if (value := records.get(name)) is not None]
        assert sum(len(value) + 1 + OVERHEAD for value in kept) <= most
        if 1 + len(record) + OVERHEAD > most:
            assert records.get(key) is None

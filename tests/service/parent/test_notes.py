"""Notes that the next worker reads, wherever the one before was killed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.service.health import notes as module
from nri_inject.service.health.notes import Notes

keys = st.sampled_from(["a/1", "a/2", "b/1"])
changes = st.lists(st.tuples(keys, st.one_of(st.none(), st.binary(max_size=20))), max_size=30)


def apply(notes: Notes, key: str, value: bytes | None) -> None:
    if value is None:
        notes.drop(key)
    else:
        notes.put(key, value)


def after(notes: Notes) -> dict[str, bytes]:
    """Return what the next worker reads."""
    notes.inherit()
    return dict(notes.items(""))


@given(changes)
def test_the_next_worker_reads_what_was_noted_last(made: list[tuple[str, bytes | None]]) -> None:
    notes, expected = Notes(), {}
    for key, value in made:
        apply(notes, key, value)
        expected[key] = value
    assert after(notes) == {key: value for key, value in expected.items() if value is not None}


@given(changes, st.integers(0, 2000))
def test_a_note_that_was_written_in_part_is_left_out(
    made: list[tuple[str, bytes | None]], cut: int
) -> None:
    notes = Notes()
    states: list[dict[str, bytes]] = [{}]
    for key, value in made:
        apply(notes, key, value)
        states.append(dict(notes.items("")))
    os.ftruncate(notes._file, min(cut, os.fstat(notes._file).st_size))
    assert after(notes) in states


def test_notes_that_change_often_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GARBAGE", 1000)
    notes = Notes()
    notes.put("b", b"stays")
    for number in range(1000):
        notes.put("a", b"%d" % number)
    assert all(os.fstat(file).st_size < 1200 for file in notes._files)
    assert after(notes) == {"a": b"999", "b": b"stays"}


def test_a_worker_that_was_killed_while_it_moved_the_notes_loses_none() -> None:
    notes = Notes()
    notes.put("a", b"1")
    other = next(file for file in notes._files if file != notes._file)
    os.pwrite(other, bytes(8) + b"half of it", 0)
    assert after(notes) == {"a": b"1"}


def test_what_is_too_much_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    notes = Notes()
    notes.put("a", b"12345678")
    notes.put("b", b"12345678")
    notes.drop("a")
    notes.put("c", b"12345678")
    assert after(notes) == {"c": b"12345678"}


def test_notes_with_a_prefix_are_cleared_alone() -> None:
    notes = Notes()
    for key in ("a/1", "a/2", "b"):
        notes.put(key, b"x")
    notes.clear("a/")
    assert after(notes) == {"b": b"x"}

"""Texts of others in sentences, and the known names that they may mean."""

from __future__ import annotations

import pytest

from nri_inject.text.words import excerpt, listed, meant, plain, quoted, suggestion


def test_text_of_others_is_cut_and_escaped() -> None:
    assert quoted("a\tb\x1b") == "'a\\tb\\x1b'"
    assert quoted("x" * 80) == f"'{'x' * 80}'"
    assert quoted("x" * 81) == f"'{'x' * 77}...'"
    assert plain("new/pod\n") == "new/pod\\n"
    assert len(plain("x" * 1000)) == 320
    assert excerpt("abcdef", 5) == "ab..."


def test_list_of_names_is_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([f"n{number}" for number in range(23)], 2) == "n0, n1 and 21 more"


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("majr", ("path", "major"), "major"),
        ("MAJOR", ("path", "major"), "major"),
        ("other", ("path", "major"), None),
        ("FIFO", ("SCHED_FIFO", "SCHED_RR"), "SCHED_FIFO"),
        ("SCHED_FOO", ("SCHED_BATCH", "SCHED_RR"), None),
        ("major" * 17, ("major" * 17,), None),
        ("major", (), None),
    ],
)
def test_known_name_that_looks_alike(name: str, known: tuple[str, ...], found: str | None) -> None:
    assert meant(name, known) == found


def test_suggestion_names_the_nearest_name_or_all() -> None:
    assert suggestion("majr", ("path", "major")) == "did you mean 'major'?"
    assert suggestion("x", ("path", "major")) == "known: path, major"

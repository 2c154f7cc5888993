"""Paths as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.text.paths import above, clean, is_below


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/a/b", "/a/b"),
        ("/", "/"),
        ("", "/"),
        ("//a///b/", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../a", "/a"),
        ("/a/b/..", "/a"),
        ("a/b", "/a/b"),
        ("/a/.b/..c", "/a/.b/..c"),
    ],
)
def test_each_place_has_one_form(path: str, form: str) -> None:
    assert clean(path) == form


@given(st.text("a./", max_size=8))
def test_the_form_is_its_own_form(path: str) -> None:
    form = clean(path)
    assert clean(form) == form
    assert form.startswith("/")
    assert not {"", ".", ".."} & {*form[1:].split("/")} or form == "/"


def test_everything_above_a_path_ends_at_the_root() -> None:
    assert [*above("/a/b")] == ["/a/b", "/a", "/"]
    assert [*above("/")] == ["/"]


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/x", "/", True)],
)
def test_path_is_below_a_directory(path: str, directory: str, expected: bool) -> None:
    assert is_below(path, directory) is expected

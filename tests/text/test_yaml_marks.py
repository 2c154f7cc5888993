"""Marks say on which line and column a value begins."""

from __future__ import annotations

import pytest

from nri_inject.text import yamltext
from nri_inject.text.yamltext import Marks


def test_marks_tell_where_values_stand() -> None:
    value, marks = yamltext.load_marked("- path: /dev/a\n  opts: [x,\n    z]\n-\n  path: z\n")
    assert value == [{"path": "/dev/a", "opts": ["x", "z"]}, {"path": "z"}]
    assert dict(marks) == {
        (): (1, 1),
        (0,): (1, 3),
        (0, "path"): (1, 9),
        (0, "opts"): (2, 9),
        (0, "opts", 0): (2, 10),
        (0, "opts", 1): (3, 5),
        (1,): (5, 3),
        (1, "path"): (5, 9),
    }
    assert len(marks) == 8


def test_marks_of_aliases_and_merged_keys() -> None:
    """What an alias or a merge key stands for has the place of its anchor."""
    text = "a: &x {b: [1]}\nc: *x\nd:\n  <<: [*x]\n  e: 2\n"
    value, marks = yamltext.load_marked(text)
    assert value == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"e": 2, "b": [1]}}
    assert marks["c",] == marks["a",] == (1, 4)
    assert marks["c", "b", 0] == marks["a", "b", 0] == marks["d", "b", 0] == (1, 12)
    assert marks["d", "e"] == (5, 6)


@pytest.mark.parametrize("path", [("b",), (0,), ("a", 2), ("a", -1), ("a", "x"), ("a", 0, 0)])
def test_marks_of_what_is_not_there(path: yamltext.Path) -> None:
    _, marks = yamltext.load_marked("a: [1, 2]")
    assert path not in marks
    assert marks.get(path) is None


def test_marks_of_nothing() -> None:
    value, marks = yamltext.load_marked("")
    assert value is None
    assert dict(marks) == {}
    assert dict(Marks(None)) == {}

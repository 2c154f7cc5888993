"""The quick reader of plain YAML gives what the careful one gives, or gives up."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nri_inject import yamltext
from nri_inject.cdi import quickyaml
from nri_inject.yamltext import Value

SHIPPED = Path(__file__).parents[2] / "cdi_specs"

PIECES = (
    *("a: b", "a:", "b:", "c: 1", "- x", "- a: 1", "- b:", "-", "- - a", "a: 'q'", 'a: "d e"'),
    *("- 'z'", "# c", "", "---", "...", "y: n", "on: off", "a: yes", "b: 0x1F", "c: 0.5.0"),
    *("d: a:b", "- a:b", "- 0000:01:00.0", "- a: b", "x", "  ", "a: b # c", "a: [1]", "a: |"),
    *("a: []", "b: {}", "- []", "c: [ ]", "a: {} # c", "b: []x"),
    *("d: 1_000", "e: 5e2", "f: ~", "- ~", "k: &x a", "j: *x", "<<: a", "a : b", "a:b"),
    *("- a:b: c", "1: 2", "e: 007", "g: A=b,c", "h: -1", "i: .5", "m: a-", "o: a:", "q: 1."),
    *("p: 'it''s'", "r: 12e", "- null", "null: 1", "s: 99999999999999999999", 't: "\\n"'),
)
LINES = st.tuples(st.integers(0, 4), st.sampled_from(PIECES)).map(lambda two: " " * two[0] + two[1])
TEXTS = st.lists(LINES, max_size=8).map("\n".join)


def quick(text: str) -> tuple[Value] | None:
    try:
        return (quickyaml.load(text),)
    except quickyaml.NotPlain:
        return None


@given(TEXTS)
@example("a:\n- b: 1\n  c:\n  - d\ne: f\n")
@example("a:\n  - b:\n    c: 1\n  - d\n")
@example("a: []\nb:\n- c: {}\n")
@example("a: []\n- b\n")
@example("---\na:\n# c\n\n  b: 1")
def test_what_is_read_quickly_means_the_same(text: str) -> None:
    found = quick(text)
    if found is not None:
        assert repr(found[0]) == repr(yamltext.load(text, yamltext.SPEC_FILE))


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda file: file.name)
def test_specs_as_people_write_them_are_read_quickly(file: Path) -> None:
    text = file.read_text()
    found = quick(text)
    assert found == (yamltext.load(text, yamltext.SPEC_FILE),)


@pytest.mark.parametrize(
    "text",
    [
        "a: b\n  c\n",
        "a: b\n  c: d\n",
        "- a\n",
        "a: b\na: c\n",
        "a: b # comment\n",
        "a: b\n---\na: b\n",
        "a: {b: c}\n",
        "a: |\n  b\n",
        "y: b\n",
        "a:\n   b: 1\n  c: 2\n",
        "a:\n\tb: 1\n",
        "",
        "# nothing\n",
        "a: b\n" * (1 << 19),
    ],
    ids=range(14),
)
def test_anything_else_is_left_to_the_careful_reader(text: str) -> None:
    assert quick(text) is None

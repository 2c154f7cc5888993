"""Hostile YAML ends in a value or a short sentence."""

from __future__ import annotations

import pytest
from support.yamlwords import refusal

from nri_inject.text import yamltext
from nri_inject.text.yamltext import ANNOTATION, TextLimits


def nest(levels: int) -> str:
    """Make a chain of anchors, each of which holds the one before nine times."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    """Make the same with merge keys."""
    lines = ["a0: &a0 {k0: 1}"]
    lines += [
        f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, levels)
    ]
    return "\n".join(lines)


WIDE = f"a: &a [{'x,' * 1000}]\n"
WIDE_MAP = f"a: &a {{{','.join(f'k{n}: 1' for n in range(1000))}}}\n"
CHAIN = "a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
SIZE = ANNOTATION.size
LONG = "x" * 100_000
VALUES_OF_V = "".join(f"b{n}: *v\n" for n in range(10_000))
TOO_MUCH_TEXT = "more than 1048576 characters, aliases followed"

# Texts made to take time or memory, and a word of the refusal; "" where there is nothing to refuse.
HOSTILE: dict[str, tuple[str, str]] = {
    "lists": ("[" * SIZE, "deep"),
    "lists over lines": ("[\n" * (SIZE // 2), "deep"),
    # PyYAML 6.0.4 has a limit of its own, those before it tell what comes first.
    "maps": ("{" * SIZE, "cannot be a key or too deep"),
    "map values": ("{a: " * (SIZE // 4), "deep"),
    "block lists on a line": ("- " * (SIZE // 2), "deep"),
    "complex keys": ("? " * (SIZE // 2), "cannot be a key"),
    "anchors": ("&a" * (SIZE // 2), "did not find"),
    "anchors apart": ("&a " * (SIZE // 3), "did not find"),
    "indentation": ("\n".join(" " * n + "a:" for n in range(700)), "deep"),
    "keys on one line": ("a: " * (SIZE // 3), "not allowed"),
    "colons": (":" * SIZE, "not allowed"),
    "empty documents": ("---\n" * (SIZE // 4), "second document"),
    "long text": ("a" * SIZE, ""),
    "long quoted text": ('"' + "\\n" * (SIZE // 2 - 1) + '"', ""),
    "open quote": ('"' + "a" * (SIZE - 1), "unexpected end"),
    "digits": ("1" * SIZE, "out of range"),
    "zeros": ("0" * SIZE, ""),
    "hexadecimal": ("0x" + "f" * (SIZE - 2), "out of range"),
    "fraction": ("0." + "1" * (SIZE - 2), ""),
    "exponent": ("1e" + "9" * (SIZE - 2), "out of range"),
    "number with a tail": ("1" * (SIZE - 1) + "x", ""),
    "underscores": ("1" + "_" * (SIZE - 1), ""),
    "many keys": ("".join(f"k{n}:\n" for n in range(19_999)), ""),
    "duplicate at the end": ("".join(f"k{n}:\n" for n in range(9000)) + "k0:\n", "duplicate key"),
    "many values": ("[" + "[]," * (SIZE // 3 - 1) + "]", "more than 20000 values"),
    "alias bomb": (nest(20), "more than 20000 values"),
    "merge bomb": (merges(20), "more than 20000 values"),
    "one wide anchor": (f"{WIDE}b: [{'*a,' * 1000}]", "more than 20000 values"),
    "one wide map": (f"{WIDE_MAP}b: [{'{<<: *a},' * 1000}]", "more than 20000 values"),
    "merges in one map": (WIDE_MAP + "b:\n" + "  <<: *a\n" * 1000, "'<<' appears twice"),
    "aliases of a long text": (f"a: &v {LONG}\n" + VALUES_OF_V, TOO_MUCH_TEXT),
    "aliases of a long text in a list": (f"- &v [{LONG}]\n" + "- *v\n" * 1000, TOO_MUCH_TEXT),
    "aliases of a long key": (f"- &v {LONG}\n" + "- {*v : 1}\n" * 1000, TOO_MUCH_TEXT),
    "aliases of a map with a long key": (
        f"- &v {{? {LONG} : 1}}\n" + "- *v\n" * 1000,
        TOO_MUCH_TEXT,
    ),
    "merges of a long text": (f"- &v {{a: {LONG}}}\n" + "- {<<: *v}\n" * 1000, TOO_MUCH_TEXT),
    "a chain of long texts": (
        f"a0: &a0 [{LONG}]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 20)),
        TOO_MUCH_TEXT,
    ),
    "depth by aliases": (CHAIN, "deep"),
    "line breaks": ("\n" * SIZE, ""),
    "long anchor": ("&" + "a" * (SIZE - 3) + " x", ""),
    "long tag": ("!" + "a" * (SIZE - 3) + " x", "tags are not allowed"),
}


@pytest.mark.parametrize(("text", "word"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_ends_in_a_value_or_a_short_sentence(text: str, word: str) -> None:
    if word:
        sentence = refusal(text)
        assert any(each in sentence for each in word.split(" or "))
        assert len(sentence) < 300
    else:
        yamltext.load(text)


def test_aliases_may_stand_for_so_many_characters_and_no_more() -> None:
    limits = TextLimits(size=100, depth=9, nodes=99, expanded=30)
    assert yamltext.load("[&a 0123456789, *a, *a]", limits) == [123456789] * 3
    assert refusal("[&a 0123456789, *a, *a, b]", limits) == (
        "line 1, column 25: more than 30 characters, aliases followed"
    )
    assert yamltext.load("{a: &a {k: 0123456789}, b: *a}", limits)
    assert refusal("{a: &a {k: 0123456789}, b: *a, ccc: *a}", limits) == (
        "line 1, column 37: more than 30 characters, aliases followed"
    )

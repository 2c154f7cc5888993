"""Patterns of names: what they stand for, and that no name makes them slow."""

from __future__ import annotations

import re._constants as opcodes  # type: ignore[import-not-found, unused-ignore]  # as `sre`
import re._parser as sre  # type: ignore[import-not-found, unused-ignore]  # not in typeshed
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from nri_inject.text.fields import Fault
from nri_inject.text.glob import _translated, literally, pattern


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("/dev/fuse", ["/dev/fuse"], ["/dev/fuse2", "/dev/fuse\n", "/dev/FUSE", "x/dev/fuse"]),
        ("/dev/tty*", ["/dev/tty", "/dev/ttyUSB0"], ["/dev/tty/x", "/dev/ptty"]),
        ("/dev/*", ["/dev/", "/dev/x"], ["/dev", "/dev/snd/timer", "/dev/x/"]),
        ("/dev/**", ["/dev/", "/dev/x", "/dev/a/b"], ["/dev", "/devices"]),
        ("**", ["", "a", "/a/b\n"], []),
        ("*", ["", "a", "a.b\n"], ["/", "a/b"]),
        ("team-?", ["team-a", "team-é"], ["team-", "team-ab", "team-/"]),
        ("sd[a-c]", ["sda", "sdc"], ["sdd", "sd", "sd-"]),
        ("sd[!a-c]", ["sdd", "sd-"], ["sda", "sd/", "sd"]),
        ("[]]", ["]"], ["["]),
        ("[!]]x", ["ax"], ["]x", "/x"]),
        ("[+-9]", ["+", "9"], ["/"]),
        ("[ --z]", [" ", "-", "z"], ["a", "."]),
        ("[a&&b]", ["a", "&"], ["c"]),
        ("[a-]", ["a", "-"], ["b"]),
        (r"[\d]", ["\\", "d"], ["1"]),
        (r"\*", ["\\", "\\x"], ["*"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*a*b", ["ab", "aab", "axxb", "aabab"], ["a", "ba", "abx"]),
        ("vendor.com/gpu=*", ["vendor.com/gpu=0", "vendor.com/gpu="], ["vendor.com/net=0"]),
    ],
)
def test_what_a_pattern_stands_for(text: str, inside: list[str], outside: list[str]) -> None:
    found = pattern(text)
    assert [name for name in inside if not found.matches(name)] == []
    assert [name for name in outside if found.matches(name)] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "an empty pattern matches nothing"),
        ("/a/**/b", "'/a/**/b': '**' is allowed at the end only"),
        ("***", "'***': '**' is allowed at the end only"),
        ("[a", "'[a': a '[' has no ']'"),
        ("[]", "'[]': a set must contain characters other than '/'"),
        ("[!]", "'[!]': a set must contain characters other than '/'"),
        ("[a/b]", "'[a/b]': a set must contain characters other than '/'"),
        ("[z-a]", "'[z-a]': bad character range z-a"),
        ("[^a]", "'[^a]': a set begins with '^'; use '!' to negate it"),
    ],
)
def test_what_stands_for_nothing_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        pattern(text)
    assert caught.value.sentences == (sentence,)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("/srv", ["/srv", "/srv/a/b"], ["/", "/srv2", "/sr"]),
        ("/", ["/", "/a"], []),
        ("/srv/*", ["/srv/a", "/srv/a/b/c"], ["/srv", "/"]),
        ("/srv/*/x", ["/srv/a/x", "/srv/a/x/y"], ["/srv/a", "/srv/a/y/x"]),
        ("/srv/**", ["/srv/a", "/srv/a/b"], ["/srv"]),
    ],
)
def test_what_lies_below_is_covered(text: str, inside: list[str], outside: list[str]) -> None:
    found = pattern(text)
    assert [path for path in inside if not found.covers(path)] == []
    assert [path for path in outside if found.covers(path)] == []


def test_stem_and_directory_are_what_stands_in_front_of_the_first_special_character() -> None:
    assert (pattern("/dev/tty*").stem, pattern("/dev/tty*").directory) == ("/dev/tty", "/dev")
    assert (pattern("/d*").stem, pattern("/d*").directory) == ("/d", "/")
    assert (pattern("/dev/x").stem, pattern("/dev/x").directory) == ("/dev/x", "/dev/x")


# --- beside a matcher that tries everything -----------------------------------------------------

ALPHABET = "ab/]-!^"
tokens = st.sampled_from(["a", "b", "/", "*", "?", "[a]", "[!a]", "[ab]", "[!a-b]", "-", "]"])
texts = st.builds(
    lambda parts, end: "".join(parts) + end,
    st.lists(tokens, max_size=8),
    st.sampled_from(["", "", "**"]),
).filter(lambda text: text and "**" not in text.removesuffix("**") and "***" not in text)
names = st.text(ALPHABET, max_size=10)
paths = texts.map("/{}".format).filter(lambda text: "//" not in text and text[-1] != "/")


def naive(text: str, name: str) -> bool:
    """Match by trying every way."""
    if text == "**":
        return True
    if not text:
        return not name
    if text[0] == "*":
        takes = bool(name) and name[0] != "/"
        return naive(text[1:], name) or (takes and naive(text, name[1:]))
    if not name:
        return False
    if text[0] == "[":
        members, _, rest = text[1:].partition("]")
        return naive_set(members, name[0]) and naive(rest, name[1:])
    return (name[0] == text[0] or (text[0] == "?" and name[0] != "/")) and naive(text[1:], name[1:])


def naive_set(members: str, character: str) -> bool:
    wanted = members.removeprefix("!").replace("a-b", "ab")
    return character != "/" and (character in wanted) != members.startswith("!")


@pytest.mark.slow
@examples(2000)
@given(texts, names)
def test_a_pattern_stands_for_what_a_matcher_says_that_tries_everything(
    text: str, name: str
) -> None:
    assert pattern(text).matches(name) == naive(text, name)


@examples(1000)
@given(paths, st.lists(st.text("ab]-", min_size=1, max_size=4), max_size=5).map("/".join))
def test_a_pattern_covers_what_it_stands_for_or_what_has_that_above_it(
    text: str, relative: str
) -> None:
    path = f"/{relative}"
    places = [path[:end] for end in range(1, len(path)) if path[end] == "/"] + [path, "/"]
    assert pattern(text).covers(path) == any(naive(text, place) for place in places)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("/etc", ["/"], ["/etc", "/srv", "/e"]),
        ("/etc/ssl/*.pem", ["/", "/etc", "/etc/ssl"], ["/etc/ssl/private", "/srv", "/etc/s"]),
        ("/home/*/.ssh", ["/", "/home", "/home/bob"], ["/home/bob/.ssh", "/home/bob/x", "/srv"]),
        ("/home/**", ["/", "/home"], ["/srv"]),
    ],
)
def test_directories_in_which_something_may_lie_that_a_pattern_stands_for(
    text: str, inside: list[str], outside: list[str]
) -> None:
    found = pattern(text)
    assert [path for path in inside if not found.reaches_into(path)] == []
    assert [path for path in outside if found.reaches_into(path)] == []


@given(st.text("ab*?[]!-/^", min_size=1, max_size=8), st.text("ab*?[]!-/^", max_size=8))
def test_a_text_taken_literally_stands_for_itself_alone(text: str, other: str) -> None:
    found = pattern(literally(text))
    assert found.matches(text)
    assert found.matches(other) == (text == other)


# --- time ---------------------------------------------------------------------------------------

REPEATS = (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT)


def repeats(parsed: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each repetition of an expression that is not inside an atomic group, and its body."""
    for opcode, argument in parsed:
        if opcode in REPEATS:
            yield opcode, argument[2]
        elif opcode is opcodes.SUBPATTERN:
            yield from repeats(argument[3])


@given(texts)
def test_matching_reconsiders_no_star_but_the_last(text: str) -> None:
    """Linear by structure: one repetition of one character may be tried anew, the rest is atomic.

    Inside an atomic group there is one repetition, of one character, in front of a fixed text.
    """
    parsed = sre.parse(_translated(text))
    free = [*repeats(parsed)]
    assert len(free) <= 1
    groups = [argument for opcode, argument in parsed if opcode is opcodes.ATOMIC_GROUP]
    bodies = [*free, *(found for group in groups for found in repeats(group))]
    assert len(bodies) == len(free) + len(groups)
    assert all(len(body) == 1 for _, body in bodies)

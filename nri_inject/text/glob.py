"""Patterns of names, as a policy writes them.

`*` stands for any characters but `/`, `?` for one of them, `[a-z]` and `[!a-z]` for one of a set.
`**` at the end stands for anything at all. Matching takes time that grows with the length of the
name alone, whatever the name: a pod's author may have chosen it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

from nri_inject.text.fields import Fault
from nri_inject.text.paths import is_below
from nri_inject.text.words import quoted

T = TypeVar("T")

MAX_PARTS: Final = 64
"""How many slashes a path may have that is looked at. Each directory above it may be in a rule."""

_SPECIAL: Final = re.compile(r"[*?\[]")
_TOKEN: Final = re.compile(r"\*+|\?|\[(!?)(\]?[^\]]*)\]|\[|[^*?\[]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern; `literal` is its text if nothing in it is special.

    `stem` has the characters in front of the first special one.
    """

    text: str
    literal: str | None
    stem: str
    _regex: re.Pattern[str] | None
    _below: re.Pattern[str] | None

    def matches(self, name: str) -> bool:
        """Tell whether the pattern matches the whole name."""
        if self._regex is None:
            return name == self.literal
        return self._regex.fullmatch(name) is not None

    def covers(self, path: str) -> bool:
        """Tell whether the pattern matches a clean path or a directory above it.

        It takes one comparison, however deep the path lies.
        """
        if self.literal is not None:
            return is_below(path, self.literal)
        return self._below is not None and self._below.fullmatch(path) is not None

    def reaches_into(self, directory: str) -> bool:
        """Tell whether a path inside a clean path may match the pattern.

        The pattern's first parts decide: a match of /home/*/.ssh may lie in /home/bob.
        """
        if directory == "/":
            return True
        if not directory.startswith("/"):  # the name of a file system that is nowhere
            return False
        parts = self.text.split("/")
        depth = directory.count("/") + 1
        return len(parts) > depth and _known("/".join(parts[:depth])).matches(directory)

    def meets(self, head: str, tail: str) -> bool:
        """Tell whether a name with this beginning and this end may match the pattern.

        No name may have a slash.
        """
        tokens = _SINGLE.findall(self.text)
        least = min(_reached(tokens, head), default=None)
        last = min(_reached(tokens[::-1], tail[::-1]), default=None)
        return least is not None and last is not None and least + last <= len(tokens)

    @property
    def directory(self) -> str:
        """A directory above all matches; the text itself if it has no special characters."""
        return self.literal or self.stem.rpartition("/")[0] or "/"


class Stems(Generic[T]):
    """Values by a pattern's stem, to find the patterns that may match a name.

    The cost grows with the length of the name, and not with the number of patterns.
    """

    __slots__ = ("_by_stem", "_lengths")

    def __init__(self, pairs: Iterable[tuple[Pattern, T]]) -> None:
        self._by_stem: dict[str, list[T]] = {}
        for one, value in pairs:
            self._by_stem.setdefault(one.stem, []).append(value)
        self._lengths = sorted({len(stem) for stem in self._by_stem})

    def near(self, names: Iterable[str]) -> Iterator[T]:
        """Yield the values whose stem one of the names begins with, each once."""
        lengths = self._lengths
        # What several names begin with is looked up once.
        beginnings = {name[:n]: None for name in names for n in lengths if n <= len(name)}
        for beginning in beginnings:
            yield from self._by_stem.get(beginning, ())


def pattern(text: str) -> Pattern:
    """Return the pattern of a text; raises Fault for one that matches nothing."""
    if not text:
        raise Fault("an empty pattern matches nothing")
    special = _SPECIAL.search(text)
    if special is None:
        return Pattern(text, text, text, None, None)
    expression = _translated(text)
    below = re.compile(f"(?:{expression})(?:/.*)?", re.DOTALL)
    stem = text[: special.start()]
    return Pattern(text, None, stem, re.compile(expression, re.DOTALL), below)


def literally(text: str) -> str:
    """Return the pattern that matches exactly this text."""
    return _SPECIAL.sub(r"[\g<0>]", text)


_known: Final = lru_cache(maxsize=1024)(pattern)

_SINGLE: Final = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)


def _reached(tokens: Sequence[str], text: str) -> set[int]:
    """Return how many of a pattern's tokens a text can take up, in every way that it can."""
    places = _past_stars(tokens, {0})
    for character in text:
        places = _past_stars(
            tokens,
            {
                place if tokens[place].startswith("*") else place + 1
                for place in places
                if place < len(tokens) and _known(tokens[place]).matches(character)
            },
        )
    return places


def _past_stars(tokens: Sequence[str], places: set[int]) -> set[int]:
    return places | {p + 1 for p in places if p < len(tokens) and tokens[p].startswith("*")}


def _translated(text: str) -> str:
    """Return a regular expression without backtracking.

    Each star takes as little as the text behind it allows, and never reconsiders: since no star
    crosses a slash, the first place where that text fits leaves the most to the next star.
    """
    parts: list[str] = []
    fixed = ""
    star = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word.startswith("*"):
            parts.append(f"(?>[^/]*?{fixed})" if star else fixed)
            fixed, star = "", True
            if len(word) > 1:
                if len(word) > 2 or token.end() != len(text):
                    raise Fault(f"{quoted(text)}: '**' is allowed at the end only")
                return "".join(parts) + ".*"
        elif word == "?":
            fixed += "[^/]"
        elif word == "[":
            raise Fault(f"{quoted(text)}: a '[' has no ']'")
        elif word.startswith("["):
            fixed += _set(text, token[1], token[2])
        else:
            fixed += re.escape(word)
    # What follows the last star must stand at the end, so that star takes all that is before it.
    parts.append(f"[^/]*{fixed}" if star else fixed)
    return "".join(parts)


_MEMBER: Final = re.compile(r"(.)-(.)|(.)", re.DOTALL)


def _set(text: str, negated: str, members: str) -> str:
    if not members or "/" in members:
        raise Fault(f"{quoted(text)}: a set must contain characters other than '/'")
    if members.startswith("^"):
        # Shells and regular expressions disagree on what it means here.
        raise Fault(f"{quoted(text)}: a set begins with '^'; use '!' to negate it")
    escaped = "".join(_member(*member.groups()) for member in _MEMBER.finditer(members))
    expression = f"[^/{escaped}]" if negated else f"[{escaped}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise Fault(f"{quoted(text)}: {error.msg}") from error
    # From `+` to `9` there is `/`, too; it never counts.
    return f"(?!/){expression}"


def _member(first: str | None, last: str | None, single: str | None) -> str:
    if first is None or last is None:
        return re.escape(single or "")
    return f"{re.escape(first)}-{re.escape(last)}"

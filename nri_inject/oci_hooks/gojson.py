"""JSON as Go's encoding/json reads it: what is well-formed, and with every key in its place.

Python's parser keeps one of two equal keys, cannot go as deep and knows NaN. Here nothing is
decided about keys; an object is the sequence of its members. What the members mean is told
elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, Union

DEEPEST: Final = 10_000
"""How many arrays and objects may be open at once (Go, encoding/json/scanner.go)."""


class Number(NamedTuple):
    """A number as it was written: 10, 10.0 and 1e1 are not the same here."""

    text: str


@dataclass(frozen=True, slots=True)
class Object:
    """An object's members in the order of the text, repeated keys included."""

    members: tuple[tuple[str, Value], ...] = ()


Value: TypeAlias = Union[str, Number, bool, "list[Value]", Object, None]


class Malformed(ValueError):
    """Say what is wrong with a text, and where: line and column count from 1."""

    def __init__(self, sentence: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {sentence}")
        self.sentence = sentence
        self.line = line
        self.column = column


def parse(data: bytes) -> Value:
    """Return the value that a text is; raises Malformed.

    Bytes that are not UTF-8, and halves of UTF-16 pairs, become U+FFFD, one for each.
    """
    # The error handler makes one half of a pair of each bad byte, and so do bad escapes.
    text = _HALF.sub("\ufffd", data.decode("utf-8", "surrogateescape"))
    tokens = _Tokens(text)
    holders: list[_Holder] = []
    while True:
        value = tokens.value()
        if isinstance(value, _Holder):
            if len(holders) == DEEPEST:
                raise tokens.malformed(f"more than {DEEPEST} levels")
            if not tokens.take(value.end):
                holders.append(value)
                value.expect_next(tokens)
                continue
            value = value.close()
        while holders:
            holder = holders[-1]
            holder.add(value)
            if tokens.take(","):
                holder.expect_next(tokens)
                break
            if not tokens.take(holder.end):
                raise tokens.malformed(f"{tokens.next_thing()} instead of ',' or '{holder.end}'")
            value = holders.pop().close()
        else:
            tokens.expect_end()
            return value


@dataclass(slots=True)
class _Holder:
    """An array or object whose end has not come yet."""

    end: str
    values: list[Value] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def expect_next(self, tokens: _Tokens) -> None:
        """Read what stands before the next value."""
        if self.end == "}":
            self.keys.append(tokens.key())

    def add(self, value: Value) -> None:
        self.values.append(value)

    def close(self) -> Value:
        if self.end == "]":
            return self.values
        return Object(tuple(zip(self.keys, self.values, strict=True)))


_HALF: Final = re.compile("[\ud800-\udfff]")
_SPACE: Final = re.compile(r"[ \t\n\r]+")
# Possessive repeats: nothing is tried twice, however the string ends.
_STRING: Final = re.compile(
    r'"((?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"', re.ASCII
)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORD: Final = re.compile(r"true|false|null")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_ENDS: Final = {"{": "}", "[": "]"}

_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))"
)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip_space()

    def value(self) -> Value | _Holder:
        """Read a scalar, or the begin of an array or object."""
        text, at = self._text, self._at
        first = text[at : at + 1]
        if first == '"':
            return self._string()
        if first in _ENDS:
            self._go_on(at + 1)
            return _Holder(_ENDS[first])
        if number := _NUMBER.match(text, at):
            self._go_on(number.end())
            return Number(number[0])
        if word := _WORD.match(text, at):
            self._go_on(word.end())
            return _WORDS[word[0]]
        raise self.malformed(f"{self.next_thing()} instead of a value")

    def key(self) -> str:
        if not self._text.startswith('"', self._at):
            raise self.malformed(f"{self.next_thing()} instead of a key in double quotes")
        key = self._string()
        if not self.take(":"):
            raise self.malformed(f"{self.next_thing()} instead of ':'")
        return key

    def take(self, sign: str) -> bool:
        """Go past a sign if it is next."""
        taken = self._text.startswith(sign, self._at)
        if taken:
            self._go_on(self._at + 1)
        return taken

    def expect_end(self) -> None:
        if self._at < len(self._text):
            raise self.malformed(f"{self.next_thing()} after the end of the value")

    def next_thing(self) -> str:
        if self._at == len(self._text):
            return "the end of the file"
        return repr(self._text[self._at])

    def malformed(self, sentence: str) -> Malformed:
        before = self._text[: self._at]
        return Malformed(sentence, before.count("\n") + 1, self._at - before.rfind("\n"))

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self.malformed(
                "a string without end, or with a raw control character or a bad escape"
            )
        self._go_on(found.end())
        return _ESCAPE.sub(_unescaped, found[1]) if "\\" in found[1] else found[1]

    def _go_on(self, at: int) -> None:
        self._at = at
        self._skip_space()

    def _skip_space(self) -> None:
        if space := _SPACE.match(self._text, self._at):
            self._at = space.end()


def _unescaped(escape: re.Match[str]) -> str:
    high, low, unit, sign = escape.groups()
    if high:
        return chr(0x10000 + (int(high, 16) - 0xD800) * 0x400 + int(low, 16) - 0xDC00)
    if unit:
        return _HALF.sub("\ufffd", chr(int(unit, 16)))
    return _ESCAPES.get(sign, sign)

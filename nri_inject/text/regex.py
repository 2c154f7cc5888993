"""Regular expressions of hook definitions: Go's syntax, and time linear in the text's length.

A pod's author chooses the texts, so Python's own `re` is unsuitable, for its running time and for
its meaning. This is the only module that knows of google-re2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import re2  # type: ignore[import-untyped]  # it has no types

T = TypeVar("T")
Text = TypeVar("Text", bound=str | bytes)
Search: TypeAlias = Callable[[bytes], bool]
Which: TypeAlias = Callable[[bytes], list[int] | None]


class BadPattern(ValueError):
    """Say in a sentence why a text is no pattern."""


@dataclass(frozen=True, slots=True)
class Regex:
    """A pattern ready for use; it compares by its text.

    `search` tells whether it occurs anywhere in a text, given in UTF-8. `exact` is the only text
    that it matches, where there is only one. `instructions` is the length of the program that RE2
    has made of it, 0 for one that is compared as plain text.
    """

    text: str
    search: Search = field(compare=False, repr=False)
    exact: bytes | None = field(default=None, compare=False, repr=False)
    instructions: int = field(default=0, compare=False, repr=False)

    @property
    def beginning(self) -> str:
        """How a text must begin that the pattern occurs in; empty if that is unknown."""
        found = _BEGINNING.match(self.text)
        is_one = "|" not in _GROUP.sub("", self.text)
        return found[1] if found and is_one else ""

    def steps(self, length: int) -> int:
        """Return what a search of so many bytes costs at most, for a budget."""
        return 1 + steps(length, self.instructions)


BEGINNING: Final = 4
"""How many characters of a text's beginning are looked at."""

_BEGINNING: Final = re.compile(rf"\^([A-Za-z0-9_/-]{{{BEGINNING}}})(?![*?+{{])")
_GROUP: Final = re.compile(r"(?<!\\)\([^()\\\[\]]*\)")


def steps(length: int, instructions: int) -> int:
    """Return what a program of RE2 costs at most for a text of so many bytes.

    That is about 5 ns for each byte and instruction where the text defeats the automaton, and
    much less elsewhere.
    """
    return length * instructions // 200


def utf8(text: str) -> bytes:
    """Return a text as patterns search it; half a surrogate pair, which no text has, becomes ?."""
    return text.encode("utf-8", "replace")


def compiled(text: str) -> Regex:
    """Return the pattern that a text is; raises BadPattern."""
    literal = _LITERAL.fullmatch(text)
    if literal is None:
        return _searching(text)
    begin, body, end = literal.groups()
    wanted = _ESCAPED.sub(r"\1", body).encode()
    if begin and end:
        return Regex(text, wanted.__eq__, wanted)
    if begin:
        return Regex(text, lambda data: data.startswith(wanted))
    if end:
        return Regex(text, lambda data: data.endswith(wanted))
    return Regex(text, lambda data: wanted in data)


# Most patterns are a plain text between anchors. Comparing does the same at a tenth of the time
# and memory. Only characters and escapes that mean themselves are let through.
_LITERAL: Final = re.compile(
    r"(\^?)((?:[A-Za-z0-9_/:=,@%#~ -]|\\[!-/:-@\[-^`{-~])*)(\$?)", re.ASCII
)
_ESCAPED: Final = re.compile(r"\\(.)")

# RE2 refuses what Go accepts if a budget of memory is small; that budget is also how much a
# pattern's automaton may grow by the texts it sees. So the small one is tried first.
_BUDGETS: Final = (1 << 20, 8 << 20, 64 << 20)
_TOO_LARGE: Final = "pattern too large"

# What RE2 takes and Go does not: \C, which is any byte, and two groups of one name. Quotations,
# escapes and classes are passed over as a whole.
_PARTS: Final = re.compile(
    r"""\\Q(?:(?!\\E).)*+(?:\\E)?
      | (?P<any_byte>\\C)
      | \\.
      | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*+\]
      | \(\?P?<(?P<name>\w+)>
      | .""",
    re.DOTALL | re.VERBOSE,
)


def _check_parts(text: str) -> None:
    names: set[str] = set()
    for part in _PARTS.finditer(text):
        if part["any_byte"]:
            raise BadPattern(r"invalid escape sequence: \C")
        if part["name"] in names:
            raise BadPattern(f"two groups are named {part['name']}")
        if part["name"]:
            names.add(part["name"])


def _searching(text: str) -> Regex:
    _check_parts(text)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadPattern("not Unicode text") from error
    program = _compile(data)
    search = program.search
    return Regex(
        text,
        remembering(lambda data: search(data) is not None),
        instructions=program.programsize,
    )


# Containers come in replicas, and the keys of their annotations are mostly the same few.
_MAX_REMEMBERED: Final = 64
_MAX_REMEMBERED_TEXT: Final = 256


def remembering(answer: Callable[[Text], T], most: int = _MAX_REMEMBERED) -> Callable[[Text], T]:
    """Return a function that remembers the answers to some short texts."""
    return _Memory(answer, most).__getitem__


class _Memory(dict[Text, T]):
    """The answers that are remembered; looking up another text computes its answer.

    So the usual text is looked up in C. An lru_cache would keep long texts as well.
    """

    def __init__(self, answer: Callable[[Text], T], most: int) -> None:
        super().__init__()
        self._answer = answer
        self._most = most

    def __missing__(self, text: Text) -> T:
        answer = self._answer(text)
        if len(text) <= _MAX_REMEMBERED_TEXT:
            if len(self) >= self._most:
                self.clear()
            self[text] = answer
        return answer


# --- many patterns at once ----------------------------------------------------------------------

# An automaton of many patterns can have so many states that looking for the next one costs more
# than asking each pattern. No key of an annotation is as long as this.
_MAX_AT_ONCE: Final = 512  # bytes


def which(patterns: Iterable[Regex]) -> Which:
    """Return a function that finds the numbers of the patterns that occur in a text.

    One pass over the text finds all of them. It returns None if it cannot decide: the text is long,
    or the patterns together are too large.
    """
    try:
        match = _set_of(["", *(pattern.text for pattern in patterns)]).Match
    except re2.error:
        return lambda _: None

    def occurring(data: bytes) -> list[int] | None:
        if len(data) > _MAX_AT_ONCE:
            return None
        found = match(data)
        # The empty pattern is everywhere. Without it the automaton has run out of memory, which
        # RE2 does not tell apart from no match.
        return [number - 1 for number in found if number] if found and 0 in found else None

    return occurring


def _set_of(texts: Iterable[str]) -> Any:
    # The middle budget has room for some three thousand patterns of the usual kind, and patterns
    # that are too large for it are found out within a tenth of a second.
    together = re2.Set.SearchSet(_options(_BUDGETS[1]))
    for text in texts:
        together.Add(text)
    together.Compile()
    return together


def _compile(data: bytes) -> Any:
    *smaller, largest = _BUDGETS
    for budget in smaller:
        try:
            return _made(data, _options(budget))
        except BadPattern as error:
            if not str(error).startswith(_TOO_LARGE):
                raise
    return _made(data, _options(largest))


def _made(data: bytes, options: Any) -> Any:
    try:
        return re2.compile(data, options)
    except re2.error as error:
        raise BadPattern(_words(error)) from error


def _words(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _options(budget: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # no caller reads the groups
    options.max_mem = budget
    return options

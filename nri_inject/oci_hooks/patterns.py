"""Regular expressions of hook definitions: Go's syntax, and time linear in the text's length.

The texts come from whoever may create pods, so Python's own `re` would not do, neither for its
running time nor for its meaning. This is the only module that knows of google-re2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import re2  # type: ignore[import-untyped]  # it has no types

Search: TypeAlias = Callable[[bytes], bool]


class BadPattern(ValueError):
    """Say in a sentence why a text is no pattern."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern ready for use; it compares by its text.

    `search` tells whether it occurs anywhere in a text, given in UTF-8. `exact` is the only text
    that it matches, where there is only one.
    """

    text: str
    search: Search = field(compare=False, repr=False)
    exact: bytes | None = field(default=None, compare=False, repr=False)


def compiled(text: str) -> Pattern:
    """Return the pattern that a text is; raises BadPattern."""
    literal = _LITERAL.fullmatch(text)
    if literal is None:
        return Pattern(text, _searching(text))
    begin, body, end = literal.groups()
    wanted = _ESCAPED.sub(r"\1", body).encode()
    if begin and end:
        return Pattern(text, wanted.__eq__, wanted)
    if begin:
        return Pattern(text, lambda data: data.startswith(wanted))
    if end:
        return Pattern(text, lambda data: data.endswith(wanted))
    return Pattern(text, lambda data: wanted in data)


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


def _searching(text: str) -> Search:
    _check_parts(text)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadPattern("not Unicode text") from error
    return _remembering(_compile(data).search)


# Containers come in replicas, and the keys of their annotations are mostly the same few.
_MOST_REMEMBERED: Final = 64
_LONGEST_REMEMBERED: Final = 256  # bytes


def _remembering(search: Callable[[bytes], object]) -> Search:
    answers: dict[bytes, bool] = {}

    def remembered(data: bytes) -> bool:
        answer = answers.get(data)
        if answer is None:
            answer = search(data) is not None
            if len(data) <= _LONGEST_REMEMBERED:
                if len(answers) >= _MOST_REMEMBERED:
                    answers.clear()
                answers[data] = answer
        return answer

    return remembered


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
    options.never_capture = True  # where the groups are is nobody's question
    options.max_mem = budget
    return options

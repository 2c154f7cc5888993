"""The usual slips in JSON that people write, each with its sentence and the next step.

The json module reports the place where it stopped; the text at that place shows the slip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from nri_inject.text.words import quoted

_Sentence: TypeAlias = str | Callable[[str], str]

ESCAPE: Final = " is no escape of JSON"
COMMENT: Final = "JSON has no comments; remove this one"
_TRAILING: Final = re.compile(r"(?<![{\[:,])(?<![{\[:,]\s),\s*[}\]]")
_WORDS: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def explained(error: json.JSONDecodeError) -> tuple[str, int]:
    """Return a sentence on a parser's error, and the place in the text that it is about."""
    text, at = error.doc, error.pos
    for whole, sentence in _WHOLE:
        if whole.match(text):
            return sentence, 0
    rest = text[at : at + 40]
    if rest[:1].isspace() and not error.msg.startswith("Invalid"):
        at += len(rest) - len(rest.lstrip())
        rest = rest.lstrip()
    comma = _comma(text, at)
    if comma is not None:
        return "JSON has no trailing commas; remove this one", comma
    for message, beginning, then in _SLIPS:
        found = beginning.match(rest)
        if found and error.msg.startswith(message):
            return then if isinstance(then, str) else then(found[0]), at
    problem = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"not JSON: {problem[:1].lower()}{problem[1:]}", error.pos


def _comma(text: str, at: int) -> int | None:
    """Return the place of a comma that stands before a closing bracket; None without one."""
    if text[at : at + 1] in ("}", "]"):
        at = len(text[:at].rstrip()) - 1
    # The parser of Python 3.13 stops at the comma itself.
    found = _TRAILING.match(text, max(at, 0))
    return at if found else None


def _word(found: str) -> str:
    if found in _WORDS:
        return f"{found} is no value of JSON; write {_WORDS[found]}"
    return f"text must stand in double quotes, as in {json.dumps(found)}"


def _control(found: str) -> str:
    if found in "\r\n":
        return "the line ends in a text; close its double quotes, or write \\n"
    return f"{quoted(found)} cannot stand in a text; write {json.dumps(found)[1:-1]}"


def _slips(*rows: tuple[str, str, _Sentence]) -> tuple[tuple[str, re.Pattern[str], _Sentence], ...]:
    return tuple((message, re.compile(rest, re.DOTALL), then) for message, rest, then in rows)


_WHOLE: Final = (
    (re.compile("\ufeff"), "the file begins with a byte order mark; save it as UTF-8 without one"),
    (re.compile("[^\0]{0,3}\0"), "the file is not UTF-8, perhaps UTF-16; save it as UTF-8"),
    (re.compile(r"\s*\Z"), "the file is empty"),
    (re.compile(r"---\s|[A-Za-z]\w*:(\s|\Z)"), "the file is YAML, and must be JSON"),
)

_SLIPS: Final = _slips(
    ("Invalid \\escape", r"\\.", lambda found: f"{found}{ESCAPE}; write \\{found}"),
    ("Invalid \\u", "", "four hexadecimal digits must follow \\u"),
    ("Invalid control", ".", _control),
    ("Unterminated string", "", "the text that begins here has no closing double quotes"),
    ("", r"//|/\*|#", COMMENT),
    ("", "['\u2018\u2019\u201c\u201d]", lambda found: f'text stands in ", not in {found}'),
    ("", r"\Z", "the file ends here, before its brackets are closed"),
    ("Expecting ','", '["{\\[tfn]', "a comma is missing before this"),
    ("Expecting ':'", "", "a colon is missing before this"),
    ("Expecting property", r"\w+", lambda found: f'a key must stand in double quotes: "{found}"'),
    ("Expecting value", r"[,}\]]", "a value is missing before this"),
    ("Expecting value", r"[A-Za-z_]\w*", _word),
    ("Extra data", "", "the file goes on after the end of its document"),
)

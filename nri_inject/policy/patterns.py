"""Patterns of names, as a policy writes them.

`*` stands for any characters but `/`, `?` for one of them, `[a-z]` and `[!a-z]` for one of a set.
`**` at the end stands for anything at all. Matching takes time that grows with the length of the
name alone, whatever the name: a pod's author may have chosen it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nri_inject.annotations import Fault, quoted

_SPECIAL: Final = re.compile(r"[*?\[]")
_TOKEN: Final = re.compile(r"\*+|\?|\[(!?)(\]?[^\]]*)\]|\[|[^*?\[]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern; `literal` is its text if nothing in it is special."""

    text: str
    literal: str | None
    _regex: re.Pattern[str] | None

    def matches(self, name: str) -> bool:
        """Tell whether the pattern stands for the whole name."""
        if self._regex is None:
            return name == self.literal
        return self._regex.fullmatch(name) is not None

    @property
    def stem(self) -> str:
        """The characters in front of the first special one."""
        special = _SPECIAL.search(self.text)
        return self.text if special is None else self.text[: special.start()]


def pattern(text: str) -> Pattern:
    """Return the pattern that a text is; raises Fault for one that stands for nothing."""
    if not text:
        raise Fault("an empty pattern stands for nothing")
    if not _SPECIAL.search(text):
        return Pattern(text, text, None)
    return Pattern(text, None, re.compile(_translated(text), re.DOTALL))


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
                    raise Fault(f"{quoted(text)}: '**' may stand at the end only")
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


def _set(text: str, negated: str, members: str) -> str:
    if not members or "/" in members:
        raise Fault(f"{quoted(text)}: a set must have members, and '/' is none")
    escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", members)
    expression = f"[^/{escaped}]" if negated else f"[{escaped}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise Fault(f"{quoted(text)}: {error.msg}") from error
    # From `+` to `9` there is `/`, too; it never counts.
    return f"(?!/){expression}"

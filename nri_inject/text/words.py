"""How texts that others wrote appear in sentences, and which known name such a text may mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

MAX_EXCERPT: Final = 80
"""How many characters of a text a sentence shows."""
MAX_NAME: Final = 320
"""The same for a key or path: a prefix, "/container." and a name of up to 253 characters."""


def excerpt(text: str, length: int = MAX_EXCERPT) -> str:
    """Return a text, or its beginning and three dots if it is longer than `length` characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def quoted(text: str) -> str:
    """Return an excerpt in quotes, with control characters escaped."""
    return repr(excerpt(text))


def plain(text: str) -> str:
    """Return a name, key or path without quotes, with control characters escaped."""
    return repr(excerpt(text, MAX_NAME))[1:-1]


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return the first `most` names, and how many more there are."""
    shown = ", ".join(map(plain, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return `did you mean 'major'?`, or the known names if none looks like `name`."""
    near = meant(name, known)
    return f"did you mean {near!r}?" if near else f"known: {listed(known)}"


def meant(name: str, known: Sequence[str], likeness: float = 0.6) -> str | None:
    """Return the known name that looks like `name`, whatever the letter case.

    Words that all known names begin with, such as SCHED_, may be missing and make no likeness.
    No known name looks like a name of more than MAX_EXCERPT characters. `likeness` is the least
    ratio of difflib.
    """
    if len(name) > MAX_EXCERPT or not known:
        return None
    prefix = _shared_words(known).casefold()
    stems = {candidate.casefold().removeprefix(prefix): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold().removeprefix(prefix), stems, 1, likeness)
    return stems[near[0]] if near else None


def _shared_words(names: Sequence[str]) -> str:
    # What the first and the last name in order begin with, all names between them begin with.
    pairs = zip(min(names), max(names), strict=False)
    shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared[: shared.rfind("_") + 1]

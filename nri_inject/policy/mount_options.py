"""The effect of a mount's options, as runtimes and the kernel read them. Pure.

A runtime searches the options for its own words (runc 1.1 to 1.4: whole options, exactly as
written). It joins all others with commas and passes that text to the kernel, which splits it at
each comma, quotes or not (vfs_parse_monolithic_sep of Linux 6). So one option can carry several
words, and each of them is judged. A word that removes a permission counts only if it is an option
of its own; a word that adds one counts anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nri_inject import api
from nri_inject.text.glob import Pattern, literally
from nri_inject.text.words import quoted

MAX_WORDS: Final = 64
"""How many words the options of one mount may have."""

_BINDS: Final = frozenset({"bind", "rbind"})
_BIND_TYPES: Final = frozenset({"", "bind", "none", "rbind"})
_READ_ONLY: Final = frozenset({"ro", "rro"})
_WRITABLE: Final = frozenset({"rw", "rrw"})


def words(options: Iterable[str]) -> list[str]:
    """Return the words that a mount's options consist of, in order."""
    return [word for option in options for word in option.split(",") if word]


def fault(options: Iterable[str]) -> str:
    """Say why no rule can allow these options, empty if one can.

    Where such an option ends depends on who reads it: overlay takes a comma after a backslash for
    a part of a path, SELinux skips commas in double quotes, and a runtime in C stops at a NUL.
    """
    count = 0
    for option in options:
        if not option.isprintable() or not {*'"\\'}.isdisjoint(option):
            return (
                f"its option {quoted(option)} contains a quote, a backslash or a control character"
            )
        count += option.count(",") + 1
    return f"it has more than {MAX_WORDS} options" if count > MAX_WORDS else ""


def mount_type(mount: api.Mount) -> str:
    """Return `bind`, or the type of a file system; something of both is neither."""
    binds = not _BINDS.isdisjoint(words(mount.options))
    if mount.type in _BIND_TYPES and (mount.type in _BINDS or not _BINDS.isdisjoint(mount.options)):
        return "bind"
    return f"{mount.type} with bind" if binds else mount.type or "none"


def writable(mount: api.Mount) -> tuple[bool, str]:
    """Return whether anything below a mount can be written, and why if an option says `ro`.

    Of `ro` and `rw` the last counts. `ro` of a recursive bind mount is for its top only, `rro` is
    for all of it (mount_setattr(2), runc 1.1).
    """
    modes = [word for option in mount.options for word in _modes(option)]
    if not modes or modes[-1] in _WRITABLE:
        return True, ""
    if recursive(mount) and "rro" not in modes:
        return True, "with rbind, ro keeps mounts below the source writable; use rro, or bind"
    if not _WRITABLE.isdisjoint(modes):
        return True, "it contains both ro and rw"
    return False, ""


def recursive(mount: api.Mount) -> bool:
    """Tell whether a mount has what is mounted below its source, too."""
    return "rbind" in (mount.type, *words(mount.options))


def _modes(option: str) -> list[str]:
    """Return the words of an option that count for reading or writing."""
    if option in _READ_ONLY:
        return [option]
    return [word for word in option.split(",") if word in _WRITABLE]


def is_named(word: str, patterns: Iterable[Pattern]) -> bool:
    """Tell whether a rule's patterns allow a word.

    A path in it is the host's, and its links are not followed: overlay's `lowerdir=/a:/b` names
    two. So a word with a slash must be in the rule as it is, without wildcards.
    """
    if "/" in word:
        return any(pattern.text == literally(word) for pattern in patterns)
    return any(pattern.matches(word) for pattern in patterns)

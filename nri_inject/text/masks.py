"""Masks for secrets in what a report shows of a node.

A secret is known by the word of its key or by its shape. A text without either may still be one, so
people read a report before they send it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "(masked)"
MAX_DEPTH: Final = 64
"""How many maps and lists may be within each other; what is deeper is masked."""

_WORD: Final = (
    r"(?:passw(?:or)?d|passphrase|passwd|pwd|secret|token|credential|auth|cookie|session|signature"
    r"|bearer|(?:api|access|private|secret|encryption|signing|ssh|client)[-_.]?key)"
)
_KEY: Final = re.compile(_WORD, re.IGNORECASE)
# A block of PEM, also without its end.
_PEM: Final = re.compile(r"-----BEGIN .*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
_SHAPES: Final = (
    # A user and a password in a URL.
    (re.compile(r"(?<=://)[^/\s@]{1,256}@"), f"{MASK}@"),
    # A key with a word like the above, and all that follows it on the line.
    (re.compile(rf"({_WORD}[\w.-]{{0,64}}[\"']?\s{{0,8}}[:=]).*", re.IGNORECASE), rf"\1 {MASK}"),
    # The same in an option of a command line.
    (
        re.compile(rf"((?<!\S)--?(?=\w)[\w-]{{0,64}}{_WORD}\S{{0,64}}\s).*", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b((?:bearer|basic)\s).*", re.IGNORECASE), rf"\1{MASK}"),
    # A value that a sentence quotes of an environment.
    (re.compile(r"(\benv\b[^'\n]{0,200})'[^'\n]*'"), rf"\1'{MASK}'"),
    # Tokens that say by their beginning what they are.
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|A[KS]IA|sk-|eyJ)[\w.-]{8,}"), MASK),
    # A long run without a separator: a key, or the id of a container, whose beginning is enough.
    (re.compile(r"\b([A-Za-z0-9]{8})[A-Za-z0-9+]{24,}={0,2}"), r"\1..."),
)
_NAMES: Final = ("name", "key")
_VALUES: Final = ("value", "val", "data")
_ENVIRONMENTS: Final = ("env", "add_env", "set_env")


def masked(value: Any, depth: int = 0) -> Any:
    """Return a document with masks in place of its secrets; keys stay."""
    if depth > MAX_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        names_secret = any(_names_secret(value.get(name)) for name in _NAMES)
        return {
            masked_text(str(key)): MASK
            if _KEY.search(str(key)) or (names_secret and key in _VALUES)
            else _masked_environment(one, depth)
            if key in _ENVIRONMENTS
            else masked(one, depth + 1)
            for key, one in value.items()
        }
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, list | tuple):
        return [masked(one, depth + 1) for one in value]
    return value


def _names_secret(name: Any) -> bool:
    return isinstance(name, str) and _KEY.search(name) is not None


def _masked_environment(value: Any, depth: int) -> Any:
    """Return variables of an environment without their values, whatever their names."""
    if isinstance(value, str):
        name, equals, _ = value.partition("=")
        return f"{masked_text(name)}={MASK}" if equals else masked_text(name)
    if isinstance(value, list | tuple):
        return [_masked_environment(one, depth + 1) for one in value]
    return MASK if isinstance(value, Mapping) else masked(value, depth + 1)


def masked_text(text: str) -> str:
    """Return a text of any number of lines with masks in place of its secrets."""
    text = _PEM.sub(MASK, text)
    for shape, mask in _SHAPES:
        text = shape.sub(mask, text)
    return text


def masked_log(text: str) -> str:
    """Return the lines of a log with masks; a line of JSON is masked as a document."""
    return "".join(f"{_masked_line(line)}\n" for line in _PEM.sub(MASK, text).splitlines())


def _masked_line(line: str) -> str:
    if line.startswith("{"):
        try:
            return json.dumps(masked(json.loads(line)))
        except (ValueError, RecursionError):
            return masked_text(line)
    return masked_text(line)

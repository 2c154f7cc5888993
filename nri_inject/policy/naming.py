"""Things that are what they are called, and names as a rule writes them."""

from __future__ import annotations

import json
import re
from typing import Final

from nri_inject.policy.rules import Item
from nri_inject.text.glob import literally
from nri_inject.text.words import quoted


def named(kind: str, name: str, noun: str, *, key: str = "", facts: object = None) -> Item[object]:
    """Return an item that is identified by its name."""
    trouble = "it contains a NUL" if "\0" in name else ""
    asked = f"{noun} {quoted(name)}"
    return Item(kind, key or name, asked, (name,), facts, name, trouble, as_yaml(name))


# Nothing in it means anything to YAML, and it does not begin as a number does.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./=-]*")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def as_yaml(name: str) -> str:
    """Write a name for a rule, in YAML, so that the rule is for this name and nothing else.

    A pod's author chose the name, and an admin is going to paste the rule.
    """
    return scalar(literally(name))


def scalar(text: str) -> str:
    """Write a text in YAML, in quotes if it needs them."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text)

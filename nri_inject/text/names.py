"""The rules for names that Linux and NRI have."""

from __future__ import annotations

import re
from typing import Final

_PLUGIN: Final = re.compile(r"[A-Za-z0-9._+-]+")
_INDEX: Final = re.compile(r"[0-9]{2}")


def is_plugin_name(text: str) -> bool:
    """Tell whether a text is a plugin's name by the rule of NRI 0.12.0."""
    return _PLUGIN.fullmatch(text) is not None


def is_plugin_index(text: str) -> bool:
    """Tell whether a text is a plugin's index: two ASCII digits."""
    return _INDEX.fullmatch(text) is not None


def split_plugin(text: str) -> tuple[str, str]:
    """Return index and name of `NN-name`, cut at the first dash; ("", text) for another form.

    What follows the dash may be anything, even nothing.
    """
    index, dash, name = text.partition("-")
    return (index, name) if dash and is_plugin_index(index) else ("", text)


_MAX_INTERFACE: Final = 15  # bytes; IFNAMSIZ of Linux, without the final zero


def interface_fault(name: str) -> str:
    """Return why a network interface cannot have this name, or "" (dev_valid_name() of Linux)."""
    if not 1 <= len(name.encode("utf-8", "replace")) <= _MAX_INTERFACE:
        return f"must have 1 to {_MAX_INTERFACE} bytes"
    if name in (".", "..") or any(letter in "/:" or letter.isspace() for letter in name):
        return "is not a name that a network interface can have"
    return ""

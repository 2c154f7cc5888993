"""The rules for names that Linux and NRI have."""

from __future__ import annotations

from typing import Final

_MAX_INTERFACE: Final = 15  # bytes; IFNAMSIZ of Linux, without the final zero


def interface_fault(name: str) -> str:
    """Return why a network interface cannot have this name, or "" (dev_valid_name() of Linux)."""
    if not 1 <= len(name.encode("utf-8", "replace")) <= _MAX_INTERFACE:
        return f"must have 1 to {_MAX_INTERFACE} bytes"
    if name in (".", "..") or any(letter in "/:" or letter.isspace() for letter in name):
        return "is not a name that a network interface can have"
    return ""

"""Old names of the stub, which this release still accepts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def renamed(old: str, new: str) -> None:
    """Warn the caller of the caller that it uses an old name."""
    warnings.warn(f"{old} is deprecated, use {new}", DeprecationWarning, stacklevel=3)


def _method(old: str, new: str) -> Callable[..., Any]:
    def method(self: object, *arguments: Any, **named: Any) -> Any:
        renamed(f"Stub.{old}", new)
        return getattr(self, new)(*arguments, **named)

    return method


class OldNames:
    """The methods of Stub under their old names."""

    join = _method("join", "add_plugin")
    observe = _method("observe", "on_bytes")
    after = _method("after", "after_response")

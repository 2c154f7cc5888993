"""How many lines of Python a request takes: the same number each time, on any machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


def lines_of(action: Callable[[], object]) -> int:
    """Return how many lines are executed for an action."""
    count = 0

    def traced(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def calls_of(code: CodeType, action: Callable[[], object]) -> int:
    """Return how often a function is called for an action, by its code."""
    count = 0

    def profiled(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(profiled)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count

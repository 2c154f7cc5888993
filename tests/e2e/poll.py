"""Wait for something to become true, up to a deadline; the only place here that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02


def until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """Ask again and again, and return the first true answer.

    `what` completes the sentence of the TimeoutError: "waited 30 seconds for <what>".
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} seconds for {what}")
        time.sleep(INTERVAL)

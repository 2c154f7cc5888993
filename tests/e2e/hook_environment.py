"""Hooks that record the environment that a runtime starts them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .poll import until

STAGES = (
    *("prestart", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop"),
)

POD: Mapping[str, str] = {"LD_PRELOAD": "/mnt/evil.so", "ENV": "/mnt/evil.sh", "MINE": "1"}
"""Variables of a pod whose author wants the host."""


def recorder(stage: str, output: Path) -> dict[str, Any]:
    """Return a hook without `env`; containers see the directory `output` as /mnt.

    It is `sort`, since a shell would add variables of its own. It also reads the state to its end:
    a hook that does not can end crun (1.28) with SIGPIPE.
    """
    place = "/mnt" if stage == "startContainer" else output
    both = ("/proc/self/environ", "-")
    return {"path": "/bin/sort", "args": ["sort", "-z", "-o", f"{place}/{stage}", *both]}


def recorded(output: Path) -> dict[str, list[str]]:
    """Return the environment at each stage, when all have been recorded."""
    return {stage: _record(output / stage) for stage in STAGES}


def _record(path: Path) -> list[str]:
    text = until(lambda: path.read_text() if path.exists() else "", f"what a hook writes to {path}")
    # What is not of the environment is the state, a JSON object.
    return [entry for entry in text.split("\0")[:-1] if entry[0] != "{"]

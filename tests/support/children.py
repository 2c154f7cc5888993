"""Which processes are ours: for tests that must leave none behind."""

from __future__ import annotations

import os
from pathlib import Path


def children() -> set[int]:
    """Return the ids of our child processes, dead ones that nobody has waited for included."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            # After the name in parentheses come the state and the parent's id (proc(5)).
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # no process, or one that has just ended
        if int(parent) == os.getpid():
            found.add(int(entry.name))
    return found


def family(pid: int) -> list[int]:
    """Return a process and its children: a service and the worker of the moment."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, listed)]

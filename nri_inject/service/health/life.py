"""What of a service outlives its workers: the process, its counts, and what was found missed."""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import Missed, State

_COUNTS: Final = ("asked", "changed", "failed", "denied")
_PACKED: Final = struct.Struct("=4Q")
_FOUND: Final = ("compared", "uncompared", "unlisted", "to_compare", "synchronized")


@dataclass(slots=True)
class Life:
    """The life of a service.

    `pid` and `started` are those of the process that a service manager knows; `failures` counts the
    workers that another one had to replace. A worker that `resumes` has taken over within a
    connection: what exists has been told to one before it, which has left `notes`. `counts` is a
    page that they share, since each request is counted.
    """

    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    failures: int = 0
    resumes: bool = False
    notes: Notes | None = None
    counts: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, mmap.PAGESIZE))

    def state(self, index: str, name: str) -> State:
        """Return the state that a worker begins with."""
        state = State(index, name, self.pid, started=self.started)
        state.worker, state.failures = os.getpid(), self.failures
        if self.notes is not None:
            for count, value in zip(_COUNTS, _PACKED.unpack_from(self.counts), strict=True):
                setattr(state, count, value)
        return state

    def restore(self, state: State) -> None:
        """Take over what was found when the runtime told what exists."""
        if self.notes is None or not self.resumes:
            return
        if (noted := self.notes.get("found")) is None:
            return
        found = json.loads(noted)
        for container_id, (pod, container, lacks) in found["missed"].items():
            state.missed[container_id] = Missed(pod, container, tuple(lacks))
        for name in _FOUND:
            setattr(state, name, found[name])
        # Those that were not compared yet have gone with the worker.
        state.uncompared, state.to_compare = state.uncompared + state.to_compare, 0

    def keep_counts(self, state: State) -> None:
        """Note the counts."""
        _PACKED.pack_into(self.counts, 0, state.asked, state.changed, state.failed, state.denied)

    def keep_found(self, state: State) -> None:
        """Note what was found."""
        if self.notes is not None:
            found = {name: getattr(state, name) for name in ("missed", *_FOUND)}
            self.notes.put("found", json.dumps(found).encode())

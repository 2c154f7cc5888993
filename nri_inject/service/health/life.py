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

_COUNTS: Final = ("asked", "changed", "failed", "denied", "late")
_PACKED: Final = struct.Struct("=5Q")
_MOMENT: Final = struct.Struct("=d")
_FOUND: Final = ("missed", "drifted")
_COMPARED: Final = ("compared", "uncompared", "to_compare", "synchronized")


@dataclass(slots=True)
class Life:
    """The life of a service.

    `pid` and `started` are those of the process that a service manager knows; `failures` counts the
    workers that another one had to replace. A worker that `resumes` has taken over within a
    connection: what exists has been told to one before it, which has left `notes`. `page` is what
    all processes share of each request: the counts, and when the connection's holder saw none.
    """

    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    failures: int = 0
    resumes: bool = False
    notes: Notes | None = None
    page: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, mmap.PAGESIZE))

    def state(self, index: str, name: str) -> State:
        """Return the state that a worker begins with."""
        state = State(index, name, self.pid, started=self.started)
        state.worker, state.failures = os.getpid(), self.failures
        if self.notes is not None:
            for count, value in zip(_COUNTS, _PACKED.unpack_from(self.page), strict=True):
                setattr(state, count, value)
        return state

    def restore(self, state: State) -> None:
        """Take over what was found when the runtime told what exists."""
        if self.notes is None or not self.resumes:
            return
        if (noted := self.notes.get("found")) is None:
            return
        found = json.loads(noted)
        for name in _FOUND:
            kept = getattr(state, name)
            kept.unlisted = found[name]["unlisted"]
            for container_id, (pod, container, lacks, refused) in found[name]["containers"].items():
                kept[container_id] = Missed(pod, container, tuple(lacks), refused)
        for name in _COMPARED:
            setattr(state, name, found[name])
        # Those that were not compared yet have gone with the worker.
        state.uncompared, state.to_compare = state.uncompared + state.to_compare, 0

    def keep_counts(self, state: State) -> None:
        """Note the counts."""
        _PACKED.pack_into(self.page, 0, *(getattr(state, name) for name in _COUNTS))

    def note_quiet(self, until: float) -> None:
        """Note when the holder of the connection last had nothing to read, in monotonic seconds."""
        _MOMENT.pack_into(self.page, _PACKED.size, until)

    def quiet_until(self) -> float:
        """Return what was noted last."""
        (until,) = _MOMENT.unpack_from(self.page, _PACKED.size)
        return float(until)

    def keep_found(self, state: State) -> None:
        """Note what was found."""
        if self.notes is not None:
            found = {name: getattr(state, name) for name in _COMPARED}
            for name in _FOUND:
                kept = getattr(state, name)
                found[name] = {"unlisted": kept.unlisted, "containers": kept}
            self.notes.put("found", json.dumps(found).encode())

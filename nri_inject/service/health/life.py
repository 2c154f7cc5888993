"""What of a service outlives its workers: the process, its counts, and what was found missed."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from nri_inject.errors import NriError
from nri_inject.service.health.counters import Counters
from nri_inject.service.health.http_server import listen
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import WAITS, Missed, Stale, State, no_restarts

MAX_FAULT: Final = 2000
"""How many bytes of the reason why an upgrade failed are kept."""

_COUNTS: Final = ("asked", "changed", "failed", "denied", "late")
_PACKED: Final = struct.Struct(f"={len(_COUNTS) + len(no_restarts())}Q")
_MOMENT: Final = struct.Struct("=d")
_UPGRADES: Final = struct.Struct(f"=QH{MAX_FAULT}s")
_AT_UPGRADES: Final = 1024  # in the page
_FOUND: Final[Mapping[str, type[Missed | Stale]]] = {
    "missed": Missed,
    "drifted": Missed,
    "stale": Stale,
}
_LOST: Final = "not restarted: the worker that was to restart it has ended"
_COMPARED: Final = ("compared", "uncompared", "to_compare", "synchronized")


class Listener(NamedTuple):
    """A listening socket, and the address as the configuration has it."""

    address: str
    socket: socket.socket


def _adopted(saved: Sequence[Any] | None) -> Listener | None:
    return None if saved is None else Listener(saved[0], socket.socket(fileno=saved[1]))


@dataclass(slots=True)
class Life:
    """The life of a service.

    `pid` and `started` are those of the process that a service manager knows; `failures` counts the
    workers that another one had to replace. A worker that `resumes` has taken over within a
    connection: what exists has been told to one before it, which has left `notes`. `page` is what
    all processes share of each request: the counts, and when the connection's holder saw none. The
    holder counts the upgrades there. `counters` are in the page, too. `listener` is the socket of
    the HTTP address, which the holder keeps.
    """

    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    failures: int = 0
    resumes: bool = False
    notes: Notes | None = None
    page: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, mmap.PAGESIZE))
    listener: Listener | None = None
    counters: Counters = field(init=False)

    def __post_init__(self) -> None:
        """Have the counters in the page."""
        self.counters = Counters(self.page, self.notes)

    def listen(self, address: str) -> None:
        """Listen at an HTTP address, empty for none; ConfigError if that is not possible.

        The socket that another version has left is kept if it has this address. All workers accept
        from it, so a connection waits for the next one.
        """
        before = self.listener
        if before is not None and before.address == address:
            return
        self.listener = Listener(address, listen(address)) if address else None
        if before is not None:
            before.socket.close()

    def saved(self) -> dict[str, Any]:
        """Return the life for the version that takes the place of this one, as values of JSON."""
        notes = b"" if self.notes is None else self.notes.saved()
        return {
            "started": self.started,
            "counts": _PACKED.unpack_from(self.page),
            "counters": self.counters.saved(),
            "listener": None
            if self.listener is None
            else [self.listener.address, self.listener.socket.fileno()],
            "upgrades": self.upgrades()[0],
            "notes": b64encode(notes).decode(),
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Return a life that goes on; NriError for what is none."""
        notes = Notes()
        try:
            life = cls(started=float(saved["started"]), notes=notes)
            _PACKED.pack_into(life.page, 0, *saved["counts"])
            _UPGRADES.pack_into(life.page, _AT_UPGRADES, saved["upgrades"], 0, b"")
            life.counters.restore(saved["counters"])
            notes.restore(b64decode(saved["notes"], validate=True))
            life.listener = _adopted(saved["listener"])
        except (KeyError, TypeError, ValueError, OSError, struct.error) as error:
            raise NriError(
                f"cannot read the counts and notes of another version: {error}"
            ) from error
        return life

    def upgraded(self, fault: str) -> None:
        """Count an upgrade, and note why it failed, if it did."""
        text = fault.encode()[:MAX_FAULT]
        count = self.upgrades()[0] + 1
        _UPGRADES.pack_into(self.page, _AT_UPGRADES, count, len(text), text)

    def upgrades(self) -> tuple[int, str]:
        """Return how many upgrades there have been, and why the last one failed, if it did."""
        count, length, text = _UPGRADES.unpack_from(self.page, _AT_UPGRADES)
        return count, text[:length].decode(errors="replace")

    def state(self, index: str, name: str) -> State:
        """Return the state that a worker begins with."""
        state = State(index, name, self.pid, started=self.started)
        state.worker, state.failures = os.getpid(), self.failures
        if self.notes is not None:
            kept = iter(_PACKED.unpack_from(self.page))
            for count in _COUNTS:
                setattr(state, count, next(kept))
            state.restarts = {outcome: next(kept) for outcome in state.restarts}
        self.counters.inherit()
        state.counters = self.counters
        return state

    def restore(self, state: State) -> None:
        """Take over what was found when the runtime told what exists."""
        if self.notes is None or not self.resumes:
            return
        if (noted := self.notes.get("found")) is None:
            return
        found = json.loads(noted)
        for name, kind in _FOUND.items():
            kept = getattr(state, name)
            kept.unlisted = found[name]["unlisted"]
            for container_id, (pod, container, what, *rest) in found[name]["containers"].items():
                one = kind(pod, container, tuple(what), *rest)
                kept[container_id] = one._replace(restart=_LOST) if one.restart == WAITS else one
        for name in _COMPARED:
            setattr(state, name, found[name])
        # Those that were not compared yet have gone with the worker.
        state.uncompared, state.to_compare = state.uncompared + state.to_compare, 0

    def keep_counts(self, state: State) -> None:
        """Note the counts."""
        counts = (getattr(state, name) for name in _COUNTS)
        _PACKED.pack_into(self.page, 0, *counts, *state.restarts.values())

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

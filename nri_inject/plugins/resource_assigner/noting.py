"""What a worker notes of its containers' CPUs, for the one that takes over when it dies."""

from __future__ import annotations

import dataclasses
import json
from typing import Final, NamedTuple

from nri_inject.plugins.resource_assigner.pools import CpuSubject, Placed, Pools
from nri_inject.service.health.notes import Notes
from nri_inject.text import cpulist
from nri_inject.text.cpulist import Cpus

_CONTAINER: Final = "container/"
_ASKING: Final = "asking"


class Noted(NamedTuple):
    """The containers with their CPUs, those that do not exist yet, and whether updates wait."""

    existing: list[tuple[CpuSubject, Cpus]]
    pending: frozenset[str]
    is_asking: bool


def read(notes: Notes) -> Noted:
    """Return what is noted."""
    existing, pending = [], set()
    for container_id, value in notes.items(_CONTAINER).items():
        noted = json.loads(value)
        existing.append((CpuSubject(**noted["subject"]), cpulist.read(noted["own"])))
        if noted["pending"]:
            pending.add(container_id)
    return Noted(existing, frozenset(pending), notes.get(_ASKING) is not None)


def write(notes: Notes, before: Pools, now: Pools) -> None:
    """Note what differs from the pools before."""
    for container_id in before.placed.keys() - now.placed.keys():
        notes.drop(_CONTAINER + container_id)
    for container_id, placed in now.placed.items():
        is_pending = container_id in now.pending
        was = before.placed.get(container_id), container_id in before.pending
        if was != (placed, is_pending):
            notes.put(_CONTAINER + container_id, _value(placed, is_pending=is_pending))


def _value(placed: Placed, *, is_pending: bool) -> bytes:
    noted = {
        "subject": dataclasses.asdict(placed.subject),
        "own": cpulist.format_cpu_list(placed.own),
        "pending": is_pending,
    }
    return json.dumps(noted).encode()


def ask(notes: Notes) -> None:
    """Note that updates are on their way to the runtime."""
    notes.put(_ASKING, b"1")


def answered(notes: Notes) -> None:
    """Note that the runtime has made them."""
    notes.drop(_ASKING)


def clear(notes: Notes) -> None:
    """Forget all: the runtime is about to tell what exists."""
    notes.clear(_CONTAINER)
    notes.drop(_ASKING)

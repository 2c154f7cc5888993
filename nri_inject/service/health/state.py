"""The counts and observations of a running plugin: a record, and the status document made of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any, Final, Literal, NamedTuple

from nri_inject.version import VERSION

MAX_MISSED: Final = 1000
"""How many missed containers are remembered; of more, only the number is."""

MAX_SHOWN: Final = 50
"""How many of them one document names."""

MAX_NAME: Final = 330
"""How many bytes of a document the name of a pod may take: Kubernetes allows 63 for its namespace
and 253 for itself."""

MAX_TEXT: Final = 100
"""How many bytes of a document any other text of a pod's author may take."""

MAX_ERROR: Final = 2000
"""How many bytes of a document the error of a configuration may take."""

MAX_NOTES: Final = 4
"""How many notes a document has; each may take MAX_NOTE bytes."""

MAX_NOTE: Final = 500

MAX_DOCUMENT: Final = 64 * 1024
"""How many bytes a document may take as JSON in ASCII, which follows from the bounds above."""


class Missed(NamedTuple):
    """A running container that lacks what its pod requests: `Who` it is, and what it lacks."""

    pod: str
    container: str
    lacks: tuple[str, ...]


@dataclass(slots=True)
class State:
    """Counted from the start of the process; times are seconds since the epoch, None for never.

    `asked` counts the containers that a runtime asked about; of those some were `changed`, some
    `failed` and, among the failed, some `denied` by a policy. `missed` are by container id, as of
    the last synchronization, less those that have been removed since; `unlisted` were too many.
    Of what the runtime told then, `compared` have been compared, `to_compare` wait for it, and
    `uncompared` cannot be: too much was told of them, or nothing of their pods.
    `config_error` says why the newest version of the configuration file is not in force. `notes`
    are on what the plugin cannot see of the node. `no_answer` says what becomes of a request that
    the plugin does not answer: it fails, or passes over the plugin as its failure policy says, or
    although the policy is to fail, which the runtime ignores; empty before Configure. `worker` is
    the process that answers, and `failures` counts those before it that died or hung.
    """

    index: str
    name: str
    pid: int
    worker: int = 0
    failures: int = 0
    started: float = field(default_factory=time.time)
    runtime: str = ""
    no_answer: Literal["", "fails", "passes", "ignored"] = ""
    configured: float | None = None
    synchronized: float | None = None
    asked: int = 0
    changed: int = 0
    failed: int = 0
    denied: int = 0
    to_compare: int = 0
    compared: int = 0
    uncompared: int = 0
    missed: dict[str, Missed] = field(default_factory=dict)
    unlisted: int = 0
    config_error: str = ""
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The plugin's name as runtimes write it, `20-nri-inject`."""
        return f"{self.index}-{self.name}"

    def miss(self, container_id: str, missed: Missed) -> None:
        """Remember a container that was missed."""
        if len(self.missed) >= MAX_MISSED:
            self.unlisted += 1
            return
        self.missed[container_id] = Missed(
            shortened(missed.pod, MAX_NAME),
            shortened(missed.container, MAX_TEXT),
            tuple(shortened(text, MAX_TEXT) for text in missed.lacks),
        )


def document(state: State, phase: str, *, launched: bool) -> dict[str, Any]:
    """Return what `nri-inject status` shows of one plugin; `phase` is the stub's.

    It is ready when a runtime asks it about containers: once it is synchronized, and where the
    runtime launched it, once it is configured, since runtimes before NRI 0.7 do no more.
    """
    shown = list(state.missed.values())[:MAX_SHOWN]
    return {
        "plugin": state.title,
        "version": VERSION,
        "pid": state.pid,
        "worker": {"pid": state.worker or state.pid, "failures": state.failures},
        "phase": phase,
        "ready": phase == "synchronized" or (launched and phase == "configured"),
        "launched": launched,
        "runtime": shortened(state.runtime, MAX_TEXT),
        "no_answer": state.no_answer,
        "started": when(state.started),
        "configured": when(state.configured),
        "synchronized": when(state.synchronized),
        "containers": {
            "asked": state.asked,
            "changed": state.changed,
            "failed": state.failed,
            "denied": state.denied,
        },
        "to_compare": state.to_compare,
        "compared": state.compared,
        "uncompared": state.uncompared,
        "missed": {
            "count": len(state.missed) + state.unlisted,
            "containers": [
                {"pod": one.pod, "container": one.container, "lacks": list(one.lacks)}
                for one in shown
            ],
        },
        "config_error": shortened(state.config_error, MAX_ERROR),
        "notes": [shortened(note, MAX_NOTE) for note in state.notes[:MAX_NOTES]],
    }


def when(seconds: float | None) -> str | None:
    """Write a time in UTC, as logs do."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def shortened(text: str, most: int) -> str:
    """Return a text that takes at most so many bytes as JSON in ASCII, an ellipsis not counted.

    A character outside of ASCII takes 6 or 12 bytes there.
    """
    text, cut = text[:most], text[most:]
    while len(encode_basestring_ascii(text)) - 2 > most:
        text, cut = text[: len(text) * 3 // 4], text
    return f"{text}…" if cut else text

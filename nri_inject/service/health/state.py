"""The counts and observations of a running plugin: a record, and the status document made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from mmap import PAGESIZE, mmap
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    get_args,
)

from nri_inject.service.health.counters import Counters
from nri_inject.version import VERSION

if TYPE_CHECKING:  # at run time a plugin without a policy has no use for that room
    from nri_inject.policy.source import Standing

MAX_MISSED: Final = 1000
"""How many missed containers are remembered; of more, only the number is."""

MAX_SHOWN: Final = 28
"""How many of them one document names."""

MAX_DRIFTED: Final = 10
"""How many of those that have drifted it names."""

MAX_STALE: Final = 10
"""How many of those that are stale it names."""

MAX_NAME: Final = 330
"""How many bytes of a document the name of a pod may take: Kubernetes allows 63 for its namespace
and 253 for itself."""

MAX_TEXT: Final = 100
"""How many bytes of a document any other text of a pod's author may take."""

MAX_REFUSED: Final = 400
"""How many bytes of a document the reason of a refusal may take."""

MAX_ERROR: Final = 2000
"""How many bytes of a document the error of a configuration may take."""

MAX_NOTES: Final = 4
"""How many notes a document has; each may take MAX_NOTE bytes."""

MAX_NOTE: Final = 500

MAX_DOCUMENT: Final = 64 * 1024
"""How many bytes a document may take as JSON in ASCII, which follows from the bounds above."""


RestartOutcome: TypeAlias = Literal[
    "stopped", "failed", "excluded", "over_budget", "repeated", "useless", "left_out"
]
"""What became of a restart: the runtime has stopped the container, or the reason why not.

It failed; the namespace is excluded; the pod's budget is used up; the container was to be stopped
before; a restart would not help by now; or too many containers waited.
"""


WAITS: Final = "waits for its restart"
"""What a missed container's `restart` is until the runtime has stopped it, or something forbids."""


class Missed(NamedTuple):
    """A container that does not have what the plugin would give it now.

    It lacks something; or its request would be refused, and `refused` says why. `restart` says
    whether it is restarted, where the configuration wants it.
    """

    pod: str
    container: str
    lacks: tuple[str, ...]
    refused: str = ""
    restart: str = ""

    def bounded(self) -> Missed:
        """Return it with texts of bounded length."""
        return Missed(
            shortened(self.pod, MAX_NAME),
            shortened(self.container, MAX_TEXT),
            tuple(shortened(text, MAX_TEXT) for text in self.lacks),
            shortened(self.refused, MAX_REFUSED),
        )

    def document(self) -> dict[str, Any]:
        """Return what a document says of it."""
        return {**self._asdict(), "lacks": list(self.lacks)}


class Stale(NamedTuple):
    """A container that holds a device which has changed: it is gone, or has another number.

    `since` is when that was first seen, in seconds since 1970; `restart` as of one that was missed.
    """

    pod: str
    container: str
    because: tuple[str, ...]
    since: float
    restart: str = ""

    def bounded(self) -> Stale:
        """Return it with texts of bounded length."""
        return Stale(
            shortened(self.pod, MAX_NAME),
            shortened(self.container, MAX_TEXT),
            tuple(shortened(text, MAX_TEXT) for text in self.because),
            self.since,
        )

    def document(self) -> dict[str, Any]:
        """Return what a document says of it."""
        return {**self._asdict(), "because": list(self.because), "since": when(self.since)}


F = TypeVar("F", Missed, Stale)


class FoundContainers(dict[str, F], Generic[F]):
    """The first MAX_MISSED containers that were found, by id; `unlisted` counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self.unlisted = 0

    @property
    def count(self) -> int:
        """How many were found."""
        return len(self) + self.unlisted

    def add(self, container_id: str, one: F) -> None:
        """Remember a container, with texts of bounded length."""
        if len(self) >= MAX_MISSED and container_id not in self:
            self.unlisted += 1
            return
        self[container_id] = one.bounded()

    def note(self, container_id: str, restart: str) -> None:
        """Remember what becomes of a container's restart."""
        if (one := self.get(container_id)) is not None:
            self[container_id] = one._replace(restart=shortened(restart, MAX_TEXT))

    def take_back(self, container_id: str) -> None:
        """Count a container no longer."""
        if self.pop(container_id, None) is None:
            self.unlisted -= 1

    def document(self, most: int) -> dict[str, Any]:
        """Return how many there are, and the first of them."""
        return {
            "count": self.count,
            "containers": [one.document() for one in list(self.values())[:most]],
        }


def in_words(one: Mapping[str, Any]) -> str:
    """Say what a container of a document lacks, why it would be refused now, or what has changed.

    And what becomes of its restart, if there is to be one.
    """
    restart = f"; {one['restart']}" if one.get("restart") else ""
    if "because" in one:
        return f"stale since {one['since']}, because {', '.join(one['because'])}{restart}"
    if one.get("refused"):
        return f"would be refused now: {one['refused']}{restart}"
    return f"lacks {', '.join(one['lacks'])}{restart}"


def no_restarts() -> dict[RestartOutcome, int]:
    """Return a count of nothing for each outcome."""
    return dict.fromkeys(get_args(RestartOutcome), 0)


@dataclass(slots=True)
class State:
    """Counted from the start of the process; times are seconds since the epoch, None for never.

    `asked` counts the containers that a runtime asked about; of those some were `changed`, some
    `failed` and, among the failed, some `denied` by a policy. The answers for those that were too
    `late` are not among these. `missed` were not served by the plugin and lack something;
    `drifted` were served, and would be given something else now. Both are as of the last
    synchronization and the containers that started since, less those that have been removed.
    `stale` were served and hold a device that has changed.
    Of what the runtime told then, `compared` have been compared, `to_compare` wait for it, and
    `uncompared` cannot be: too much was told of them, or nothing of their pods. `restarts` counts
    what became of restarts that were requested, and `to_restart` wait for theirs.
    `config_error` says why the newest version of the configuration file is not in force. `policy`
    says which version of the policy file is in force; None without such a file. Since the start
    there have been `policy_generation` versions in force. `files_in_error` counts files whose
    newest version is not in use, by kind. `notes` are on what the plugin cannot see of the
    node. `no_answer` says what becomes of a request that the plugin does not answer: it fails,
    or passes over the plugin as its failure policy says, or although the policy is to fail,
    which the runtime ignores; empty before Configure. `worker` is the process that answers, and
    `failures` counts those before it that died or hung. `upgrades` counts the upgrades in
    place, failed ones included, and `upgrade_error` says why the last one failed;
    None for a process that has no worker, and so no upgrades.
    """

    index: str
    name: str
    pid: int
    worker: int = 0
    failures: int = 0
    upgrades: int | None = None
    upgrade_error: str = ""
    started: float = field(default_factory=time.time)
    runtime: str = ""
    no_answer: Literal["", "fails", "passes", "ignored"] = ""
    configured: float | None = None
    synchronized: float | None = None
    asked: int = 0
    changed: int = 0
    failed: int = 0
    denied: int = 0
    late: int = 0
    to_compare: int = 0
    compared: int = 0
    uncompared: int = 0
    missed: FoundContainers[Missed] = field(default_factory=FoundContainers)
    drifted: FoundContainers[Missed] = field(default_factory=FoundContainers)
    stale: FoundContainers[Stale] = field(default_factory=FoundContainers)
    restarts: dict[RestartOutcome, int] = field(default_factory=no_restarts)
    to_restart: int = 0
    config_error: str = ""
    policy: Standing | None = None
    policy_generation: int = 0
    files_in_error: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    counters: Counters = field(default_factory=lambda: Counters(mmap(-1, PAGESIZE)))

    @property
    def title(self) -> str:
        """The plugin's name as runtimes write it, `20-nri-inject`."""
        return f"{self.index}-{self.name}"


StatusDocument: TypeAlias = Mapping[str, Any]
"""What a plugin says of itself, as values of JSON."""


def document(state: State, phase: str, *, launched: bool) -> dict[str, Any]:
    """Return what `nri-inject status` shows of one plugin; `phase` is the stub's.

    It is ready if nothing is `unready`.
    """
    said: dict[str, Any] = {
        "plugin": state.title,
        "version": VERSION,
        "pid": state.pid,
        "worker": {"pid": state.worker or state.pid, "failures": state.failures},
        "upgrades": None if state.upgrades is None else _upgrades(state),
        "phase": phase,
        "ready": False,  # known at the end
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
            "late": state.late,
        },
        "to_compare": state.to_compare,
        "compared": state.compared,
        "uncompared": state.uncompared,
        "missed": state.missed.document(MAX_SHOWN),
        "drifted": state.drifted.document(MAX_DRIFTED),
        "stale": state.stale.document(MAX_STALE),
        "restarts": {**state.restarts, "waiting": state.to_restart},
        "config_error": shortened(state.config_error, MAX_ERROR),
        "policy": None if state.policy is None else _policy(state.policy),
        "notes": [shortened(note, MAX_NOTE) for note in state.notes[:MAX_NOTES]],
    }
    said["ready"] = not unready(said)
    return said


def unready(said: Mapping[str, Any]) -> list[str]:
    """Return why a plugin with this document is not ready, none if it is.

    A runtime asks it about containers once it is synchronized, and where the runtime launched it,
    once it is configured, since runtimes before NRI 0.7 do no more. A version of configuration or
    policy that is not in force makes it unready, so that a rollout of that version stops.
    """
    phase = said["phase"]
    is_asked = phase == "synchronized" or (said["launched"] and phase == "configured")
    errors = said["config_error"], (said.get("policy") or {}).get("error")
    return [
        *([] if is_asked else [f"not registered with a runtime: {phase}"]),
        *(f"not in force: {error}" for error in errors if error),
    ]


def _upgrades(state: State) -> dict[str, Any]:
    return {"count": state.upgrades, "error": shortened(state.upgrade_error, MAX_ERROR)}


def _policy(standing: Standing) -> dict[str, Any]:
    """Return what a document says of the policy; `age` is that of the version in force."""
    written = standing.written
    return {
        "file": shortened(standing.file, MAX_NOTE),
        "in_force": standing.in_force,
        "written": when(written),
        "age": None if written is None else max(0, int(time.time() - written)),
        "error": shortened(standing.error, MAX_ERROR),
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

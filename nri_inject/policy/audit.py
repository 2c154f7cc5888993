"""The record of decisions: a JSON line for each, to the log or to a file.

A line is complete in itself: it names the container, the request, the thing on the host, the rule
that decided, and the outcome for the container. Failures that repeat are counted. A file takes
MAX_FILE bytes, and as many again for the one before it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nri_inject.api import Container, Pod
from nri_inject.host.appended import AppendedFile
from nri_inject.policy.failures import OTHERS, Failures, Unwritten
from nri_inject.text.annotations import container_name
from nri_inject.text.times import timestamp

if TYPE_CHECKING:
    from nri_inject.policy.rules import Decision

log = logging.getLogger(__name__)

AuditOutcome: TypeAlias = Literal[
    "injected", "failed", "accepted", "rejected", "too late", "stopped", "not restarted"
]
"""The answer: with what was allowed, or with an error; a validator accepts or rejects what other
plugins have made. An answer is too late if the runtime no longer waited for it. A running container
was stopped for its restart, or not."""

MAX_FILE: Final = 64 << 20
"""How many bytes a file takes before it is renamed to FILE.1, in the place of the one before."""

MAX_NAME: Final = 320
"""How many characters of a pod's names are written: Kubernetes allows 253."""

MAX_VALUE: Final = 8192
"""How many characters of what was requested, of what that is, and of a reason are written."""

_MAX_LINES: Final = 256
_MAX_LENGTH: Final = 128 * 1024  # characters of one request's lines, but for the last of them


def lines(
    decisions: Sequence[Decision],
    pod: Pod,
    container: Container,
    *,
    plugin: str,
    outcome: AuditOutcome,
    now: float,
) -> Iterator[str]:
    """Yield the record of one request, a line for each decision; `now` in seconds since 1970.

    A container that requests more than some hundred things, or few with very long names, has
    the first of them written down, and how many more there were: a pod's author must not fill a
    node's disk.
    """
    about = {
        "time": timestamp(now),
        "plugin": plugin,
        "namespace": _cut(pod.namespace, MAX_NAME),
        "pod": _cut(pod.name, MAX_NAME),
        "pod_uid": _cut(pod.uid, MAX_NAME),
        "container": _cut(container_name(container), MAX_NAME),
        "container_id": _cut(container.id, MAX_NAME),
        "outcome": outcome,
    }
    written = length = 0
    for decision in decisions[:_MAX_LINES]:
        line = json.dumps(about | record(decision))
        yield line
        written += 1
        length += len(line)
        if length > _MAX_LENGTH:
            break
    if len(decisions) > written:
        yield json.dumps(about | {"more": len(decisions) - written})


def unwritten_line(unwritten: Unwritten, *, plugin: str, now: float) -> str:
    """Return the line that counts failures which were not written."""
    namespace = unwritten.namespace
    return json.dumps(
        {
            "time": timestamp(now),
            "plugin": plugin,
            "namespace": None if namespace == OTHERS else _cut(namespace, MAX_NAME),
            "outcome": "failed",
            "unwritten": unwritten.failures,
            "since": timestamp(unwritten.since),
        }
    )


def record(decision: Decision) -> dict[str, str | None]:
    """Return the members of a line that are about a decision itself."""
    item = decision.item
    return {
        "kind": item.kind,
        "requested": _cut(item.asked, MAX_VALUE),
        "resolved": _cut(item.resolved, MAX_VALUE),
        "decision": decision.verdict,
        "rule": decision.rule,
        "reason": _cut(decision.reason, MAX_VALUE),
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


class AuditLog:
    """Write lines to the log, at level INFO, or to a file, which is created again if it is gone.

    Nothing raises: a record that cannot be written is reported in the log, and containers start.
    """

    def __init__(self, path: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._file = None if path is None else AppendedFile(path)
        self._now = now
        self._is_failing = False
        self._failures = Failures()
        self._plugin = ""

    def record(
        self,
        decisions: Sequence[Decision],
        pod: Pod,
        container: Container,
        *,
        plugin: str,
        outcome: AuditOutcome,
    ) -> None:
        """Write the lines of one request, or count it where it fails as it did before."""
        now = self._now()
        self._plugin = plugin
        self._write_unwritten(now)
        written = [*lines(decisions, pod, container, plugin=plugin, outcome=outcome, now=now)]
        if outcome in ("failed", "rejected", "not restarted"):
            failed = decisions[:_MAX_LINES]
            of = (pod.namespace, pod.name, pod.uid, container_name(container), plugin)
            failure = (*of, outcome, *(tuple(record(each).values()) for each in failed))
            length = sum(map(len, written))
            if not self._failures.admits(pod.namespace, failure, length, now):
                return
        self.write(written)

    def write(self, record: Iterable[str]) -> None:
        """Write lines."""
        if self._file is None:
            for line in record:
                log.info("%s", line)
            return
        text = "".join(f"{line}\n" for line in record)
        if not text:
            return
        path = self._file.path
        try:
            if self._file.append(text, MAX_FILE):
                log.info("the audit file %s has been renamed to %s.1", path, path)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.error("cannot write the audit file %s: %s", path, error.strerror)
            self._is_failing = True

    def close(self) -> None:
        """Write how many failures were not written, and close the file."""
        self._write_unwritten(float("inf"))
        if self._file is not None:
            self._file.close()

    def _write_unwritten(self, until: float) -> None:
        for unwritten in self._failures.ended(until):
            self.write([unwritten_line(unwritten, plugin=self._plugin, now=self._now())])

"""What exists on a node, cut into messages that the wire can carry; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from nri_inject.api import Container, Pod, SynchronizeRequest
from nri_inject.errors import NriError
from nri_inject.wire.ttrpc import MAX_DATA

LIMIT: Final = MAX_DATA - 128
"""The longest request, in bytes: 4 MiB less what ttrpc writes around it."""

_MAX_SHARE: Final = 0.9
_LEAST: Final = 4


def parts(
    pods: Sequence[Pod], containers: Sequence[Container], *, splits: bool = True
) -> Iterator[SynchronizeRequest]:
    """Yield the requests that tell of all of these, `more` set in all but the last.

    The cut is that of NRI since 0.7.0: each part takes the same number of pods and the same of
    containers, so that a container may come before its pod. Go gives up where eight objects are
    too long together; this goes on to one at a time. NriError where one alone is too long, or
    where everything is and `splits` is false: runtimes before 0.7.0 cannot.
    """
    whole = SynchronizeRequest(pods=pods, containers=containers)
    if (length := whole.ByteSize()) <= LIMIT:
        yield whole
        return
    if not splits:
        raise NriError(f"what exists takes {length} bytes, and this runtime cannot split it")
    counts = _fewer(len(pods), len(containers), length)
    while pods or containers:
        part = _part(pods, containers, counts)
        while (length := part.ByteSize()) > LIMIT:
            taken = len(part.pods), len(part.containers)
            if sum(taken) == 1:
                raise NriError(f"one pod or container takes {length} bytes, at most {LIMIT} fit")
            if sum(taken) > 2 * _LEAST:
                counts = _fewer(*taken, length)
                part = _part(pods, containers, counts)
            else:
                part = _part(pods, containers, (1, 0) if pods else (0, 1))
        pods, containers = pods[len(part.pods) :], containers[len(part.containers) :]
        part.more = bool(pods or containers)
        yield part


def _part(
    pods: Sequence[Pod], containers: Sequence[Container], counts: tuple[int, int]
) -> SynchronizeRequest:
    return SynchronizeRequest(pods=pods[: counts[0]], containers=containers[: counts[1]])


def _fewer(pods: int, containers: int, length: int) -> tuple[int, int]:
    """Return how many of each to try, where so many (more than eight) took `length` bytes."""
    share = min(LIMIT / length, _MAX_SHARE)
    return max(int(pods * share), _LEAST), max(int(containers * share), _LEAST)

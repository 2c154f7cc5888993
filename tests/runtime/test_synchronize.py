"""How what exists is cut into messages that the wire can carry."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from nri_inject.api import Container, Pod, SynchronizeRequest
from nri_inject.errors import NriError
from nri_inject.runtime import synchronize
from nri_inject.runtime.synchronize import LIMIT, parts
from nri_inject.wire import recording
from nri_inject.wire.recording import Piece
from nri_inject.wire.session import Role

VECTOR = Path(__file__).parents[1] / "vectors/nri/conversation-split-synchronize.json.gz"


def counts(requests: list[SynchronizeRequest]) -> list[tuple[int, int, bool]]:
    return [(len(each.pods), len(each.containers), each.more) for each in requests]


def test_what_fits_is_one_message_even_when_there_is_nothing() -> None:
    assert list(parts([], [])) == [SynchronizeRequest()]
    assert counts(list(parts([Pod(id="p")], [Container(id="c")]))) == [(1, 1, False)]


@pytest.mark.slow
def test_the_cut_is_that_of_a_recorded_runtime() -> None:
    steps = json.loads(gzip.decompress(VECTOR.read_bytes()))
    senders = {"runtime>plugin": Role.RUNTIME, "plugin>runtime": Role.PLUGIN}
    pieces = [Piece(senders[step["dir"]], bytes.fromhex(step["hex"])) for step in steps]
    recorded = [
        exchange.request
        for exchange in recording.exchanges(pieces)
        if isinstance(exchange.request, SynchronizeRequest)
    ]
    pods = [pod for request in recorded for pod in request.pods]
    containers = [container for request in recorded for container in request.containers]
    assert counts(recorded) == [(1970, 1970, True), (1030, 1030, False)]
    assert list(parts(pods, containers)) == recorded


def test_objects_that_are_long_go_one_at_a_time() -> None:
    pods = [Pod(name="x" * 3_000_000) for _ in range(2)]
    containers = [Container(name="x" * 3_000_000) for _ in range(2)]
    assert counts(list(parts(pods, containers))) == [
        (1, 0, True),
        (1, 0, True),
        (0, 1, True),
        (0, 1, False),
    ]


def test_one_object_that_is_too_long_is_an_error() -> None:
    with pytest.raises(
        NriError, match=rf"^one pod or container takes 50000\d\d bytes, at most {LIMIT}"
    ):
        list(parts([Pod(id="x" * 5_000_000)], []))


def test_a_runtime_that_cannot_split_says_so() -> None:
    pods = [Pod(id="x" * 3_000_000), Pod(id="y" * 3_000_000)]
    with pytest.raises(
        NriError, match=r"^what exists takes 60000\d\d bytes, and this runtime cannot"
    ):
        list(parts(pods, [], splits=False))


@given(
    st.lists(st.integers(0, 900), max_size=40),
    st.lists(st.integers(0, 900), max_size=40),
)
@examples(60)
def test_nothing_is_lost_doubled_or_too_long(pods: list[int], containers: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synchronize, "LIMIT", 1000)
        known = [Pod(id=str(n), name="x" * size) for n, size in enumerate(pods)]
        others = [Container(id=str(n), name="x" * size) for n, size in enumerate(containers)]
        cut = list(parts(known, others))
    assert [pod for part in cut for pod in part.pods] == known
    assert [container for part in cut for container in part.containers] == others
    assert all(part.pods or part.containers for part in cut) or cut == [SynchronizeRequest()]
    assert [part.more for part in cut] == [True] * (len(cut) - 1) + [False]
    assert all(part.ByteSize() <= 1000 + 2 for part in cut)

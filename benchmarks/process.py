"""What a plugin's process costs: its launch, its memory, and its first word with the runtime."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import samples
from bench import NOTHING, Bench, absent, present
from cdi_load import load, load_gpus
from latency import DEVICES, GO_CHAIN, GO_DEVICES, SUITE, with_rules
from measure import Measure
from players import request_of
from sides import Existing, bare_python

REQUESTS = 10_000
EARLY, LATE = 20_000, 200_000
SIZES = (100, 2_000, 10_000)
LOADS = (10, 1_000, 10_000)
DIFFERENT = 1_000
_PART = 10_000

BARE = "python -I -S -c pass"


def launch(bench: Bench) -> Iterator[Measure]:
    """Measure the time from the launch of a pre-installed plugin until it is synchronized."""
    peers = {
        **bench.floors,
        DEVICES: bench.ours("device-injector"),
        SUITE: bench.suite(),
        "suite (ours), self-contained": bench.self_contained(),
        GO_DEVICES: bench.theirs("device-injector"),
    }
    measure = Measure("launch until synchronized", dict.fromkeys(peers, BARE), absent(peers))
    for _ in range(3 * bench.rounds):
        measure.add(BARE, {"p50": bare_python(sys.executable) * 1e6})
        for name, chain in present(peers).items():
            peer = bench.start(chain)
            measure.add(name, {"p50": peer.launch * 1e6, "rss": peer.resident})
            peer.close()
    yield measure


def synchronize(bench: Bench) -> Iterator[Measure]:
    """Measure how long a plugin takes to be told what exists, with two containers a pod."""
    peers = {DEVICES: bench.ours("device-injector"), GO_DEVICES: bench.theirs("device-injector")}
    for pods in SIZES:
        measure = Measure(f"Synchronize: {pods:,} pods", {DEVICES: GO_DEVICES}, absent(peers))
        existing = Existing(pods, 2 * pods, request_of(samples.DEVICES))
        for _ in range(bench.rounds):
            for name, chain in present(peers).items():
                peer = bench.start(chain, existing)
                measure.add(name, {"p50": peer.synchronize * 1e6, "rss": peer.resident})
                peer.close()
        yield measure


def memory(bench: Bench) -> Iterator[Measure]:
    """Measure resident memory, idle and after 10,000 requests, no two of them alike in a row."""
    etc = bench.etc(hooks=21, cdi_files=10)
    peers = {
        NOTHING: bench.floors[NOTHING],
        DEVICES: bench.ours("device-injector"),
        GO_DEVICES: bench.theirs("device-injector"),
        SUITE: with_rules(bench, etc, 100),
        GO_CHAIN: bench.theirs("device-injector", "hook-injector", etc=etc),
    }
    against = {DEVICES: GO_DEVICES, SUITE: GO_CHAIN}
    idle = Measure("memory: idle", against, absent(peers))
    used = Measure(f"memory: after {REQUESTS:,}", against, absent(peers))
    requests = samples.different(samples.everything(), DIFFERENT)
    for _ in range(2):
        with bench.started(peers) as running:
            for name, peer in running.items():
                before = peer.resident
                idle.add(name, {"rss": before})
                peer.play(requests, REQUESTS)
                used.add(name, {"rss": peer.resident, "grown": peer.resident - before})
    yield from (idle, used)


def growth(bench: Bench) -> Iterator[Measure]:
    """Measure how much memory grows from request 20,000 to 200,000."""
    etc = bench.etc(hooks=21, cdi_files=10)
    peers = {SUITE: with_rules(bench, etc, 100), GO_DEVICES: bench.theirs("device-injector")}
    measure = Measure(f"growth: {EARLY:,} to {LATE:,}", {SUITE: GO_DEVICES}, absent(peers))
    requests = samples.different(samples.everything(), DIFFERENT)
    with bench.started(peers) as running:
        early = {}
        for done in range(_PART, LATE + 1, _PART):
            for name, peer in running.items():
                peer.play(requests, _PART)
                if done == EARLY:
                    early[name] = peer.resident
        for name, peer in running.items():
            rss = peer.resident
            measure.add(name, {"rss": rss, "grown": rss - early[name]})
    yield measure


def cdi_load(bench: Bench) -> Iterator[Measure]:
    """Measure load and resolution of CDI devices beside the Go library's."""
    yield from load_gpus(bench.directory, bench.go, bench.rounds)
    for devices in LOADS:
        yield from load(bench.directory, bench.go, bench.rounds, devices)

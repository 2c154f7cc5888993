"""How long a container waits for plugins, measure by measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import samples
from bench import NOTHING, Bench, Chain, Program, absent
from measure import Measure
from players import request_of

HOOK_COUNTS = (20, 21, 1000)
RULE_COUNTS = (1, 100, 1000)
DIFFERENT = 200
"""More requests than our plugins remember texts of."""
DEVICES = "device-injector (ours)"
GO_DEVICES = "Go device-injector"
SUITE = "suite (ours)"
GO_CHAIN = "Go device+hook in a row"


def devices(bench: Bench) -> Iterator[Measure]:
    """Measure the device injectors, without anything to do and with it."""
    peers = {
        "does nothing (Go stub)": bench.stand_in("floor"),
        DEVICES: bench.ours("device-injector"),
        GO_DEVICES: bench.theirs("device-injector"),
        "Go stand-in": bench.stand_in("devices"),
    }
    against = {NOTHING: "does nothing (Go stub)", DEVICES: _neighbour(bench, GO_DEVICES)}
    three = request_of(samples.THREE_DEVICES)
    for title, requests in (
        ("no annotation", [request_of({})]),
        ("2 devices, a mount", [request_of(samples.DEVICES)]),
        ("3 devices, in new words", samples.different(three, DIFFERENT)),
    ):
        yield bench.latency(f"devices: {title}", requests, peers, against)


def connected(bench: Bench) -> Iterator[Measure]:
    """Measure the device injectors as services that dial the runtime's socket."""
    peers = {DEVICES: bench.ours("device-injector"), GO_DEVICES: bench.theirs("device-injector")}
    measure = Measure("connected: 2 devices, a mount", {DEVICES: GO_DEVICES}, absent(peers))
    for _ in range(bench.rounds):
        if not _connected(bench, measure, {bench.floor[0]: bench.floor[1]} | peers):
            measure.missing = dict.fromkeys(peers, "our runtime side does not listen")
            break
    yield measure


def _connected(bench: Bench, measure: Measure, peers: Mapping[str, Chain]) -> bool:
    """Play a round to peers that dial the socket; tell whether the runtime has one."""
    running = {}
    try:
        for name, chain in peers.items():
            if isinstance(chain, str):
                continue
            # The floor speaks over a descriptor that it is given, so it is launched here too.
            is_floor = name == bench.floor[0]
            peer = bench.start(chain) if is_floor else bench.connect(_only(chain))
            if peer is None:
                return False
            running[name] = peer
        bench.play(measure, [request_of(samples.DEVICES)], running)
    finally:
        for peer in running.values():
            peer.close()
    return True


def _only(chain: tuple[Program, ...]) -> Program:
    (program,) = chain
    return program


def cdi(bench: Bench) -> Iterator[Measure]:
    """Measure resolved CDI devices; the Go plugin hands their names on, unresolved."""
    etc = bench.etc(cdi_files=10)
    ours = "cdi-injector (ours)"
    peers = {
        ours: bench.ours("cdi-injector", etc=etc),
        "Go device-injector, names": bench.theirs("device-injector"),
    }
    request = request_of(samples.cdi_annotation(*samples.wanted(10, 1000)))
    against = {ours: "Go device-injector, names"}
    yield bench.latency("CDI: 2 of 1,000 devices", [request], peers, against)


def hooks(bench: Bench) -> Iterator[Measure]:
    """Measure the hook injectors, with a container that one of the definitions fits."""
    ours = {count: f"hook-injector (ours) {count:,}" for count in HOOK_COUNTS}
    peers = {
        ours[count]: bench.ours("hook-injector", etc=bench.etc(hooks=count))
        for count in HOOK_COUNTS
    }
    theirs = "Go hook-injector"
    peers[theirs] = bench.theirs("hook-injector", etc=bench.etc(hooks=21))
    peers["Go stand-in"] = bench.stand_in("hooks", etc=bench.etc(hooks=21))
    against = {ours[21]: _neighbour(bench, theirs), ours[1000]: ours[20]}
    request = request_of(samples.HOOKED, samples.COMMAND)
    yield bench.latency("hooks: 1 of 20, 21, 1,000", [request], peers, against)


def everything(bench: Bench) -> Iterator[Measure]:
    """Measure the suite against the Go plugins in a row: devices, a mount, CDI and hooks."""
    etc = bench.etc(hooks=21, cdi_files=10)
    in_a_row = "our three in a row"
    peers = {
        SUITE: with_rules(bench, etc, 100),
        "suite (ours), unrestricted": bench.suite(etc),
        in_a_row: bench.ours("device-injector", "cdi-injector", "hook-injector", etc=etc),
        GO_CHAIN: bench.theirs("device-injector", "hook-injector", etc=etc),
    }
    against = {peer: GO_CHAIN for peer in peers if peer != GO_CHAIN}
    all_asked = samples.everything()
    for title, requests in (
        ("nothing asked", [request_of({})]),
        ("all asked", [all_asked]),
        ("all asked, in new words", samples.different(all_asked, DIFFERENT)),
    ):
        yield bench.latency(f"suite: {title}", requests, peers, against)


def policy(bench: Bench) -> Iterator[Measure]:
    """Measure what the number of a policy's rules costs; the last of them decides."""
    etc = bench.etc(hooks=21, cdi_files=10)
    ours = {count: f"suite (ours), rules: {count:,}" for count in RULE_COUNTS}
    peers = {ours[count]: with_rules(bench, etc, count) for count in RULE_COUNTS}
    against = {ours[100]: ours[1], ours[1000]: ours[1]}
    yield bench.latency("policy: 1, 100, 1,000 rules", [samples.everything()], peers, against)


def giving(bench: Bench) -> Iterator[Measure]:
    """Measure what the number of rules that give costs; the last of them gives a device."""
    etc = bench.etc(hooks=21, cdi_files=10)
    ours = {count: f"suite (ours), giving rules: {count:,}" for count in (1, 1000)}
    peers = {ours[count]: bench.suite(etc, samples.giving(count)) for count in ours}
    requests = [request_of({})]
    yield bench.latency("giving: 1, 1,000 rules", requests, peers, {ours[1000]: ours[1]})


def with_rules(bench: Bench, etc: Path, rules: int) -> Chain:
    """Return the suite with a policy of so many rules, and its audit."""
    return bench.suite(etc, samples.policy(rules))


def _neighbour(bench: Bench, name: str) -> str:
    """Return who a plugin of ours is held against: the Go plugin, else our stand-in for it."""
    given = name.removeprefix("Go ") in bench.go.programs
    return name if given else "Go stand-in"

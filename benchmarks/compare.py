"""Our plugins and the CDI registry beside Go's, in interleaved rounds; see README.md.

.venv/bin/python benchmarks/compare.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TypeAlias

import gopeers
import samples
from gopeers import GoSide
from players import floor, play, request_of, resident, start

from nri_inject.api import CreateContainerRequest
from nri_inject.runtime.peer import Peer

BLOCK = 50
BLOCKS = 10
WARMED_UP = 200
RESOLUTIONS = 5000
HOOK_COUNTS = (20, 21, 1000)
FLOOR = "floor (ours)"

Figures: TypeAlias = dict[str, float]


@dataclass
class Measure:
    """The figures of each peer in each round, and who is held against whom."""

    title: str
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    against: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, figures: Figures) -> None:
        """Note what a peer did in one more round."""
        self.rounds.setdefault(peer, []).append(figures)

    def median(self, peer: str, figure: str) -> float:
        """Return the median of a peer's rounds."""
        return statistics.median(one[figure] for one in self.rounds[peer])

    def ratio(self, peer: str, figure: str) -> tuple[float, float, float] | None:
        """Return median, least and greatest of the rounds' ratios to the neighbour."""
        other = self.rounds.get(self.against.get(peer, ""))
        if other is None or figure not in other[0]:
            return None
        pairs = list(zip(self.rounds[peer], other, strict=True))
        if any(theirs[figure] <= 0 for _, theirs in pairs):
            return None  # an own cost that drowns in the floor's noise divides nothing
        ratios = [ours[figure] / theirs[figure] for ours, theirs in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)


# --- plugins ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One request, played to some peers; `against` says who is our neighbour."""

    title: str
    request: CreateContainerRequest
    peers: Mapping[str, Peer]
    against: Mapping[str, str]
    missing: Mapping[str, str]

    def run(self, rounds: int) -> Measure:
        """Play, in blocks that take turns, so that a busy moment meets every peer."""
        measure = Measure(self.title, against=dict(self.against), missing=dict(self.missing))
        for peer in self.peers.values():
            play(peer, self.request, WARMED_UP)
        for _ in range(rounds):
            seconds: dict[str, list[float]] = {name: [] for name in self.peers}
            for _ in range(BLOCKS):
                for name, peer in self.peers.items():
                    seconds[name] += play(peer, self.request, BLOCK)
            nothing = statistics.median(seconds[FLOOR])
            for name, peer in self.peers.items():
                measure.add(name, _figures(seconds[name], nothing, peer))
        return measure


def _figures(seconds: list[float], nothing: float, peer: Peer) -> Figures:
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "p50": cuts[49] * 1e6,
        "p90": cuts[89] * 1e6,
        "p99": cuts[98] * 1e6,
        "own": (cuts[49] - nothing) * 1e6,
        "rss": resident(peer.pid),
    }


class Stage:
    """Launches peers from a directory of its own, and ends them."""

    def __init__(self, directory: Path, go: GoSide, stack: ExitStack) -> None:
        self._directory = directory
        self._go = go
        self._stack = stack
        self.floor = self._started(floor(directory))

    def ours(self, name: str, etc: Path | None = None) -> Peer:
        """Start an installed plugin of ours."""
        return self._launch(Path(sys.executable).with_name(f"nri-{name}"), name, etc)

    def theirs(self, name: str, stand_in: str, etc: Path | None = None) -> dict[str, Peer]:
        """Start the Go plugin, if there is one, and our stand-in for it."""
        peers = {}
        if name in self._go.programs:
            peers["Go " + name] = self._launch(self._go.programs[name], name, etc)
        if "stand-in" in self._go.programs:
            peers["Go stand-in"] = self._launch(self._go.programs["stand-in"], stand_in, etc)
        return peers

    def missing(self, name: str) -> dict[str, str]:
        """Say of which Go peers there are none, and why."""
        found = {"Go " + name: self._go.missing.get(name), "Go stand-in": None}
        found["Go stand-in"] = self._go.missing.get("stand-in")
        return {peer: why for peer, why in found.items() if why is not None}

    def _launch(self, program: Path, name: str, etc: Path | None) -> Peer:
        index = len(list(self._directory.iterdir()))
        place = self._directory / f"{index}" / f"10-{name}"
        place.parent.mkdir()
        if etc is None:
            place.symlink_to(program)
        else:
            place.write_text(_in_private(program, etc))
            place.chmod(0o755)
        return self._started(place)

    def _started(self, program: Path) -> Peer:
        peer = start(program)
        self._stack.callback(peer.close)
        return peer


def _in_private(program: Path, etc: Path) -> str:
    """Return a script that runs a plugin with another /etc, which nobody else sees.

    Neither the default directories of the Go hook injector nor its habit of making them can be
    changed. The script becomes the plugin, so its process id and descriptors stay.
    """
    flags = "-m" if os.geteuid() == 0 else "-rm"
    inner = f'mount --bind {etc} /etc && mount -t tmpfs none /usr/share && exec {program} "$@"'
    return f"#!/bin/sh\nexec unshare {flags} --propagation private sh -c '{inner}' \"$0\"\n"


def _private_etc(directory: Path, hooks: int) -> Path:
    etc = directory / f"etc-{hooks}"
    etc.mkdir(mode=0o755)
    samples.write_hooks(etc / "containers/oci/hooks.d", hooks)
    if Path("/etc/ld.so.cache").exists():
        shutil.copy("/etc/ld.so.cache", etc)
    return etc


def devices(stage: Stage, rounds: int) -> Iterable[Measure]:
    """Measure the device injectors."""
    ours = "device-injector (ours)"
    theirs = stage.theirs("device-injector", "devices")
    peers = {FLOOR: stage.floor} | stage.theirs("none", "floor")
    peers = {"floor (Go)" if name == "Go stand-in" else name: peer for name, peer in peers.items()}
    peers |= {ours: stage.ours("device-injector")} | theirs
    against = {FLOOR: "floor (Go)"} | dict.fromkeys([ours], next(iter(theirs), ""))
    missing = stage.missing("device-injector")
    for title, asked in (("no annotation", {}), ("2 devices, mount", samples.DEVICES)):
        yield Case(f"devices: {title}", request_of(asked), peers, against, missing).run(rounds)


def hooks(stage: Stage, directory: Path, rounds: int) -> Iterable[Measure]:
    """Measure the hook injectors, with a container that one of the definitions fits."""
    request = request_of(samples.HOOKED, samples.COMMAND)
    for count in HOOK_COUNTS:
        etc = _private_etc(directory, count)
        theirs = {} if count > 100 else stage.theirs("hook-injector", "hooks", etc)
        missing = {} if count > 100 else stage.missing("hook-injector")
        ours = f"hook-injector (ours) {count}"
        peers = {FLOOR: stage.floor, ours: stage.ours("hook-injector", etc)} | theirs
        against = {ours: next(iter(theirs), FLOOR)}
        yield Case(f"hooks: {count} definitions", request, peers, against, missing).run(rounds)


# --- CDI ----------------------------------------------------------------------------------------


def cdi(directory: Path, go: GoSide, rounds: int) -> Iterable[Measure]:
    """Measure load and resolution of 10,000 devices, each load in a process of its own."""
    child = Path(__file__).with_name("cdi_child.py")
    commands = {"registry (ours)": [sys.executable, str(child)]}
    if "cdi-bench" in go.programs:
        commands["Go library"] = [str(go.programs["cdi-bench"])]
    against = {"registry (ours)": "Go library"}
    missing = {} if len(commands) > 1 else {"Go library": go.missing["cdi-bench"]}
    for extension, mixed in product(("json", "yaml"), (False, True)):
        title = f"{'mixed ' if mixed else ''}{extension.upper()}"
        place = directory / title
        samples.write_cdi(place, extension, mixed)
        load, use = (
            Measure(f"CDI {what}, {title}", against=against, missing=missing)
            for what in ("load", "resolve 2")
        )
        for _ in range(rounds):
            for peer, command in commands.items():
                result = _run([*command, str(RESOLUTIONS), *samples.WANTED, str(place)])
                load.add(peer, {"p50": result["load_ms"] * 1e3, "rss": result["rss_loaded_kb"]})
                use.add(
                    peer,
                    {
                        "p50": result["resolve_p50_us"],
                        "p99": result["resolve_p99_us"],
                        "rss": result["rss_end_kb"],
                    },
                )
        yield from (load, use)


def _run(command: list[str]) -> Figures:
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    result: Figures = json.loads(ran.stdout)
    if result["devices"] != 10_000 or result["errors"]:
        raise SystemExit(f"{command[0]} has loaded something else: {ran.stdout}")
    return result


# --- the table ----------------------------------------------------------------------------------

_COLUMNS = ("p50", "p90", "p99", "own", "rss")
_RATIOS = ("p50", "p99", "own")


def table(measures: Iterable[Measure]) -> Iterable[str]:
    """Yield the lines of the table, each with its neighbour's ratio where it has one."""
    heads = "".join(f"{head:>10}" for head in ("p50 µs", "p90 µs", "p99 µs", "own µs", "RSS kB"))
    ratios = "".join(f"{head:>20}" for head in ("p50 ratio", "p99 ratio", "own ratio"))
    yield f"{'measure':26}{'peer':28}{heads}{ratios}  to"
    for measure in measures:
        for peer in measure.rounds:
            yield _line(measure, peer).rstrip()
        for peer, why in measure.missing.items():
            yield f"{measure.title:26}{peer:28}not measured: {why}"


def _ratios(peer: str) -> tuple[str, ...]:
    return _RATIOS[:2] if peer == FLOOR else _RATIOS  # the floor has no cost of its own


def _line(measure: Measure, peer: str) -> str:
    figures = "".join(
        f"{measure.median(peer, figure):10.0f}"
        if figure in measure.rounds[peer][0]
        else " " * 9 + "-"
        for figure in _COLUMNS
    )
    ratios = {figure: measure.ratio(peer, figure) for figure in _ratios(peer)}
    shown = "".join(_ratio(ratio) for ratio in ratios.values())
    to = measure.against.get(peer, "") if ratios["p50"] else ""
    return f"{measure.title:26}{peer:28}{figures}{shown:60}  {to}"


def _ratio(ratio: tuple[float, float, float] | None) -> str:
    return (
        f"{'':20}"
        if ratio is None
        else f"{ratio[0]:7.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]".rjust(20)
    )


def as_json(measures: Iterable[Measure]) -> str:
    """Return all rounds of all peers, and the ratios, as JSON."""
    return json.dumps(
        [
            {
                "measure": measure.title,
                "rounds": measure.rounds,
                "ratios": {
                    peer: {"to": to}
                    | {figure: measure.ratio(peer, figure) for figure in _ratios(peer)}
                    for peer, to in measure.against.items()
                    if to in measure.rounds
                },
                "missing": measure.missing,
            }
            for measure in measures
        ],
        indent=2,
    )


def measured(rounds: int) -> Iterable[Measure]:
    """Build what is missing, and measure everything."""
    go = gopeers.build()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        launched = directory / "plugins"
        launched.mkdir()
        stage = Stage(launched, go, stack)
        yield from devices(stage, rounds)
        yield from hooks(stage, directory, rounds)
        yield from cdi(directory, go, rounds)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Our plugins beside Go's; see README.md.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rounds there")
    arguments = parser.parse_args()
    measures = list(measured(arguments.rounds))
    print("\n".join(table(measures)))
    if arguments.json:
        arguments.json.write_text(as_json(measures) + "\n")


if __name__ == "__main__":
    main()

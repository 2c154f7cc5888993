"""What every measure needs: plugins in directories of their own, launched, played to in turns."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import samples
from gopeers import GoPrograms
from measure import Figures, Measure
from players import floor, suite
from sides import Existing, Peer, Side

from nri_inject.api import Adjustment, CreateContainerRequest

BLOCK: Final = 50
BLOCKS: Final = 20
WARMED_UP: Final = 300

BINARY: Final = Path(__file__).parent.parent / "dist" / "nri-inject" / "nri-inject"
NOTHING: Final = "does nothing (ours)"
UNRESTRICTED: Final = "policy: unrestricted\n"
"""The configuration with which a plugin of ours gives what it is asked for, as Go's does."""


@dataclass(frozen=True)
class Program:
    """A plugin: its name, and what to execute.

    `etc` is what it sees as /etc, `config` its drop-in configuration, `options` what it is given
    beside when it is started by hand.
    """

    name: str
    path: Path
    etc: Path | None = None
    config: str = ""
    options: tuple[str, ...] = ()


Chain: TypeAlias = tuple[Program, ...] | str
"""Plugins that are asked one after the other, or why there are none."""


class Bench:
    """Launches plugins on one side, and plays requests to them."""

    def __init__(self, side: Side, go: GoPrograms, directory: Path, rounds: int) -> None:
        self.side = side
        self.rounds = rounds
        self.go = go
        self.directory = directory
        self._places = 0
        self._nothing: Chain = (Program("nothing", floor(directory)),)
        self._suite = suite(directory)
        self.floor = self._floor()

    def _floor(self) -> tuple[str, Chain]:
        """Return the floor: what any plugin costs, and so is no cost of its own."""
        raw = self.theirs("floor")
        return (NOTHING, self._nothing) if isinstance(raw, str) else ("floor", raw)

    @property
    def floors(self) -> dict[str, Chain]:
        """The floor, and what a plugin that does nothing costs on our stub."""
        return dict((self.floor, (NOTHING, self._nothing)))

    # --- plugins ---

    def ours(self, *names: str, etc: Path | None = None) -> Chain:
        """Return installed plugins of ours."""
        installed = Path(sys.executable).parent
        return tuple(
            Program(
                name, installed / f"nri-{name}", etc, UNRESTRICTED, ("--policy", "unrestricted")
            )
            for name in names
        )

    def suite(self, etc: Path | None = None, config: str = UNRESTRICTED) -> Chain:
        """Return our injectors in one process."""
        return (Program("suite", self._suite, etc, config),)

    def self_contained(self) -> Chain:
        """Return the suite as `make binaries` builds it, or say that there is none."""
        if not BINARY.exists():
            return "make binaries has not been run"
        return (Program("nri-inject", BINARY, config=UNRESTRICTED),)

    def theirs(self, *names: str, etc: Path | None = None) -> Chain:
        """Return programs of the Go side, or say why one of them is missing."""
        for name in names:
            if name not in self.go.programs:
                return self.go.missing[name]
        return tuple(Program(name, self.go.programs[name], etc) for name in names)

    def stand_in(self, what: str, etc: Path | None = None) -> Chain:
        """Return our plugin on NRI's Go stub, which does what its name says."""
        if "stand-in" not in self.go.programs:
            return self.go.missing["stand-in"]
        return (Program(what, self.go.programs["stand-in"], etc),)

    # --- launching ---

    def start(self, chain: tuple[Program, ...], existing: Existing | None = None) -> Peer:
        """Launch plugins as a runtime launches what is pre-installed."""
        place, configs = self._place(), self._place()
        for number, program in enumerate(chain):
            file = place / f"{number + 1}0-{program.name}"
            (configs / f"{file.name}.conf").write_text(program.config)
            if program.etc is None:
                file.symlink_to(program.path)
            else:
                file.write_text(_in_private(program.path, program.etc))
                file.chmod(0o755)
        return self.side.start(place, configs, existing)

    def connect(self, program: Program) -> Peer | None:
        """Run a plugin that dials the runtime's socket."""
        socket = self._place() / "nri.sock"
        options = ["-idx", "10", "-socket-path", str(socket), *program.options]
        return self.side.connect([str(program.path), *options], socket)

    def _place(self) -> Path:
        self._places += 1
        place = self.directory / f"{self._places}"
        place.mkdir()
        return place

    @contextmanager
    def started(
        self, peers: Mapping[str, Chain], existing: Existing | None = None
    ) -> Iterator[dict[str, Peer]]:
        """Launch all peers that there are, and end them."""
        with ExitStack() as stack:
            running = {}
            for name, chain in present(peers).items():
                running[name] = self.start(chain, existing)
                stack.callback(running[name].close)
            yield running

    # --- how long a container waits ---

    def latency(
        self,
        title: str,
        requests: Sequence[CreateContainerRequest],
        peers: Mapping[str, Chain],
        against: Mapping[str, str],
    ) -> Measure:
        """Play the requests to the floors and to the peers, in turns.

        Each round has new processes. On which processor one runs beside the runtime's, and where
        its memory lies, is luck that it keeps as long as it lives, and half of its own cost.
        """
        lineup = {**self.floors, **peers}
        measure = Measure(title, against, absent(lineup))
        for _ in range(self.rounds):
            with self.started(lineup) as running:
                self.play(measure, requests, running)
        return measure

    def play(
        self,
        measure: Measure,
        requests: Sequence[CreateContainerRequest],
        running: Mapping[str, Peer],
    ) -> None:
        """Play a round, in blocks that take turns, so that a busy moment meets each of the peers.

        The order of turns is another one each time, and the same whenever this is run: what a peer
        leaves behind, such as the threads of Go's runtime and what is in the processor's caches, is
        met by whoever comes next.
        """
        turns = random.Random(len(measure.rounds.get(self.floor[0], ())))  # noqa: S311 - an order, no secret
        for name, peer in running.items():
            measure.gives[name] = _summary(peer.play(requests, WARMED_UP).response.adjust)
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for block in range(BLOCKS):
            some = _in_turn(requests, block * BLOCK)
            for name in turns.sample([*running], len(running)):
                seconds[name] += running[name].play(some, BLOCK).seconds
        nothing = statistics.median(seconds[self.floor[0]])
        for name, peer in running.items():
            figures = _figures(seconds[name], nothing)
            measure.add(name, {**figures, "rss": peer.resident})

    def etc(self, hooks: int = 0, cdi_files: int = 0) -> Path:
        """Return what plugins can see as /etc: with hooks, and files of 100 CDI devices each."""
        etc = self.directory / f"etc-{hooks}-{cdi_files}"
        if etc.exists():
            return etc
        etc.mkdir(mode=0o755)
        samples.write_hooks(etc / "containers/oci/hooks.d", hooks)
        samples.write_cdi(etc / "cdi", "json", cdi_files, 100 * cdi_files)
        if Path("/etc/ld.so.cache").exists():
            shutil.copy("/etc/ld.so.cache", etc)
        return etc


def _in_turn(
    requests: Sequence[CreateContainerRequest], first: int
) -> Sequence[CreateContainerRequest]:
    """Return the requests of one block, so that all of them have their turn."""
    count = len(requests)
    return [requests[number % count] for number in range(first, first + min(count, BLOCK))]


def present(peers: Mapping[str, Chain]) -> dict[str, tuple[Program, ...]]:
    """Return the peers that there are."""
    return {name: chain for name, chain in peers.items() if not isinstance(chain, str)}


def absent(peers: Mapping[str, Chain]) -> dict[str, str]:
    """Say of the other ones why there are none."""
    return {name: why for name, why in peers.items() if isinstance(why, str)}


def _summary(adjustment: Adjustment) -> str:
    """Say what an adjustment has, as in `2 devices, 1 hooks`; NRI's own has empty ones in it."""
    hooks = sum(len(hooks) for _, hooks in adjustment.hooks.ListFields())
    counts = {
        "devices": len(adjustment.linux.devices),
        "mounts": len(adjustment.mounts),
        "variables": len(adjustment.env),
        "CDI names": len(adjustment.CDI_devices),
        "hooks": hooks,
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"


def _figures(seconds: Sequence[float], nothing: float) -> Figures:
    cuts = statistics.quantiles(seconds, n=100)
    own = cuts[49] - nothing
    return {
        "p50": cuts[49] * 1e6,
        "p90": cuts[89] * 1e6,
        "p99": cuts[98] * 1e6,
        "own": own * 1e6,
        "own/floor": own / nothing,
    }


def _in_private(program: Path, etc: Path) -> str:
    """Return a script that runs a plugin with another /etc, which nobody else sees.

    Neither the default directories of the Go hook injector nor its habit of making them can be
    changed. The script becomes the plugin, so its process id and descriptors stay.
    """
    flags = "-m" if os.geteuid() == 0 else "-rm"
    inner = f'mount --bind {etc} /etc && mount -t tmpfs none /usr/share && exec {program} "$@"'
    return f"#!/bin/sh\nexec unshare {flags} --propagation private sh -c '{inner}' \"$0\"\n"

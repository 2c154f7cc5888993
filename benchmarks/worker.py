"""What the parent process costs: a service with its worker beside the same service in one process.

.venv/bench/bin/python benchmarks/worker.py [--rounds N] [--program NAME]...

Launched by our own runtime side, in turns of 50 requests; ratios are of the rounds' medians. Memory
is the proportional set size, in which a page that two processes share counts half for each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import samples
from measure import Measure
from players import play, request_of, start

from nri_inject.api import CreateContainerRequest
from nri_inject.runtime.peer import Peer

BLOCK: Final = 50
BLOCKS: Final = 20
WARMED_UP: Final = 300
MODES: Final[Mapping[str, str]] = {"with its worker": "", "in one process": "--no-worker"}
WITH, WITHOUT = MODES
MAX_RATIO: Final[Mapping[str, float]] = {"nothing asked": 1.25, "devices, a mount": 1.1}
MAX_MEMORY: Final = 1.4
REQUESTS: Final[Mapping[str, CreateContainerRequest]] = {
    "nothing asked": request_of({}),
    "devices, a mount": request_of(samples.DEVICES),
}


def main(argv: Sequence[str]) -> None:
    """Measure, and print a line for each ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--program", action="append", default=[])
    arguments = parser.parse_args(argv)
    for program in arguments.program or ["nri-device-injector", "nri-inject"]:
        for measure in measured(program, arguments.rounds):
            print(line(program, measure))


def measured(program: str, rounds: int) -> list[Measure]:
    """Play rounds to both modes of a program, each round with new processes."""
    measures = [Measure(asked, {WITH: WITHOUT}) for asked in REQUESTS]
    memory = Measure("memory", {WITH: WITHOUT})
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            running = {mode: _start(stack, Path(directory), program, mode) for mode in MODES}
            for measure in measures:
                _play(measure, running)
            for mode, peer in running.items():
                memory.add(mode, {"rss": proportional(peer.pid or 0)})
    return [*measures, memory]


def _start(stack: ExitStack, directory: Path, program: str, mode: str) -> Peer:
    place = directory / mode.replace(" ", "-")
    place.mkdir()
    file = place / f"10-{program.removeprefix('nri-')}"
    installed = Path(sys.executable).parent / program
    run = f"{installed} run" if program == "nri-inject" else installed
    file.write_text(f"#!/bin/sh\nexec {run} -q {MODES[mode]}\n")
    file.chmod(0o755)
    peer = start(file, "policy: unrestricted\n")
    stack.callback(peer.close)
    return peer


def _play(measure: Measure, running: Mapping[str, Peer]) -> None:
    request = REQUESTS[measure.title]
    seconds: dict[str, list[float]] = {mode: [] for mode in running}
    for peer in running.values():
        play(peer, request, WARMED_UP)
    for block in range(BLOCKS):
        for mode in [*running][:: 1 if block % 2 else -1]:
            seconds[mode] += play(running[mode], request, BLOCK)
    for mode, taken in seconds.items():
        measure.add(mode, {"p50": statistics.median(taken) * 1e6})


def proportional(pid: int) -> int:
    """Return the proportional set size of a process and its children, in kB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    texts = [Path(f"/proc/{member}/smaps_rollup").read_text() for member in (pid, *children)]
    lines = [line.split() for line in "".join(texts).splitlines()]
    return sum(int(words[1]) for words in lines if words[0] == "Pss:")


def line(program: str, measure: Measure) -> str:
    """Write what was measured, and whether it is met."""
    figure, unit = ("rss", "kB") if measure.title == "memory" else ("p50", "µs")
    most = MAX_RATIO.get(measure.title, MAX_MEMORY)
    ratio = measure.ratio(WITH, figure)
    values = f"{measure.median(WITH, figure):.0f} to {measure.median(WITHOUT, figure):.0f} {unit}"
    verdict = "met" if ratio is not None and ratio.median <= most else "not met"
    return f"{program:22}{measure.title:18}{values:24}{ratio!s:20} at most {most}: {verdict}"


if __name__ == "__main__":
    main(sys.argv[1:])

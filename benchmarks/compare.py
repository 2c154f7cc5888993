"""Our plugins and the CDI registry beside Go's, in interleaved rounds; see README.md.

.venv/bench/bin/python benchmarks/compare.py [--rounds N] [--only NAME]... [--json FILE]
    [--without-go] [--go-device-injector FILE] [--go-hook-injector FILE]
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import gopeers
import latency
import process
from bench import Bench
from gopeers import GoPrograms
from measure import Measure, as_json, table
from sides import EmbeddedSide, GoSide, Side
from targets import report

import nri_inject

MEASURES: Final[Mapping[str, Callable[[Bench], Iterator[Measure]]]] = {
    "devices": latency.devices,
    "connected": latency.connected,
    "cdi": latency.cdi,
    "hooks": latency.hooks,
    "everything": latency.everything,
    "policy": latency.policy,
    "giving": latency.giving,
    "launch": process.launch,
    "synchronize": process.synchronize,
    "memory": process.memory,
    "growth": process.growth,
    "cdi-load": process.cdi_load,
}


def measured(arguments: argparse.Namespace) -> Iterator[Measure]:
    """Build what is missing, and measure what is requested."""
    given = {name: getattr(arguments, f"go_{name.replace('-', '_')}") for name in gopeers.PLUGINS}
    go = gopeers.without() if arguments.without_go else gopeers.build(given)
    with tempfile.TemporaryDirectory() as directory, closing(_side(go)) as side:
        bench = Bench(side, go, Path(directory), arguments.rounds)
        for name in arguments.only or MEASURES:
            print(f"measuring {name}", file=sys.stderr)
            yield from MEASURES[name](bench)


def _compile() -> None:
    """Have our modules compiled, as they are where they have been installed."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(nri_inject.__file__).parent, quiet=1)


def _side(go: GoPrograms) -> Side:
    """Return NRI's own adaptation where there is Go, else our embedded runtime side."""
    if "driver" in go.programs:
        return GoSide(go.programs["driver"])
    print(f"on our own runtime side: {go.missing['driver']}", file=sys.stderr)
    return EmbeddedSide()


def main(argv: Sequence[str]) -> None:
    """Measure, and print the tables."""
    arguments = _arguments(argv)
    _compile()
    measures = list(measured(arguments))
    print(f"Python {sys.version}\n")
    print("\n".join((*table(measures), "", *report(measures))))
    if arguments.json:
        arguments.json.write_text(as_json(measures) + "\n")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our plugins beside Go's; see README.md.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", choices=MEASURES, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rounds there")
    parser.add_argument("--without-go", action="store_true", help="on our own runtime side")
    for name in gopeers.PLUGINS:
        variable = f"GO_{name.replace('-', '_').upper()}"
        parser.add_argument(
            f"--go-{name}",
            type=Path,
            default=os.environ.get(variable) or None,
            metavar="FILE",
            help=f"the NRI project's plugin, as an executable (also from {variable})",
        )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(sys.argv[1:])

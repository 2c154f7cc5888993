"""Load and resolution of CDI devices, ours and the Go library's, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import samples
from gopeers import GoPrograms
from measure import Figures, Measure

RESOLUTIONS = 2000
EXTENSIONS = ("json", "yaml")
OURS = "registry (ours)"
THEIRS = "Go library"


def load(directory: Path, go: GoPrograms, rounds: int, devices: int) -> Iterator[Measure]:
    """Measure both for a number of devices, as JSON and as YAML."""
    files = max(2, devices // 100)
    wanted = samples.wanted(files, devices)
    for extension in EXTENSIONS:
        place = directory / f"cdi-{devices}-{extension}"
        samples.write_cdi(place, extension, files, devices)
        title = f"{devices:,}, {extension.upper()}"
        yield from _measured(place, title, wanted, devices, go, rounds)


def load_gpus(directory: Path, go: GoPrograms, rounds: int) -> Iterator[Measure]:
    """Measure both for one file of 8 devices as a vendor's program writes it."""
    wanted = [samples.GPU.format(number=number) for number in (0, 7)]
    for extension in EXTENSIONS:
        place = directory / f"cdi-gpus-{extension}"
        place.mkdir(mode=0o755)
        text = samples.cdi_text(samples.gpu_spec(), extension)
        (place / f"nvidia.{extension}").write_text(text)
        yield from _measured(place, f"8 GPUs, {extension.upper()}", wanted, 8, go, rounds)


def _measured(
    place: Path, title: str, wanted: Sequence[str], devices: int, go: GoPrograms, rounds: int
) -> Iterator[Measure]:
    """Load a directory that has so many devices, and resolve two of them."""
    commands = {OURS: [sys.executable, str(Path(__file__).with_name("cdi_child.py"))]}
    missing = {}
    if "cdi-bench" in go.programs:
        commands[THEIRS] = [str(go.programs["cdi-bench"])]
    else:
        missing[THEIRS] = go.missing["cdi-bench"]
    loaded, resolved = (
        Measure(f"CDI {what} {title}", {OURS: THEIRS}, missing) for what in ("load", "resolve 2 of")
    )
    for _ in range(rounds):
        for peer, command in commands.items():
            result = _run([*command, str(RESOLUTIONS), *wanted, str(place)], devices)
            loaded.add(peer, {"p50": result["load_ms"] * 1e3, "rss": result["rss_loaded_kb"]})
            resolved.add(
                peer,
                {
                    "p50": result["resolve_p50_us"],
                    "p99": result["resolve_p99_us"],
                    "rss": result["rss_end_kb"],
                },
            )
    yield from (loaded, resolved)


def _run(command: list[str], devices: int) -> Figures:
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    result: Figures = json.loads(ran.stdout)
    if result["devices"] != devices or result["errors"]:
        raise SystemExit(f"{command[0]} has loaded something else: {ran.stdout}")
    return result

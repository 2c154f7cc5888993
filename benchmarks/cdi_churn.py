"""Change CDI specs at full speed while resolving, and hold each answer against what was on disk.

    .venv/bench/bin/python benchmarks/cdi_churn.py [--changes N] [--passes N] [--json FILE]

A process of its own changes files: by renaming a new one over the old, by rewriting in place, by
both in turn, and by rewriting in two pieces of which the first is sound by itself, some passes
each. Each version of a file has its number in a variable. The writer tells
which version it is about to write and which it has written; an answer is right if it is no older
than what was written before the question and no newer than what was begun before the answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from ctypes import Array, c_uint64
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from players import resident

from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import resolve
from nri_inject.errors import NriError
from nri_inject.host.nodes import HostDevices

FILES = 10
DEVICES = 50
VARIABLE = "CHURN_VERSION"
WAYS = ("rename", "in place", "in turn", "in pieces")

Versions: TypeAlias = "Array[c_uint64]"


@dataclass
class Pass:
    """What came of some changes; `different` counts the versions that answers had."""

    way: str
    changes: int
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    different: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    rss_before_kb: int = 0
    rss_after_kb: int = 0
    descriptors: int = 0


def text_of(file: int, version: int) -> str:
    """Return a version of a file; each differs in length, too."""
    head = f"cdiVersion: 0.6.0\nkind: churn{file}.example.com/device\ndevices:\n"
    edits = f"    env:\n    - {VARIABLE}={version}\n    - PAD={'x' * (version % 97)}\n"
    names = (f"- name: d{number}\n  containerEdits:\n" for number in range(DEVICES))
    return head + "".join(f"{name}{edits}" for name in names)


def write(directory: str, begun: Versions, done: Versions, changes: int, way: str) -> None:
    """Make the changes: the writer's process."""
    for number in range(changes):
        file = number % FILES
        version = begun[file] + 1
        begun[file] = version
        text = text_of(file, version)
        path = Path(directory, f"churn{file}.yaml")
        if way == "in pieces":
            _write_in_pieces(path, text)
        elif way == "in place" or (way == "in turn" and number // FILES % 2):
            path.write_text(text)
        else:
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(path)
        done[file] = version


def _write_in_pieces(path: Path, text: str) -> None:
    with path.open("w") as file:
        half = text.index("- name", len(text) // 2)
        file.write(text[:half])
        file.flush()
        file.write(text[half:])


def one_pass(
    registry: CdiRegistry, directory: str, versions: tuple[Versions, Versions], way: str
) -> Pass:
    """Resolve while a writer is at work, and once more when it has ended."""
    begun, done = versions
    result = Pass(way, CHANGES.changes, rss_before_kb=resident("self"))
    writer = multiprocessing.get_context("spawn").Process(
        target=write, args=(directory, begun, done, CHANGES.changes, way)
    )
    start = sum(done)
    writer.start()
    while sum(done) == start and writer.is_alive():
        time.sleep(0.001)  # it is starting
    began = time.perf_counter()
    seen: set[tuple[int, int]] = set()
    devices = HostDevices()
    while writer.is_alive():
        for file in range(FILES):
            _ask(registry, devices, file, versions, result, seen)
    result.seconds = time.perf_counter() - began
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"the writer ended with status {writer.exitcode}")
    for file in range(FILES):
        _ask(registry, devices, file, versions, result, seen)
    result.different = len(seen)
    result.rss_after_kb = resident("self")
    result.descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return result


def _ask(
    registry: CdiRegistry,
    devices: HostDevices,
    file: int,
    versions: tuple[Versions, Versions],
    result: Pass,
    seen: set[tuple[int, int]],
) -> None:
    begun, done = versions
    oldest = done[file]
    asked = time.perf_counter()
    try:
        name = f"churn{file}.example.com/device=d{oldest % DEVICES}"
        answer = resolve([name], registry.current(), devices)
    except NriError as error:
        result.errors[str(error)] += 1
        return
    result.slowest_ms = max(result.slowest_ms, (time.perf_counter() - asked) * 1e3)
    newest = begun[file]
    version = int(next(env.value for env in answer.adjust.env if env.key == VARIABLE))
    result.answers += 1
    seen.add((file, version))
    if not oldest <= version <= newest:
        result.wrong.append(f"file {file}: {version}, not from {oldest} to {newest}")


def main() -> int:
    """Print what each pass found; the status is 1 if any answer was wrong or an error."""
    with tempfile.TemporaryDirectory() as directory:
        context = multiprocessing.get_context("spawn")
        versions = (context.RawArray(c_uint64, FILES), context.RawArray(c_uint64, FILES))
        for file in range(FILES):
            Path(directory, f"churn{file}.yaml").write_text(text_of(file, 0))
        registry = CdiRegistry([directory])
        registry.current()
        passes = [
            one_pass(registry, directory, versions, way)
            for way in WAYS
            for _ in range(CHANGES.passes)
        ]
        registry.close()
    heads = ("way", "changes", "answers", "versions", "wrong", "errors", "s", "slowest ms")
    print("".join(f"{head:>11}" for head in (*heads, "RSS kB", "after", "fds")))
    for one in passes:
        counts = (one.way, one.changes, one.answers, one.different)
        rest = (one.rss_before_kb, one.rss_after_kb, one.descriptors)
        wrong = (len(one.wrong), one.errors.total())
        shown = (*counts, *wrong, f"{one.seconds:.2f}", f"{one.slowest_ms:.1f}", *rest)
        print("".join(f"{value:>11}" for value in shown))
        for sentence in (*one.wrong[:5], *one.errors):
            print(f"  {sentence}")
    if CHANGES.json:
        CHANGES.json.write_text(json.dumps([asdict(one) for one in passes], indent=2) + "\n")
    return int(any(one.wrong or one.errors for one in passes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Change CDI specs while resolving.")
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    CHANGES = _arguments()
    sys.exit(main())

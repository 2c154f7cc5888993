"""How long a pattern made for backtracking keeps the hook injector, over the real wire.

    .venv/bench/bin/python benchmarks/hostile_pattern.py

The pattern `(a+)+$` meets an annotation of 200,000 letters that almost fits; a request without
the annotation is its neighbour.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from players import play, request_of, start

PATTERN = "(a+)+$"
LETTERS = 200_000
TIMES = 50


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as directory:
        definition = {
            "version": "1.0.0",
            "hook": {"path": "/bin/true"},
            "when": {"annotations": {"^text$": PATTERN}},
            "stages": ["createRuntime"],
        }
        Path(directory, "hostile.json").write_text(json.dumps(definition))
        plugin = Path(directory, "10-hook-injector")
        command = Path(sys.executable).with_name("nri-hook-injector")
        # An option rather than the default directories: this run needs no privilege.
        plugin.write_text(f"#!/bin/sh\nexec {command} --hooks-dir {directory}\n")
        plugin.chmod(0o755)
        peer = start(plugin)
        for what, text in (("without", None), ("with", "a" * LETTERS + "b")):
            request = request_of({} if text is None else {"text": text})
            milliseconds = [seconds * 1e3 for seconds in play(peer, request, TIMES)]
            middle, longest = statistics.median(milliseconds), max(milliseconds)
            print(f"{what:8} the annotation: median {middle:.2f} ms, longest {longest:.2f} ms")
        peer.close()


if __name__ == "__main__":
    main()

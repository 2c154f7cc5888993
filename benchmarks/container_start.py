"""What part of a container's start the plugins are, on a real containerd of Debian's; needs root.

.venv/bin/python benchmarks/container_start.py [--containers N] [--runtime NAME]

Two containerds take turns, one of them without a plugin. A start is CreateContainer and
StartContainer of CRI; the container is removed before the next turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import samples  # noqa: E402 - beside this file
from e2e.archive import open_archive  # noqa: E402 - found by the line above
from e2e.containerd import Containerd  # noqa: E402 - found by the line above
from e2e.cri import compile_api  # noqa: E402 - found by the line above
from e2e.daemon import Options  # noqa: E402 - found by the line above
from e2e.plugin import External  # noqa: E402 - found by the line above

WARMED_UP: Final = 5
SUITE: Final = "nri-inject run --unsafe-unrestricted"
ASKED: Final[Mapping[str, tuple[bool, Mapping[str, str]]]] = {
    "no plugin": (False, {}),
    "suite, nothing asked": (True, {}),
    "suite, two devices and a mount": (True, samples.DEVICES),
}


def main(argv: Sequence[str]) -> None:
    """Measure, and print a line for each peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--runtime", default="containerd-2")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        archive = open_archive()
        api = compile_api(archive.cri_proto, where)
        tools = archive.containerd_tools(options.runtime)
        daemons: dict[bool, tuple[Containerd, str]] = {}
        for has_plugin in (False, True):
            daemon = Containerd(options.runtime, tools, archive, api, Options())
            stack.enter_context(closing(daemon))
            daemon.start()
            daemons[has_plugin] = daemon, daemon.cri.run_pod("measured")
        stack.enter_context(closing(External(SUITE, daemons[True][0], where / "log")))
        seconds: dict[str, list[float]] = {peer: [] for peer in ASKED}
        for number in range(WARMED_UP + options.containers):
            for peer, (has_plugin, annotations) in ASKED.items():
                taken = _start(*daemons[has_plugin], annotations)
                if number >= WARMED_UP:
                    seconds[peer].append(taken)
    alone = statistics.median(seconds["no plugin"])
    for peer, taken_all in seconds.items():
        median = statistics.median(taken_all)
        share = f"{(median - alone) / median:+.1%} of it" if peer != "no plugin" else ""
        print(f"{peer:32}{median * 1000:8.2f} ms  {share}")


def _start(daemon: Containerd, pod: str, annotations: Mapping[str, str]) -> float:
    began = time.perf_counter()
    container = daemon.cri.run(pod, "main", annotations=annotations)
    taken = time.perf_counter() - began
    daemon.cri.stop(container)
    daemon.cri.remove_container(container)
    return taken


if __name__ == "__main__":
    main(sys.argv[1:])

"""Load directories of CDI specs with our registry and resolve two devices; print one JSON object.

    .venv/bench/bin/python benchmarks/cdi_child.py REPEATS DEVICE DEVICE DIRECTORY...

The same as benchmarks/go/cdi-bench does with the Go library. Each run is a process of its own, so
no load finds a warm heap; what starting the process and importing cost is not part of the load.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

from players import request_of, resident

from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import resolve
from nri_inject.host.nodes import HostDevices


def main(repeats: int, wanted: list[str], directories: list[str]) -> None:
    """Measure, and print."""
    before = resident("self")
    began = time.perf_counter()
    registry = CdiRegistry(directories)
    snapshot = registry.current()
    load = time.perf_counter() - began
    loaded = resident("self")
    container = request_of({}).container
    devices = HostDevices()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        resolve(wanted, registry.current(), devices, container=container)
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    result = {
        "library": version("nri-inject"),
        "devices": len(snapshot.devices),
        "errors": len(snapshot.errors),
        "load_ms": load * 1e3,
        "resolve_p50_us": seconds[repeats // 2] * 1e6,
        "resolve_p99_us": seconds[repeats * 99 // 100] * 1e6,
        "rss_before_kb": before,
        "rss_loaded_kb": loaded,
        "rss_end_kb": resident("self"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:4], sys.argv[4:])

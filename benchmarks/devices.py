"""What devices by selector cost: to start, in memory, and for each container that asks.

    python benchmarks/devices.py [NODES]

The host is a tree of plain files with that many nodes (5,000 unless given), half of them the ttys
of USB serial adapters and half the adapters' own. Each figure is the median of several rounds.
"""

from __future__ import annotations

import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.machine import many, write

from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.selectors import Selector, parse
from nri_inject.host.devices.source import HostInventory
from nri_inject.host.devices.uevents import Uevents

ROUNDS = 15
STARTS = (
    ("the device injector, launched", "import nri_inject.plugins.device_injector"),
    (
        "and the first selector",
        "import nri_inject.host.devices.selected, nri_inject.host.devices.live",
    ),
    (
        "and libudev, for a property",
        "from nri_inject.host.devices import udev; udev.properties('/x')",
    ),
)
SELECTORS = (
    "usb:1a86:7523:S17",
    "/dev/serial/by-path/port-1[0-9]",
    "class:tty-usb,KERNEL=ttyUSB17",
    "udev:SUBSYSTEM=tty,ID_SERIAL_SHORT=S17",
    # As costly as a pod's author can make one.
    "udev:" + ",".join(["ATTRS{idVendor}=*[0-9]*[0-9]*"] * 7 + ["SUBSYSTEMS=none"]),
)


def milliseconds(action: Callable[[], object], rounds: int = ROUNDS) -> str:
    """Return the median and the worst of several rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1000)
    return f"{statistics.median(taken):8.2f} ms, worst {max(taken):8.2f} ms"


def asked(selector: Selector, look: Callable[[], Inventory]) -> None:
    """Look at the host, and for the devices that a selector means."""
    selector.select(look())


def started(statements: list[str]) -> None:
    """Start a Python that runs these statements."""
    subprocess.run([sys.executable, "-c", "; ".join(statements)], check=True)


def memory() -> float:
    """Return the resident size at its peak, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(root: Path, nodes: int) -> None:
    """Print the figures for one host."""
    before = memory()
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, closing(HostInventory(str(root), lambda: Uevents(ours))) as source:
        look = source.inventory
        print(f"first look at {nodes} nodes:     {milliseconds(look, 1)}")
        print(f"next look, nothing new:       {milliseconds(look)}")
        device = parse("class:tty-usb,KERNEL=ttyUSB17").select(look())[0]
        news = f"x@x\0DEVPATH={device.syspath}\0SUBSYSTEM=tty\0MAJOR=188\0MINOR=17\0".encode()

        def told() -> None:
            kernel.send(news)
            look()

        print(f"look after news of a device:  {milliseconds(told)}")
        for text in SELECTORS:
            ask = partial(asked, parse(text), look)
            first = milliseconds(ask, 1)
            later = milliseconds(ask)
            print(f"{text[:44]:44} first {first.split(',')[0]}, then {later}")
    print(f"memory for all of this: {memory() - before:.1f} MiB")


def main() -> None:
    """Measure starts in processes of their own, the rest in this one."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    statements: list[str] = []
    for what, statement in STARTS:
        statements.append(statement)
        print(f"start {what:32} {milliseconds(lambda: started(statements))}")
    with tempfile.TemporaryDirectory() as directory:
        measure(write(Path(directory), many(nodes)), nodes)


if __name__ == "__main__":
    main()

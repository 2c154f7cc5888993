"""Containers that are created while something happens to a plugin, each looked into.

NRI_E2E_ROUNDS is how many rounds there are.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .daemon import Daemon
from .poll import until

ROUNDS = int(os.environ.get("NRI_E2E_ROUNDS", "2"))
CREATED = 70  # containers in a round, at RATE a second as far as the machine can
RATE = 20
CLIENTS = 6
POD = "shop"
CHECK = ("sh", "-c", "test -c /dev/fuse")
FUSE = {"devices.noderesource.dev/pod": "- path: /dev/fuse\n"}


class Trouble(Protocol):
    """Something that happens to a plugin, in a thread of its own, until it is `done`."""

    done: threading.Event

    def run(self) -> None:
        """Make it happen."""


@dataclass
class Creation:
    """Containers of one pod, created at a rate by several clients, each looked into."""

    daemon: Daemon
    pod: str
    seconds: dict[str, float] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def run(self, count: int) -> None:
        """Create them all."""
        self.began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for _ in clients.map(self._create, range(count)):
                pass
        self.ended = time.monotonic()

    def run_beside(self, trouble: Trouble) -> None:
        """Create the containers of all rounds while trouble is made; each has its device."""
        thread = threading.Thread(target=trouble.run)
        thread.start()
        try:
            self.run(ROUNDS * CREATED)
        finally:
            trouble.done.set()
            thread.join()
        assert self.without == []

    def _create(self, number: int) -> None:
        due = self.began + number / RATE
        time.sleep(max(due - time.monotonic(), 0))
        name = f"c{number}"
        cri = self.daemon.cri
        begun = time.monotonic()
        container = cri.create(self.pod, name, command=CHECK)
        self.seconds[name] = time.monotonic() - begun
        cri.start(container)
        ended = until(lambda: cri.status(container).finished_at and cri.status(container), name)
        if ended.exit_code != 0:
            self.without.append(name)
        cri.remove_container(container)


def running(program: str) -> list[int]:
    """Return the processes that have a program among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if program.encode() in arguments:
            found.append(int(entry.name))
    return found

"""A plugin command as a process on a connection of the test's, in the role of the runtime."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.runtime.peer import Peer

BOUND = 20.0
"""How long anything may take before its test fails, in seconds."""

NOT_NEEDED = frozenset(
    {"asyncio", "click", "importlib.metadata", "jsonschema", "prometheus_client", "pyudev"}
)
"""Modules of more than 1 MiB that an injector does without when it is launched, asked, and asked
how it is."""


@dataclass
class Running:
    """A plugin process, and the connection that it was launched with."""

    process: subprocess.Popen[str]
    peer: Peer

    def configured(self, config: str = "", runtime: Runtime = NEWEST) -> Self:
        """Register and configure it."""
        self.peer.register(BOUND)
        self.peer.configure(runtime, config, BOUND)
        return self

    def end(self) -> tuple[int, str, str]:
        """Hang up as a runtime that ends; return the status and what was written."""
        self.peer.close()
        output, log = self.process.communicate(timeout=BOUND)
        return self.process.returncode, output, log


@contextmanager
def launched(program: str | Path, *arguments: str, **environ: str) -> Iterator[Running]:
    """Start a command the way a runtime does, but for its arguments and what it may write to.

    `program` is a path, or the name of a console script of ours.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments],
            env={"NRI_PLUGIN_SOCKET": str(theirs.fileno()), **environ},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process, closing(Peer(ours)) as peer:
        try:
            yield Running(process, peer)
        finally:
            if process.poll() is None:
                process.kill()

"""The runtime's side: what launches plugins, asks them, and times how long they take.

Either NRI's own adaptation, which runtimes are made of, in a process of its own (go/driver), or
our embedded runtime side, which needs no Go.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from players import resident, start

from nri_inject.api import (
    CreateContainerRequest,
    CreateContainerResponse,
    SynchronizeRequest,
    SynchronizeResponse,
)
from nri_inject.runtime import peer as embedded


class Played(NamedTuple):
    """How many seconds each request took, and the last answer."""

    seconds: list[float]
    response: CreateContainerResponse


class Existing(NamedTuple):
    """How many pods and containers there are when a plugin starts, each as in the sample."""

    pods: int
    containers: int
    sample: CreateContainerRequest


class Peer(Protocol):
    """Plugins that are asked one after the other.

    `launch` is how many seconds it took from the launch until they were synchronized, and
    `synchronize` how many of them were for that last step.
    """

    launch: float
    synchronize: float

    @property
    def resident(self) -> int:
        """The resident memory of the plugins together, in kB."""

    def play(self, requests: Sequence[CreateContainerRequest], times: int) -> Played:
        """Create containers, of the requests in turn."""

    def close(self) -> None:
        """End the plugins."""


class Side(Protocol):
    """A runtime."""

    def start(self, plugins: Path, configs: Path, existing: Existing | None = None) -> Peer:
        """Launch what is pre-installed in a directory; another one has their configurations."""

    def connect(self, command: Sequence[str], socket: Path) -> Peer | None:
        """Run a plugin that dials a socket; None if this runtime cannot."""

    def close(self) -> None:
        """End, and every plugin too."""


# --- NRI's adaptation ---------------------------------------------------------------------------


class GoSide:
    """NRI's own runtime adaptation."""

    def __init__(self, driver: Path) -> None:
        self._process = subprocess.Popen(
            [driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._started = 0

    def start(self, plugins: Path, configs: Path, existing: Existing | None = None) -> GoPeer:
        """Launch what is pre-installed in a directory; another one has their configurations."""
        there: dict[str, object] = {}
        if existing is not None:
            sample = _encoded(existing.sample)
            there = {"pods": existing.pods, "containers": existing.containers, "sample": sample}
        where = {"plugins": str(plugins), "config": str(configs)}
        return self._peer({"do": "start", **where, **there})

    def connect(self, command: Sequence[str], socket: Path) -> GoPeer:
        """Run a plugin that dials a socket."""
        return self._peer({"do": "connect", "command": list(command), "socket": str(socket)})

    def tell(self, command: dict[str, object]) -> dict[str, Any]:
        """Tell the driver what to do, and return its answer."""
        said, heard = self._process.stdin, self._process.stdout
        if said is None or heard is None:
            raise AssertionError("both are pipes")
        said.write(json.dumps(command) + "\n")
        said.flush()
        line = heard.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the driver has ended"}
        if "error" in answer:
            raise SystemExit(f"{command['do']} {command['peer']}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the driver, which ends its plugins."""
        self._process.communicate()

    def _peer(self, command: dict[str, object]) -> GoPeer:
        self._started += 1
        name = str(self._started)
        return GoPeer(self, name, self.tell({**command, "peer": name}))


class GoPeer:
    """Plugins of NRI's adaptation."""

    def __init__(self, side: GoSide, name: str, started: dict[str, Any]) -> None:
        self._side = side
        self._name = name
        self._pids = started["pids"]
        self.launch = started["launch_ns"] / 1e9
        self.synchronize = started["synchronize_ns"] / 1e9

    @property
    def resident(self) -> int:
        """The resident memory of the plugins together, in kB."""
        return sum(map(resident, self._pids))

    def play(self, requests: Sequence[CreateContainerRequest], times: int) -> Played:
        """Create containers, of the requests in turn."""
        encoded = [_encoded(request) for request in requests]
        command = {"do": "play", "peer": self._name, "requests": encoded, "times": times}
        answer = self._side.tell(command)
        response = CreateContainerResponse.FromString(b64decode(answer["response"] or ""))
        return Played([wait / 1e9 for wait in answer["waits_ns"]], response)

    def close(self) -> None:
        """End the plugins."""
        self._side.tell({"do": "stop", "peer": self._name})


def _encoded(request: CreateContainerRequest) -> str:
    return b64encode(request.SerializeToString()).decode()


# --- our own runtime side -----------------------------------------------------------------------


class EmbeddedSide:
    """Our own runtime side; it asks plugins in order, and leaves merging their answers out."""

    def start(self, plugins: Path, configs: Path, existing: Existing | None = None) -> EmbeddedPeer:
        """Launch what is pre-installed in a directory; another one has their configurations."""
        programs = {
            program: (configs / f"{program.name}.conf").read_text()
            for program in sorted(plugins.iterdir())
        }
        return EmbeddedPeer(programs, existing)

    def connect(self, command: Sequence[str], socket: Path) -> None:
        """Say that this runtime does not listen."""
        del command, socket

    def close(self) -> None:
        """Hold nothing."""


class EmbeddedPeer:
    """Plugins of our own runtime side."""

    def __init__(self, programs: Mapping[Path, str], existing: Existing | None) -> None:
        began = time.perf_counter()
        self._peers = [start(program, config) for program, config in programs.items()]
        self.launch = time.perf_counter() - began
        began = time.perf_counter()
        if existing is not None:
            for one in self._peers:
                _synchronize(one, existing)
        self.synchronize = time.perf_counter() - began

    @property
    def resident(self) -> int:
        """The resident memory of the plugins together, in kB."""
        return sum(resident(one.pid) for one in self._peers)

    def play(self, requests: Sequence[CreateContainerRequest], times: int) -> Played:
        """Create containers, of the requests in turn."""
        seconds = []
        response = CreateContainerResponse()
        for number in range(times):
            request = requests[number % len(requests)]
            response = CreateContainerResponse()
            began = time.perf_counter()
            for one in self._peers:
                response.MergeFrom(one.request("CreateContainer", request, CreateContainerResponse))
            seconds.append(time.perf_counter() - began)
        return Played(seconds, response)

    def close(self) -> None:
        """End the plugins."""
        for one in self._peers:
            one.close()


_PODS_OF_A_MESSAGE = 200
"""With 2 containers each it stays far below the longest message."""


def _synchronize(peer: embedded.Peer, existing: Existing) -> None:
    """Tell in parts what exists, as runtimes do."""
    pods, each = existing.pods, existing.containers // existing.pods
    while pods:
        part = min(pods, _PODS_OF_A_MESSAGE)
        pods -= part
        message = SynchronizeRequest(
            pods=[existing.sample.pod] * part,
            containers=[existing.sample.container] * (part * each),
            more=bool(pods),
        )
        peer.request("Synchronize", message, SynchronizeResponse)


def bare_python(python: str) -> float:
    """Return how many seconds `python -I -S -c pass` takes from its launch to its end."""
    began = time.perf_counter()
    pid = os.posix_spawn(python, [python, "-I", "-S", "-c", "pass"], {})
    _, status = os.waitpid(pid, 0)
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"{python} -I -S -c pass ended with status {status}")
    return took

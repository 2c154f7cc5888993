"""What a request costs inside of a plugin, without runtime and kernel, and in which functions.

    .venv/bench/bin/python benchmarks/inside.py [--cold] [--profile N]
        devices|cdi|hooks|suite|policy

Both ends of the session are in this process, and nothing is waited for, so caches are warm. With
`--cold` the processor's caches are filled with something else before each request, as they are for
a plugin that has slept. The figures show what costs how much beside what, and `--profile` the N
functions in which the most time was spent. What is logged and audited is in them, although a
container does not wait for it: without a stub that is done at once.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Final

import samples
from bench import UNRESTRICTED
from players import request_of

from nri_inject.api import ConfigureRequest, CreateContainerRequest
from nri_inject.plugin import Plugin, dispatch
from nri_inject.plugins import cdi_injector, device_injector, hook_injector, suite
from nri_inject.service import logs
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.injector import service_of
from nri_inject.wire.session import Call, Role, Session

TIMES = 3000
_OTHER_DATA: Final = bytearray(16 << 20)
"""More than a processor core's own caches hold, and more pages than it remembers the places of."""
_LINE: Final = 64
STEPS = ("decoded after", "answered after", "encoded after")

_PARTS: Final = {
    "devices": (device_injector.PART,),
    "cdi": (cdi_injector.PART,),
    "hooks": (hook_injector.PART,),
    "suite": suite.PARTS,
    "policy": suite.PARTS,
}
_CONFIGS: Final = {"policy": samples.policy(100)}
"""The configuration of what is not unrestricted: here the decisions and the audit are measured."""
_REQUESTS: Final[Mapping[str, Callable[[], CreateContainerRequest]]] = {
    "devices": lambda: request_of(samples.DEVICES),
    "cdi": lambda: request_of(samples.cdi_annotation(*samples.wanted(10, 1000))),
    "hooks": lambda: request_of(samples.HOOKED, samples.COMMAND),
    "suite": samples.everything,
    "policy": samples.everything,
}


def main(argv: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What a request costs inside of a plugin.")
    parser.add_argument("what", choices=_PARTS)
    parser.add_argument("--cold", action="store_true", help="with other data in the core's caches")
    parser.add_argument("--profile", type=int, metavar="N", help="show the N costliest functions")
    arguments = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory() as directory,
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),  # the log is written, and thrown away
    ):
        plugin = _plugin(arguments.what, Path(directory))
        request = _REQUESTS[arguments.what]()
        for title, asked in (("nothing asked", request_of({})), ("all asked", request)):
            medians = _medians(plugin, asked, cold=arguments.cold)
            shown = ", ".join(
                f"{step} {took:.0f} µs" for step, took in zip(STEPS, medians, strict=True)
            )
            print(f"{arguments.what}, {title}: {shown}")
        if arguments.profile:
            with cProfile.Profile() as profile:
                _medians(plugin, request, cold=arguments.cold)
            pstats.Stats(profile).sort_stats("tottime").print_stats(arguments.profile)


def _plugin(what: str, directory: Path) -> Plugin:
    """Make a plugin as its command does."""
    samples.write_hooks(directory / "hooks", 21)
    samples.write_cdi(directory / "cdi", "json", 10, 1000)
    logs.configure()
    options = Options(
        idx="10",
        name=what,
        cdi_dir=(str(directory / "cdi"),),
        hooks_dir=(str(directory / "hooks"),),
        unsafe_files=True,
    )
    plugin = service_of(*_PARTS[what])(options, Config()).plugin
    if plugin.configure is not None:
        plugin.configure(ConfigureRequest(config=_CONFIGS.get(what, UNRESTRICTED)))
    return plugin


def _medians(plugin: Plugin, request: CreateContainerRequest, *, cold: bool) -> list[float]:
    """Return how many microseconds had passed after each step."""
    runtime, ours = Session(Role.RUNTIME), Session(Role.PLUGIN)
    rounds = []
    for _ in range(TIMES):
        runtime.call("CreateContainer", request)
        data = runtime.outgoing()
        if cold:
            _OTHER_DATA[::_LINE]  # reads a byte of each line
        began = time.perf_counter()
        (call,) = ours.receive(data)
        if not isinstance(call, Call):
            raise SystemExit(f"{call} instead of a call")
        decoded = time.perf_counter()
        response = dispatch(plugin, call.method, call.request)
        answered = time.perf_counter()
        ours.answer(call, response)
        data = ours.outgoing()
        encoded = time.perf_counter()
        runtime.receive(data)
        rounds.append((decoded - began, answered - began, encoded - began))
    return [statistics.median(step) * 1e6 for step in zip(*rounds, strict=True)]


if __name__ == "__main__":
    main(sys.argv[1:])

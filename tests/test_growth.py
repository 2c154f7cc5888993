"""The suite's memory and descriptors do not grow with the number of pods that lived and ended.

`NRI_INJECT_PODS` is that number; `make soak` sets 50,000.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.children import children, family
from support.lives import live

from nri_inject.errors import NriError
from nri_inject.testing import FakeRuntime, make_container, make_pod

PROGRAM = Path(sys.executable).with_name("nri-inject")
WARM = 300
PODS = int(os.environ.get("NRI_INJECT_PODS", "600"))
MAX_GROWTH = 1024  # kB

pytestmark = [pytest.mark.slow, pytest.mark.soak]


def used(pid: int) -> tuple[int, int]:
    """Return the resident memory in kB and the number of open descriptors of a service."""
    resident = descriptors = 0
    for process in (Path(f"/proc/{member}") for member in family(pid)):
        fields = (line.split() for line in (process / "status").read_text().splitlines())
        resident += next(int(words[1]) for words in fields if words[0] == "VmRSS:")
        descriptors += len([*(process / "fd").iterdir()])
    return resident, descriptors


def live_through(runtime: FakeRuntime, number: int) -> None:
    """Run a pod of its own annotation; the container of every third pod fails."""
    path = "/dev/full" if number % 3 else f"/dev/nowhere-{number}"
    text = f"- {{path: {path}}} # {number}"
    pod = make_pod(f"pod-{number}", annotations={"devices.noderesource.dev/pod": text})
    container = make_container(pod)
    if number % 3:
        live(runtime, pod, container)
        return
    runtime.run_pod(pod)
    with pytest.raises(NriError, match=path):
        runtime.create(container)
    runtime.stop_pod(pod.id)
    runtime.remove_pod(pod.id)


def test_many_pods_leave_nothing_behind() -> None:
    before = children()
    with FakeRuntime() as runtime:
        runtime.launch(PROGRAM, "policy: unrestricted", title="20-nri-inject")
        (pid,) = children() - before
        for number in range(WARM):
            live_through(runtime, number)
        resident, descriptors = used(pid)
        for number in range(WARM, WARM + PODS):
            live_through(runtime, number)
        grown, open_now = used(pid)
    assert open_now == descriptors
    assert grown - resident <= MAX_GROWTH

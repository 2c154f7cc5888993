"""What runtimes make of an update of resources."""

from __future__ import annotations

from nri_inject import api
from nri_inject.runtime import resources


def current() -> api.LinuxResources:
    return api.LinuxResources(
        memory=api.LinuxMemory(limit={"value": 1}, swap={"value": 1}),
        cpu=api.LinuxCPU(shares={"value": 2}, cpus="0-1"),
        hugepage_limits=[api.HugepageLimit(page_size="2MB", limit=1)],
        unified={"a": "1", "b": "1"},
    )


WANTED = api.LinuxResources(
    memory=api.LinuxMemory(limit={"value": 9}, swap={"value": 9}),
    cpu=api.LinuxCPU(shares={"value": 0}, quota={"value": 5}, realtime_runtime={"value": 3}),
    hugepage_limits=[
        api.HugepageLimit(page_size="1GB", limit=2),
        api.HugepageLimit(page_size="2MB", limit=3),
    ],
    unified={"b": "2"},
    blockio_class={"value": "gold"},
    pids={"limit": 7},
)


def test_containerd_takes_some_fields_and_no_zero() -> None:
    changed = current()
    resources.update(changed, WANTED, everything=False)
    assert changed == api.LinuxResources(
        memory=api.LinuxMemory(limit={"value": 9}, swap={"value": 1}),
        cpu=api.LinuxCPU(shares={"value": 2}, quota={"value": 5}, cpus="0-1"),
        hugepage_limits=WANTED.hugepage_limits,
        unified={"a": "1", "b": "2"},
    )


def test_crio_takes_everything() -> None:
    changed = current()
    resources.update(changed, WANTED, everything=True)
    assert (changed.memory.swap.value, changed.cpu.realtime_runtime.value) == (9, 3)
    assert (changed.blockio_class.value, changed.pids.limit) == ("gold", 7)


def test_what_is_wanted_stays_as_it_is() -> None:
    before = api.LinuxResources()
    before.CopyFrom(WANTED)
    resources.update(current(), WANTED, everything=False)
    assert before == WANTED

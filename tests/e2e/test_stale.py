"""Containers whose device goes away or gets another number, with real events of the kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from .loops import FIRST, MAJOR, Loops, loops
from .poll import until
from .suite import Suite

NODES = f"/dev/loop{FIRST // 10}?"
STICK = {"devices.noderesource.dev/pod": f"- {{device: '{NODES}', as: /dev/stick}}"}
POLICY = f"{{rules: [{{who: {{}}, allow: {{devices: [{{path: '{NODES}', type: b}}]}}}}]}}"


@pytest.fixture
def kernel() -> Iterator[Loops]:
    with loops() as made:
        yield made


@pytest.fixture(autouse=True)
def _policy(suite: Suite) -> None:
    """Let every pod have the loop devices of the tests."""
    suite.kill()
    suite.config.write_text(f"policy: {POLICY}\naudit: {{file: {suite.audit}}}\n")
    suite.start()


def because(suite: Suite) -> list[tuple[str, ...]]:
    return [(one["pod"], *one["because"]) for one in suite.found("stale")]


def until_stale(suite: Suite, *expected: tuple[str, ...]) -> float:
    """Wait until just these are stale, and return after how many seconds that is."""
    begin = time.monotonic()
    until(lambda: because(suite) == list(expected), f"{expected} to be stale")
    return time.monotonic() - begin


def node(suite: Suite, container: str) -> str:
    answer: Any = suite.runtime.cri.exec(container, "ls", "-l", "/dev/stick")
    return " ".join(answer.stdout.split()[4:6])


def test_a_container_whose_device_has_gone_or_changed_is_stale_also_after_a_restart(
    suite: Suite, kernel: Loops
) -> None:
    cri = suite.runtime.cri
    kernel.plug(FIRST)
    container = cri.run(cri.run_pod("zigbee", annotations=STICK), "main")
    cri.run(cri.run_pod("other"), "main")
    assert node(suite, container) == f"{MAJOR}, {FIRST}"
    assert because(suite) == []

    kernel.unplug(FIRST)
    gone = ("default/zigbee", f"/dev/stick ({MAJOR}:{FIRST}) is gone")
    seconds = until_stale(suite, gone)
    assert seconds < 25.0  # by the event, and not by the look that comes every 30 s
    assert f"pod default/zigbee, container main: stale, because {gone[1]}" in suite.process.log
    kernel.plug(FIRST)
    until_stale(suite)

    kernel.unplug(FIRST)
    kernel.plug(FIRST + 1)
    moved = ("default/zigbee", f"/dev/stick is now {MAJOR}:{FIRST + 1}")
    until_stale(suite, moved)

    suite.kill()
    suite.start()
    until_stale(suite, moved)
    suite.kill()
    kernel.unplug(FIRST + 1)
    kernel.plug(FIRST)
    suite.start()
    time.sleep(2.0)  # by then it would be reported
    assert because(suite) == []
    kernel.unplug(FIRST)
    until_stale(suite, gone)

    cri.call("StopContainer", container_id=container, timeout=0)
    until_stale(suite)

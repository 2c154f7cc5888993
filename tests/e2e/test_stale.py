"""Containers whose device goes away or gets another number, with real events of the kernel."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nri_inject.cli.upgrade import upgraded

from .loops import FIRST, MAJOR, Loops, loops
from .poll import until
from .suite import Suite

NODES = f"/dev/loop{FIRST // 10}?"
STICK = {"devices.noderesource.dev/pod": f"- {{device: '{NODES}', as: /dev/stick}}"}
RESTART = {
    "devices.noderesource.dev/pod": (
        f"- {{device: '{NODES}', as: /dev/stick, on_change: restart, optional: true}}"
    )
}
POLICY = f"{{rules: [{{who: {{}}, allow: {{devices: [{{path: '{NODES}', type: b}}]}}}}]}}"


@pytest.fixture
def kernel() -> Iterator[Loops]:
    with loops() as made:
        yield made


@pytest.fixture(autouse=True)
def _policy(suite: Suite) -> None:
    """Let every pod have the loop devices of the tests."""
    suite.kill()
    configure(suite)
    suite.start()


def configure(suite: Suite, more: str = "") -> None:
    suite.config.write_text(f"policy: {POLICY}\naudit: {{file: {suite.audit}}}\n{more}")


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
    assert seconds < 30.0  # by the event, and not by the look that comes every 60 s
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


def test_a_stale_container_that_requests_it_is_stopped_and_has_the_new_number_when_created_anew(
    suite: Suite, kernel: Loops
) -> None:
    cri = suite.runtime.cri
    suite.kill()
    configure(
        suite,
        f"stale: requested\nrestart: {{cri_socket: {suite.runtime.socket}, grace_seconds: 0}}\n",
    )
    suite.start()
    kernel.plug(FIRST)
    asks = cri.run_pod("asks", annotations=RESTART)
    silent = cri.run_pod("silent", annotations=STICK)
    container, other = cri.run(asks, "main"), cri.run(silent, "main")

    kernel.unplug(FIRST)
    gone = f"/dev/stick ({MAJOR}:{FIRST}) is gone"
    until_stale(suite, ("default/asks", gone), ("default/silent", gone))
    assert suite.status()["restarts"]["stopped"] == 0  # a restart would give no device

    kernel.plug(FIRST + 1)
    until(lambda: suite.status()["restarts"]["stopped"] == 1, "the restart")
    why = f"/dev/stick is now {MAJOR}:{FIRST + 1}"
    until_stale(suite, ("default/silent", why))
    assert cri.list_containers(asks) == {container: "CONTAINER_EXITED"}
    assert cri.list_containers(silent) == {other: "CONTAINER_RUNNING"}
    assert f"stopped for the kubelet to create it anew (stale: {why})" in suite.process.log
    line = json.loads(suite.audit.read_text().splitlines()[-1])
    assert (line["kind"], line["requested"], line["resolved"]) == ("restart", "stale", why)
    cri.remove_container(container)
    assert node(suite, cri.run(asks, "main")) == f"{MAJOR}, {FIRST + 1}"


def test_the_next_worker_and_the_next_version_follow_the_same_containers(
    suite: Suite, kernel: Loops
) -> None:
    cri = suite.runtime.cri
    kernel.plug(FIRST)
    container = cri.run(cri.run_pod("zigbee", annotations=STICK), "main")
    gone = ("default/zigbee", f"/dev/stick ({MAJOR}:{FIRST}) is gone")
    assert because(suite) == []
    os.kill(suite.status()["worker"]["pid"], signal.SIGKILL)
    until(lambda: suite.status()["worker"]["failures"] == 1, "the next worker")
    kernel.unplug(FIRST)
    until_stale(suite, gone)
    (since,) = (one["since"] for one in suite.found("stale"))

    name = f"20-nri-inject.{suite.process.process.pid}"
    row = upgraded(name, f"{os.environ['NRI_INJECT_STATUS_DIR']}/{name}.sock")
    assert (row["error"], suite.status()["upgrades"]["count"]) == ("", 1)
    assert [one["since"] for one in suite.found("stale")] == [since]
    kernel.plug(FIRST)
    until_stale(suite)
    kernel.unplug(FIRST)
    until_stale(suite, gone)

    os.kill(cri.details(container)["pid"], signal.SIGKILL)
    until_stale(suite)  # it has ended by itself

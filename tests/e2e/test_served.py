"""Which containers the suite has served, on real runtimes: its mark, the missed, and drift."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nri_inject.api import Container, Pod
from nri_inject.host.devices.presence import registration
from nri_inject.plugin import Plugin
from nri_inject.service.health import mark
from nri_inject.stub import Stub

from .cri import CriError
from .daemon import Daemon
from .poll import until
from .suite import FUSE, Suite, has_fuse

KEY = mark.PREFIX + "nri-inject"
MISSED = {"lacks": ["device /dev/fuse"], "refused": "", "restart": ""}


def annotations_of(suite: Suite, container: str) -> dict[str, str]:
    annotations: dict[str, str] = suite.runtime.bundle_spec(container)["annotations"]
    return annotations


def test_a_container_that_was_served_has_the_mark_and_is_not_missed(suite: Suite) -> None:
    cri = suite.runtime.cri
    served = cri.run(cri.run_pod("served", annotations=FUSE), "main")
    other = cri.run(cri.run_pod("other"), "main")
    numbers = ["c", 10, 229, registration(("c", 10, 229))]
    devices = json.dumps({"/dev/fuse": numbers}, separators=(",", ":"))
    assert annotations_of(suite, served)[KEY] == f"{served} {devices}"
    assert KEY not in annotations_of(suite, other)
    suite.kill()
    suite.start()
    said = suite.status()
    assert (said["compared"], said["missed"]["count"], said["drifted"]["count"]) == (2, 0, 0)


def test_a_container_of_the_time_without_the_plugin_is_missed_even_one_that_would_be_refused(
    suite: Suite,
) -> None:
    cri = suite.runtime.cri
    suite.kill()
    forged = FUSE | {KEY: "f" * 64}
    cri.run(cri.run_pod("forged", annotations=forged), "main")
    cri.run(cri.run_pod("typing", annotations={"devices.noderesource.dev": "- pth: /x"}), "app")
    suite.start()
    found = {one["pod"]: one for one in suite.found("missed")}
    assert found["default/forged"] == {"pod": "default/forged", "container": "main", **MISSED}
    assert "unknown key 'pth'" in found["default/typing"]["refused"]
    assert suite.status()["drifted"]["count"] == 0


def test_a_changed_hook_or_policy_is_drift(suite: Suite) -> None:
    cri = suite.runtime.cri
    served = cri.run(cri.run_pod("served", annotations=FUSE), "main")
    cri.run(cri.run_pod("plain"), "main")
    suite.kill()
    time.sleep(0.05)  # a clock tick of the kernel, by which processes and files are compared
    suite.define_hook("new", "/bin/true")
    suite.start()
    assert suite.found("missed") == []
    assert {(one["pod"], *one["lacks"]) for one in suite.found("drifted")} == {
        ("default/served", "hook /bin/true"),
        ("default/plain", "hook /bin/true"),
    }
    suite.kill()
    suite.configure(allowed=False)
    suite.start()
    assert suite.found("missed") == []
    refused = {one["pod"]: one["refused"] for one in suite.found("drifted")}
    assert "no rule" in refused["default/served"]
    assert has_fuse(suite, served)


def test_a_hook_that_was_missed_is_not_drift(suite: Suite) -> None:
    cri = suite.runtime.cri
    suite.define_hook("old", "/bin/true")
    suite.kill()
    time.sleep(0.05)  # as above
    cri.run(cri.run_pod("away"), "main")
    suite.start()
    assert [(one["pod"], *one["lacks"]) for one in suite.found("missed")] == [
        ("default/away", "hook /bin/true")
    ]


@contextmanager
def delaying(runtime: Daemon, seconds: float) -> Iterator[threading.Event]:
    """Hold the creation of each container for some time, and say when one is held."""
    held = threading.Event()

    def hold(_pod: Pod, _container: Container) -> None:
        held.set()
        time.sleep(seconds)

    stub = Stub(
        Plugin(name="slow", index="00", create_container=hold),
        socket_path=str(runtime.nri_socket),
    )
    running = threading.Thread(target=stub.run)
    running.start()
    until(lambda: stub.phase == "synchronized", "the slow plugin to be synchronized")
    yield held
    stub.stop()
    running.join()


@pytest.mark.parametrize("on_no_answer", ["fail", "pass"])
def test_a_creation_that_was_under_way_is_found_when_the_container_starts(
    suite: Suite, on_no_answer: str
) -> None:
    cri = suite.runtime.cri
    suite.kill()
    suite.configure(allowed=True, on_no_answer=on_no_answer)
    pod = cri.run_pod("early", annotations=FUSE)
    created: list[str] = []
    with delaying(suite.runtime, 1.5) as held:
        creating = threading.Thread(target=lambda: created.append(cri.create(pod, "main")))
        creating.start()
        assert held.wait(30)
        suite.start()
        creating.join()
    if on_no_answer == "fail":
        with pytest.raises(CriError, match="lacks device /dev/fuse; it was created without the"):
            cri.start(created[0])
        assert cri.list_containers(pod) == {created[0]: "CONTAINER_EXITED"}
        assert suite.found("missed")[0]["lacks"] == ["device /dev/fuse"]
        cri.remove_container(created[0])
        again = cri.run(pod, "main")
        assert has_fuse(suite, again)
        assert suite.found("missed") == []
    else:
        cri.start(created[0])
        assert suite.found("missed") == [{"pod": "default/early", "container": "main", **MISSED}]


def test_after_a_restart_of_the_runtime_a_container_has_its_device_or_does_not_start(
    suite: Suite,
) -> None:
    cri = suite.runtime.cri
    pod = cri.run_pod("again", annotations=FUSE)
    for number in range(3):
        suite.runtime.restart()
        container = cri.create(pod, f"c{number}")
        suite.process.wait_synchronized(number + 2)
        refusal = ""
        try:
            cri.start(container)
        except CriError as error:
            refusal = str(error)
        if refusal:
            assert "lacks device /dev/fuse; it was created without the plugin" in refusal
        else:
            assert has_fuse(suite, container)


def stop_for_a_while(suite: Suite) -> str:
    """Create a container while the process with the connection is stopped; return the container."""
    cri = suite.runtime.cri
    pod = cri.run_pod("late", annotations=FUSE)
    suite.process.process.send_signal(signal.SIGSTOP)
    going_on = threading.Timer(3.0, suite.process.process.send_signal, [signal.SIGCONT])
    going_on.start()
    container = cri.run(pod, "main")
    going_on.join()
    suite.process.wait_synchronized(2)
    return container


def test_an_answer_that_is_too_late_is_not_called_injected(suite: Suite) -> None:
    suite.kill()
    suite.start("--no-worker")
    container = stop_for_a_while(suite)
    assert not has_fuse(suite, container)
    assert suite.found("missed") == [{"pod": "default/late", "container": "main", **MISSED}]
    counts = suite.status()["containers"]
    assert counts == {"asked": 1, "changed": 0, "failed": 0, "denied": 0, "late": 1}
    assert "injected" not in suite.process.log
    assert (
        "pod default/late, container main: too late: the runtime no longer waited for the answer"
        " with 1 devices" in suite.process.log
    )
    assert [json.loads(line)["outcome"] for line in suite.audit.read_text().splitlines()] == [
        "too late"
    ]


def test_a_worker_gets_no_request_for_which_the_runtime_no_longer_waits(suite: Suite) -> None:
    container = stop_for_a_while(suite)
    assert not has_fuse(suite, container)
    assert suite.found("missed") == [{"pod": "default/late", "container": "main", **MISSED}]
    assert suite.status()["containers"]["asked"] == 0
    assert "injected" not in suite.process.log

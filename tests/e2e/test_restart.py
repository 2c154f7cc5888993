"""Missed containers that are restarted, on real runtimes; the test is the kubelet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .poll import until
from .suite import FUSE, Suite, has_fuse

RULES = "[{who: {namespaces: [shop]}, action: restart}]"


@pytest.fixture(autouse=True)
def _away(suite: Suite) -> None:
    """Begin without the suite: each test starts it when something was missed."""
    suite.kill()


def start(suite: Suite, missed: str = "restart", per_hour: int = 5) -> dict[str, Any]:
    """Start the suite with restarts, and return its status when nothing waits any more."""
    settings = f"cri_socket: {suite.runtime.socket}, grace_seconds: 0, per_hour: {per_hour}"
    suite.configure(allowed=True, more=f"missed: {missed}\nrestart: {{{settings}}}\n")
    suite.start()
    return status(suite)


def status(suite: Suite) -> dict[str, Any]:
    def said() -> Any:
        document = suite.status()
        return None if document["restarts"]["waiting"] else document

    document: dict[str, Any] = until(said, "the end of all restarts")
    return document


def counts(document: dict[str, Any]) -> dict[str, int]:
    return {word: count for word, count in document["restarts"].items() if count}


def states(suite: Suite, pod: str) -> list[str]:
    return sorted(suite.runtime.cri.list_containers(pod).values())


def test_a_missed_container_is_stopped_and_has_its_device_when_it_is_created_anew(
    suite: Suite,
) -> None:
    cri = suite.runtime.cri
    pod = cri.run_pod("away", annotations=FUSE)
    container = cri.run(pod, "main")
    plain = cri.run_pod("plain")
    cri.run(plain, "main")
    assert not has_fuse(suite, container)
    document = start(suite)
    assert counts(document) == {"stopped": 1}
    assert (states(suite, pod), states(suite, plain)) == (
        ["CONTAINER_EXITED"],
        ["CONTAINER_RUNNING"],
    )
    assert (
        "pod default/away, container main: stopped for the kubelet to create it anew (missed: lacks"
        " device /dev/fuse); restart 1 of 5 this hour for its pod" in suite.process.log
    )
    line = json.loads(suite.audit.read_text())
    assert (line["kind"], line["requested"], line["resolved"], line["outcome"]) == (
        "restart",
        "missed",
        "lacks device /dev/fuse",
        "stopped",
    )
    assert (line["pod"], line["container_id"], line["decision"]) == ("away", container, "allow")
    cri.remove_container(container)
    assert has_fuse(suite, cri.run(pod, "main"))
    suite.kill()
    document = start(suite)
    assert (document["missed"]["count"], counts(document)) == (0, {})


def test_a_pod_has_its_budget_also_when_the_plugin_is_killed(suite: Suite) -> None:
    cri = suite.runtime.cri
    pod = cri.run_pod("many", annotations=FUSE)
    for name in ("a", "b", "c"):
        cri.run(pod, name)
    for restarts in ({"stopped": 2, "over_budget": 1}, {"over_budget": 1}):
        document = start(suite, per_hour=2)
        assert counts(document) == restarts
        assert states(suite, pod) == ["CONTAINER_EXITED", "CONTAINER_EXITED", "CONTAINER_RUNNING"]
        (left,) = (one for one in document["missed"]["containers"] if one["restart"] != "stopped")
        assert left["restart"] == "not restarted: its pod has had its 2 restarts of this hour"
        suite.kill()


def test_excluded_namespaces_and_other_rules_restart_nobody(suite: Suite) -> None:
    cri = suite.runtime.cri
    pods = {name: cri.run_pod("web", name, annotations=FUSE) for name in ("kube-system", "home")}
    for pod in pods.values():
        cri.run(pod, "main")
    document = start(suite, missed=RULES)
    assert (counts(document), document["missed"]["count"]) == ({}, 2)
    suite.kill()
    document = start(suite, missed="[{who: {namespaces: [kube-*]}, action: restart}]")
    assert counts(document) == {"excluded": 1}
    assert {one["pod"]: one["restart"] for one in document["missed"]["containers"]} == {
        "kube-system/web": "not restarted: namespace kube-system is excluded",
        "home/web": "",
    }
    assert {*states(suite, pods["kube-system"]), *states(suite, pods["home"])} == {
        "CONTAINER_RUNNING"
    }


def test_what_has_drifted_or_would_be_refused_is_not_restarted(suite: Suite) -> None:
    cri = suite.runtime.cri
    start(suite)
    pods = [cri.run_pod("served", annotations=FUSE), cri.run_pod("plain")]
    for pod in pods:
        cri.run(pod, "main")
    suite.kill()
    pods.append(cri.run_pod("typing", annotations={"devices.noderesource.dev": "- pth: /x"}))
    cri.run(pods[-1], "main")
    suite.define_hook("new", "/bin/true")
    document = start(suite)
    assert (document["drifted"]["count"], document["missed"]["count"]) == (2, 1)
    assert counts(document) == {}
    assert [states(suite, pod) for pod in pods] == [["CONTAINER_RUNNING"]] * 3


def test_a_container_that_was_missed_at_its_start_is_restarted_once_it_runs(suite: Suite) -> None:
    cri = suite.runtime.cri
    pod = cri.run_pod("early", annotations=FUSE)
    container = cri.create(pod, "main")
    settings = f"cri_socket: {suite.runtime.socket}, grace_seconds: 0"
    suite.configure(
        allowed=True,
        on_no_answer="pass",
        more=f"missed: restart\nrestart: {{{settings}}}\n",
    )
    suite.start()
    assert counts(status(suite)) == {}
    cri.start(container)
    until(lambda: counts(status(suite)) == {"stopped": 1}, "the restart")
    assert states(suite, pod) == ["CONTAINER_EXITED"]

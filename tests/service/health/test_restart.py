"""Restarts that are requested: the containers that are stopped, the others, and the reports."""

from __future__ import annotations

import json
import logging
import select
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.cri import FakeCri, cri_at

from nri_inject.api import Container, Pod
from nri_inject.service.config import RestartConfig
from nri_inject.service.health import restart
from nri_inject.service.health.restart import RestartQueue, RestartReport
from nri_inject.service.health.restart_record import MAX_RECORDED, RestartRecord
from nri_inject.service.health.state import Missed, State
from nri_inject.text.glob import pattern

WHY = "lacks device /dev/fuse"
STOPPED = RestartReport("missed", WHY, "stopped")


def pod(name: str = "web", namespace: str = "ns") -> Pod:
    return Pod(id=f"s-{name}", uid=f"u-{name}", name=name, namespace=namespace)


def container(number: int = 0) -> Container:
    return Container(id=f"c{number}", name=f"n{number}")


@dataclass
class Node:
    """A queue, its runtime, and a clock that a test moves; it is the service as well."""

    cri: FakeCri
    record: Path
    state: State = field(default_factory=lambda: State("20", "tested", 1))
    restart_config: RestartConfig = field(default_factory=RestartConfig)
    has_restarts: bool = True
    now: float = 1_000_000.0
    helps: bool = True
    reports: dict[str, RestartReport] = field(default_factory=dict)
    progress: int = 0

    def __post_init__(self) -> None:
        self.configure()
        self.queue = self.new_queue()

    def configure(self, grace: int = 7, budget: int = 2, excluded: str = "kube-*") -> None:
        patterns = (pattern(excluded),)
        self.restart_config = RestartConfig(str(self.cri.path), grace, budget, patterns)

    def new_queue(self, record: str | None = None) -> RestartQueue:
        path = str(self.record) if record is None else record
        queue = RestartQueue(self.state, self, path, now=self._now, clock=self._now)
        queue.on_progress = self._progress
        return queue

    def _now(self) -> float:
        return self.now

    def _progress(self) -> None:
        self.progress += 1

    def restarts_missed(self, _pod: Pod, _container: Container) -> bool:
        return True

    def restarts_stale(self, _pod: Pod, _container: Container, _paths: Collection[str]) -> bool:
        return True

    def record_restart(self, _pod: Pod, container: Container, report: RestartReport) -> None:
        self.reports[container.id] = report

    def check(self, _pod: Pod, _container: Container) -> str:
        return WHY if self.helps else ""

    def ask(self, number: int = 0, of: Pod | None = None) -> None:
        one = container(number)
        self.state.missed.add(one.id, Missed("ns/web", one.name, (WHY,)))
        self.queue.ask(of or pod(), one, "missed", WHY, self.check)

    def stopped(self, number: int = 0, of: Pod | None = None) -> list[str]:
        """Ask for a restart, have the runtime do what it is told, and return what it was told."""
        self.ask(number, of)
        self.queue.ready()
        return self.serve()

    def serve(self, status: int = 0, text: str = "") -> list[str]:
        calls = self.cri.calls()
        for call in calls:
            call.answer(status, text)
        self.queue.ready()
        return [call.container for call in calls]

    @property
    def notes(self) -> dict[str, str]:
        return {key: one.restart for key, one in self.state.missed.items()}

    @property
    def counts(self) -> dict[str, int]:
        return {str(outcome): count for outcome, count in self.state.restarts.items() if count}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with cri_at(tmp_path / "cri.sock") as cri:
        made = Node(cri, tmp_path / "record")
        with closing(made.queue):
            yield made


def test_a_container_is_stopped_with_its_grace(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node.ask()
    assert node.notes == {"c0": "waits for its restart"}
    assert (node.cri.calls(), node.state.to_restart) == ([], 1)
    node.queue.ready()
    (call,) = node.cri.calls()
    assert call.headers[":path"] == "/runtime.v1.RuntimeService/StopContainer"
    assert call.headers["grpc-timeout"] == "37000m"
    assert call.message == b"\x0a\x02c0\x10\x07"
    assert node.state.to_restart == 1
    call.answer()
    node.queue.ready()
    assert (node.reports, node.notes) == ({"c0": STOPPED}, {"c0": "stopped"})
    assert (node.counts, node.state.to_restart, node.progress) == ({"stopped": 1}, 0, 1)
    (line,) = caplog.messages
    assert line == (
        "pod ns/web, container n0: stopped for the kubelet to create it anew (missed: lacks device"
        " /dev/fuse); restart 1 of 2 this hour for its pod"
    )


def test_a_long_id_and_a_long_grace_are_encoded(node: Node) -> None:
    node.configure(grace=3600)
    node.queue.ask(pod(), Container(id="f" * 200), "missed", WHY, node.check)
    node.queue.ready()
    (call,) = node.cri.calls()
    assert call.message == b"\x0a\xc8\x01" + b"f" * 200 + b"\x10\x90\x1c"


def test_the_same_container_is_never_stopped_twice(node: Node) -> None:
    assert node.stopped() == ["c0"]
    node.now += 90_000
    assert node.stopped() == []
    with closing(node.new_queue()) as after_a_restart_of_the_plugin:
        node.queue = after_a_restart_of_the_plugin
        assert node.stopped() == []
    assert node.reports["c0"].outcome == "repeated"
    assert node.notes["c0"] == "not restarted: the runtime was asked to stop it before"
    assert node.counts == {"stopped": 1, "repeated": 2}


def test_a_container_that_waits_or_is_being_stopped_is_not_asked_for_again(node: Node) -> None:
    node.ask()
    node.ask()
    node.queue.ready()
    node.ask()
    node.queue.ready()
    assert (node.serve(), node.state.to_restart) == (["c0"], 0)


def test_a_pod_has_its_budget_and_another_pod_its_own(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    assert [node.stopped(number) for number in range(3)] == [["c0"], ["c1"], []]
    assert node.stopped(3, of=pod("other")) == ["c3"]
    assert node.reports["c2"] == RestartReport(
        "missed", WHY, "over_budget", "its pod has had its 2 restarts of this hour"
    )
    (line,) = caplog.messages
    assert line == (
        "pod ns/web, container n2: not restarted (missed: lacks device /dev/fuse): its pod has had"
        " its 2 restarts of this hour"
    )
    node.now += 3599
    assert node.stopped(4) == []
    node.now += 1
    assert node.stopped(5) == ["c5"]


def test_the_budget_holds_for_containers_that_wait_together(node: Node) -> None:
    for number in range(4):
        node.ask(number)
    node.queue.ready()
    assert node.serve() == ["c0", "c1"]
    assert node.counts == {"stopped": 2, "over_budget": 2}


def test_the_budget_outlives_the_process_and_a_clock_that_is_set_back(node: Node) -> None:
    assert [node.stopped(0), node.stopped(1)] == [["c0"], ["c1"]]
    node.now -= 600
    with closing(node.new_queue()) as node.queue:
        assert node.stopped(2) == []


def test_nothing_is_restarted_in_an_excluded_namespace(node: Node) -> None:
    assert node.stopped(0, of=pod(namespace="kube-system")) == []
    assert node.reports["c0"] == RestartReport(
        "missed", WHY, "excluded", "namespace kube-system is excluded"
    )
    assert not node.record.exists()


def test_a_namespace_that_is_excluded_while_the_container_waits_counts(node: Node) -> None:
    node.ask()
    node.configure(excluded="ns")
    node.queue.ready()
    assert (node.cri.calls(), node.counts) == ([], {"excluded": 1})


def test_a_container_that_a_restart_would_not_help_by_now_is_left_alone(node: Node) -> None:
    node.ask()
    node.helps = False
    node.queue.ready()
    assert (node.cri.calls(), node.counts) == ([], {"useless": 1})
    assert node.notes == {"c0": "not restarted: a restart would not help by now"}


def test_a_runtime_that_has_just_started_is_asked_again_and_the_budget_counts_once(
    node: Node,
) -> None:
    refusal = "server is not initialized yet"
    node.ask()
    node.queue.ready()
    assert node.serve(2, refusal) == ["c0"]
    assert (node.reports, node.state.to_restart) == ({}, 1)
    node.now += 0.9
    node.queue.ready()
    assert node.cri.calls() == []
    node.now += 0.1
    node.queue.ready()
    assert node.serve() == ["c0"]
    assert node.reports == {"c0": STOPPED}
    assert node.stopped(1) == ["c1"]


def test_a_runtime_that_refuses_is_asked_five_times(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.ask()
    asked = []
    for _ in range(7):
        node.queue.ready()
        asked += node.serve(14, "new\nline")
        node.now += 60
    assert asked == ["c0"] * 5
    reason = "StopContainer: new\\nline (status 14)"
    assert node.reports == {"c0": RestartReport("missed", WHY, "failed", reason)}
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_without_a_runtime_it_fails_and_says_where(node: Node) -> None:
    node.cri.path.unlink()
    node.ask()
    for _ in range(7):
        node.queue.ready()
        node.now += 60
    reason = f"{node.cri.path}: No such file or directory"
    assert node.reports == {"c0": RestartReport("missed", WHY, "failed", reason)}


def test_a_runtime_that_does_not_answer_is_not_asked_again(node: Node) -> None:
    node.ask()
    node.queue.ready()
    node.now += 36.9
    node.queue.ready()
    assert node.reports == {}
    node.now += 0.1
    node.queue.ready()
    reason = "the runtime did not answer StopContainer within 37 s"
    assert node.reports == {"c0": RestartReport("missed", WHY, "failed", reason)}
    assert (len(node.cri.calls()), node.state.to_restart) == (1, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a frame of 4740180 bytes, at most 16384 allowed"),
        (b"", "the connection ended before the answer"),
    ],
)
def test_a_peer_that_is_no_runtime_fails_the_restart(node: Node, data: bytes, reason: str) -> None:
    node.ask()
    for _ in range(5):
        node.queue.ready()
        for call in node.cri.calls():
            call.send(data)
            call.close()
        node.queue.ready()
        node.now += 60
    assert node.reports["c0"].reason == reason


def test_an_answer_in_parts_with_a_ping_between_is_waited_for(node: Node) -> None:
    node.ask()
    node.queue.ready()
    (call,) = node.cri.calls()
    call.send(bytes.fromhex("000000 04 00 00000000 000008 06 00 00000000 0102030405060708"))
    node.queue.ready()
    assert node.reports == {}
    call.answer()
    node.queue.ready()
    assert node.reports == {"c0": STOPPED}


def test_a_few_are_stopped_at_one_time(node: Node) -> None:
    for number in range(6):
        node.ask(number, of=pod(f"p{number}"))
    node.queue.ready()
    assert node.serve() == ["c0", "c1", "c2", "c3"]
    assert (node.serve(), node.state.to_restart) == (["c4", "c5"], 0)


@pytest.mark.parametrize("bound", [("MAX_WAITING", 2), ("MAX_WAITING_BYTES", 70)])
def test_what_waits_is_bounded(
    node: Node, bound: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, *bound)
    for number in range(3):
        node.ask(number)
    assert node.reports == {
        "c2": RestartReport("missed", WHY, "left_out", "too many containers wait for a restart")
    }
    node.queue.ready()
    assert node.serve() == ["c0", "c1"]


def test_a_container_that_is_removed_while_it_waits_is_forgotten(node: Node) -> None:
    node.ask()
    node.queue.forget("c0")
    node.queue.forget("c0")
    node.queue.ready()
    assert (node.cri.calls(), node.reports, node.state.to_restart) == ([], {}, 0)


def test_what_waits_is_forgotten_when_a_runtime_reports_all_again(node: Node) -> None:
    node.ask()
    node.queue.restart()
    node.queue.ready()
    assert (node.cri.calls(), node.state.to_restart) == ([], 0)


def test_a_turn_takes_a_bounded_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "SLICE", 0)
    node.helps = False
    for number in range(3):
        node.ask(number)
    node.queue.ready()
    assert node.state.to_restart == 2


def test_of_many_without_a_restart_20_have_a_line_in_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        node.ask(number, of=pod(namespace="kube-system"))
    assert (len(caplog.messages), node.counts) == (20, {"excluded": 30})


def broken(path: Path, how: str) -> None:
    if how == "json":
        path.write_text("{")
    elif how == "shape":
        path.write_text("[[1]]")
    elif how == "link":
        path.symlink_to("/etc/hostname")
    else:
        path.mkdir()


@pytest.mark.parametrize("how", ["json", "shape", "link", "directory"])
def test_without_a_record_that_can_be_read_nothing_is_restarted(node: Node, how: str) -> None:
    broken(node.record, how)
    assert node.stopped() == []
    assert node.reports["c0"].outcome == "failed"
    assert node.reports["c0"].reason.startswith("the record of restarts cannot be read: ")


def test_without_a_record_that_can_be_written_nothing_is_restarted(node: Node) -> None:
    for path, reason in (
        ("", "the record of restarts cannot be read: there is no directory for it"),
        (f"{node.record}/no/such", "the record of restarts cannot be written: [Errno 2]"),
    ):
        with closing(node.new_queue(path)) as node.queue:
            assert node.stopped() == []
        assert node.reports["c0"].reason.startswith(reason)


def test_the_record_is_for_root_alone_and_bounded(node: Node) -> None:
    assert node.stopped() == ["c0"]
    assert json.loads(node.record.read_text()) == [["c0", "u-web", 1_000_000.0]]
    assert node.record.stat().st_mode & 0o777 == 0o600
    record = RestartRecord(str(node.record))
    node.record.write_text(json.dumps([[f"c{n}", "u", 0.0] for n in range(MAX_RECORDED)]))
    record.add("new", "u", 5.0)
    assert [record.has(one) for one in ("c0", "c1", "new")] == [False, True, True]


def test_nothing_is_ready_while_nothing_waits(node: Node) -> None:
    assert node.stopped() == ["c0"]
    assert not select.select([node.queue], [], [], 0)[0]


def test_the_loop_is_woken_while_something_waits(node: Node) -> None:
    node.ask()
    assert select.select([node.queue], [], [], 5)[0]

"""Which missed containers are restarted: by the configuration, and by what they lack now."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from support.cri import FakeCri, cri_at

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.plugin import Plugin, subscription
from nri_inject.policy import kept
from nri_inject.service.config import Config, RestartConfig
from nri_inject.service.health import mark, restart_record
from nri_inject.service.health.restart import RestartReport
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.stub import Stub

FUSE = Adjustment(linux=api.LinuxContainerAdjustment(devices=[api.LinuxDevice(path="/dev/fuse")]))
HOOK = Adjustment(hooks=api.Hooks(poststop=[api.Hook(path="/bin/note")]))
RUNNING = api.ContainerState.CONTAINER_RUNNING
CREATED = api.ContainerState.CONTAINER_CREATED
POD = Pod(id="p", uid="u", namespace="ns", name="web")
POST_START = 1 << (api.Event.POST_START_CONTAINER - 1)
PASSES = api.FailurePolicy(keep_connected=True)
FAILS = Config(on_no_answer="fail").failure_policy


def container(name: str, state: api.ContainerState = RUNNING) -> Container:
    return Container(id=name, name=name, pod_sandbox_id="p", state=state)


class Service:
    """A service that would give every container one device, and restarts some of the missed."""

    def __init__(self, socket: Path, policy: api.FailurePolicy | None = PASSES) -> None:
        self.gives: Adjustment | RequestError = FUSE
        self.restarted = {"a", "b", "marked", "created"}
        self.has_restarts = True
        self.restart_config = RestartConfig(str(socket))
        self.reports: list[tuple[str, str, str]] = []
        self.changed = 0.0
        self.plugin = Plugin(
            name="tested", index="20", failure_policy=policy, create_container=lambda *_: None
        )

    def expected(self, _pod: Pod, _container: Container) -> Adjustment:
        if isinstance(self.gives, RequestError):
            raise self.gives
        return self.gives

    def hook_changed(self, _program: str) -> float:
        return self.changed

    def restarts_missed(self, _pod: Pod, container: Container) -> bool:
        return container.id in self.restarted

    def restarts_stale(self, _pod: Pod, _container: Container, _paths: Collection[str]) -> bool:
        return False

    def record_restart(self, _pod: Pod, container: Container, report: RestartReport) -> None:
        self.reports.append((container.id, report.outcome, report.why))

    def attach(self, _stub: Stub) -> None: ...

    def reconfigure(self, _configured: Config) -> None: ...

    def close(self) -> None: ...


class Node:
    """A supervised service whose runtime is played by the test."""

    def __init__(self, cri: FakeCri, policy: api.FailurePolicy | None = PASSES) -> None:
        self.cri = cri
        self.service = Service(cri.path, policy)
        self.supervised = Supervisor(self.service)
        self._stub = Stub(self.supervised.plugin)
        self.supervised.attach(self._stub)

    def report(self, *containers: Container) -> None:
        """Report what exists, and let the service compare it."""
        comparison = self.supervised._comparison
        assert comparison is not None
        comparison.restart()
        comparison.add([POD], containers)
        comparison.begin()
        comparison.ready()

    def stopped(self) -> list[str]:
        """Return the containers that the runtime is asked to stop, and stop them."""
        restarts = self.supervised._restarts
        assert restarts is not None
        restarts.ready()
        calls = self.cri.calls()
        for call in calls:
            call.answer()
        restarts.ready()
        return [call.container for call in calls]

    def start(self, one: Container) -> None:
        plugin = self.supervised.plugin
        assert plugin.start_container is not None
        plugin.start_container(POD, one)
        if plugin.post_start_container is not None:
            plugin.post_start_container(POD, one)

    def end(self) -> None:
        self._stub.stop()
        self._stub.run()
        self.supervised.close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path / "run"))
    with cri_at(tmp_path / "cri.sock") as cri:
        made = Node(cri)
        yield made
        made.end()


def test_missed_containers_are_restarted_by_the_rules_and_only_once_they_run(node: Node) -> None:
    marked = container("marked")
    marked.annotations[mark.PREFIX + "tested"] = "marked"
    node.report(container("a"), container("other"), marked, container("created", CREATED))
    assert node.stopped() == ["a"]
    assert node.service.reports == [("a", "stopped", "lacks device /dev/fuse")]
    state = node.supervised.state
    assert {key: one.restart for key, one in state.missed.items()} == {
        "a": "stopped",
        "other": "",
        "created": "",
    }
    assert node.supervised.document()["restarts"]["stopped"] == 1


def test_what_has_drifted_is_not_restarted(node: Node) -> None:
    node.service.gives, node.service.changed = HOOK, time.time()
    node.report(container("a"))
    assert (node.stopped(), list(node.supervised.state.drifted)) == ([], ["a"])


def test_a_container_that_would_be_refused_is_restarted_once_it_is_allowed(node: Node) -> None:
    node.service.gives = RequestError(["denied"])
    node.report(container("a"))
    assert node.stopped() == []
    node.service.gives = FUSE
    comparison = node.supervised._comparison
    assert comparison is not None
    comparison.compare_again()
    comparison.ready()
    assert node.stopped() == ["a"]


@pytest.mark.parametrize("gives", [RequestError(["denied"]), Adjustment()])
def test_one_that_would_be_refused_or_lacks_nothing_by_now_is_not_stopped(
    node: Node, gives: Adjustment | RequestError
) -> None:
    node.report(container("a"))
    node.service.gives = gives
    assert node.stopped() == []
    assert node.service.reports == [("a", "useless", "lacks device /dev/fuse")]


def test_one_that_is_to_be_reported_by_now_is_not_stopped(node: Node) -> None:
    node.report(container("a"))
    node.service.restarted.clear()
    assert node.stopped() == []


def test_one_that_is_removed_while_it_waits_is_not_stopped(node: Node) -> None:
    node.report(container("a"), container("b"))
    assert node.supervised.plugin.remove_container is not None
    node.supervised.plugin.remove_container(POD, container("a"))
    assert node.stopped() == ["b"]


def test_the_record_is_beside_the_status_socket(node: Node, tmp_path: Path) -> None:
    node.report(container("a"))
    assert node.stopped() == ["a"]
    assert '"a"' in (tmp_path / "run/20-tested.restarts").read_text()


def test_the_record_is_where_the_last_good_policy_is_if_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert restart_record.STATE_VARIABLE == kept.VARIABLE
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path / "run"))
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path))
    with cri_at(tmp_path / "cri.sock") as cri:
        node = Node(cri)
        node.report(container("a"))
        assert node.stopped() == ["a"]
        node.end()
    assert '"a"' in (tmp_path / "20-tested.restarts").read_text()


def test_one_that_was_missed_at_its_start_is_stopped_when_it_runs(node: Node) -> None:
    node.start(container("a"))
    assert node.stopped() == ["a"]
    node.start(container("other"))
    assert node.stopped() == []


def test_only_who_restarts_what_starts_subscribes_to_that(tmp_path: Path) -> None:
    for policy, has_restarts, subscribes in (
        (PASSES, True, True),
        (PASSES, False, False),
        (FAILS, True, False),  # such a container is refused at its start
    ):
        service = Service(tmp_path / "cri.sock", policy)
        service.has_restarts = has_restarts
        plugin = Supervisor(service).plugin
        assert bool(subscription(plugin) & POST_START) == subscribes

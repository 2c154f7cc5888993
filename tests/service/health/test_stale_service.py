"""Which containers a supervised service follows: from their start or the report, to their end."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from support.cri import FakeCri, cri_at

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.host.model import Number
from nri_inject.plugin import Plugin, subscription
from nri_inject.service.config import Config, RestartConfig
from nri_inject.service.health import mark
from nri_inject.service.health.life import Life
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.restart import RestartReport
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.stub import Stub

POD = Pod(id="p", namespace="home", name="zigbee")
STOP = 1 << (api.Event.STOP_CONTAINER - 1)


def given(name: str = "a", minor: int = 0) -> Container:
    """Return a running container that was given the stick as it was."""
    one = Container(id=name, name="main", pod_sandbox_id="p")
    one.state = api.ContainerState.CONTAINER_RUNNING
    adjustment = stick(minor)
    mark.put(adjustment, one, "tested")
    one.annotations.update(adjustment.annotations)
    return one


def stick(minor: int) -> Adjustment:
    device = api.LinuxDevice(path="/dev/zigbee", type="c", major=188, minor=minor)
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[device]))


class Service:
    """A service that gives every container the stick as it is now, and may restart them."""

    has_restarts = False

    def __init__(self, socket: Path = Path("/nowhere")) -> None:
        self.minor = 1
        self.restarted: set[str] = set()
        self.changed: set[str] = set()
        self.reports: list[tuple[str, str, str, str]] = []
        self.restart_config = RestartConfig(str(socket))
        self.plugin = Plugin(name="tested", index="20", create_container=lambda *_: None)

    def expected(self, _pod: Pod, _container: Container) -> Adjustment:
        return stick(self.minor)

    def gone(self, _numbers: Collection[Number]) -> Collection[Number]:
        return ()

    def registration(self, _number: Number) -> int:
        return 0

    def hook_changed(self, _program: str) -> float:
        return 0.0

    def restarts_missed(self, _pod: Pod, _container: Container) -> bool:
        return False

    def restarts_stale(self, _pod: Pod, container: Container, changed: Collection[str]) -> bool:
        self.changed |= set(changed)
        return container.id in self.restarted

    def record_restart(self, _pod: Pod, container: Container, report: RestartReport) -> None:
        self.reports.append((container.id, report.cause, report.outcome, report.why))

    def attach(self, _stub: Stub) -> None: ...

    def reconfigure(self, _configured: Config) -> None: ...

    def close(self) -> None: ...


class Served:
    """A supervised service, and what is stale of its containers."""

    def __init__(self, life: Life | None = None, socket: Path = Path("/nowhere")) -> None:
        self.service = Service(socket)
        self.supervised = Supervisor(self.service, life=life)
        self.plugin = self.supervised.plugin
        self.stub = Stub(self.plugin)
        self.supervised.attach(self.stub)

    def stale(self) -> list[str]:
        """Compare twice, and return the containers that are stale."""
        check = self.supervised._stale
        assert check is not None
        for _ in range(2):
            check._earliest = check._due = 0.0
            check.ready()
        return list(self.supervised.state.stale)

    def stopped(self, cri: FakeCri) -> list[str]:
        """Return the containers that the runtime is asked to stop, and stop them."""
        restarts = self.supervised._restarts
        assert restarts is not None
        restarts.ready()
        calls = cri.calls()
        for call in calls:
            call.answer()
        restarts.ready()
        return [call.container for call in calls]

    def end(self) -> None:
        self.stub.stop()
        self.stub.run()
        self.supervised.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path))
    made = Served()
    yield made
    made.end()


def test_a_container_is_followed_from_its_start_until_it_stops(served: Served) -> None:
    plugin = served.plugin
    assert plugin.start_container is not None
    assert plugin.stop_container is not None
    plugin.start_container(POD, given("a"))
    plugin.start_container(POD, given("b", minor=1))
    assert served.stale() == ["a"]
    assert served.supervised.document()["stale"]["count"] == 1
    plugin.stop_container(POD, given("a"))
    assert served.stale() == []


def test_containers_of_the_report_are_followed_and_forgotten_with_the_connection(
    served: Served,
) -> None:
    plugin = served.plugin
    assert plugin.synchronize_part is not None
    assert plugin.synchronize is not None
    assert plugin.configure is not None
    plugin.configure(api.ConfigureRequest(runtime_name="containerd", runtime_version="2.1.9"))
    stopped = given("b")
    stopped.state = api.ContainerState.CONTAINER_STOPPED
    plugin.synchronize_part([POD], [given("a"), stopped])
    plugin.synchronize([], [])
    comparison = served.supervised._comparison
    assert comparison is not None
    comparison.ready()
    assert served.stale() == ["a"]
    plugin.configure(api.ConfigureRequest(runtime_name="containerd", runtime_version="2.1.9"))
    assert served.stale() == []


def test_a_worker_that_takes_over_follows_the_containers_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path))
    life = Life(notes=Notes())
    first = Served(life)
    assert first.plugin.start_container is not None
    first.plugin.start_container(POD, given("a"))
    assert first.stale() == ["a"]
    since = first.supervised.state.stale["a"].since
    first.end()
    assert life.notes is not None
    life.notes.inherit()
    life.resumes = True
    second = Served(life)
    assert second.supervised.state.stale["a"].since == since
    assert second.stale() == ["a"]
    second.end()


def test_a_service_that_follows_is_told_of_the_end_of_containers() -> None:
    assert subscription(Supervisor(Service()).plugin) & STOP


@pytest.fixture
def restarting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, FakeCri]]:
    """Give a service with a runtime that is played by the test; it follows a, b and same."""
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path))
    with cri_at(tmp_path / "cri.sock") as cri:
        made = Served(socket=cri.path)
        assert made.plugin.start_container is not None
        for one in (given("a"), given("b"), given("same", minor=1)):
            made.plugin.start_container(POD, one)
        yield made, cri
        made.end()


WHY = "/dev/zigbee is now 188:1"


def test_stale_containers_are_restarted_as_the_service_decides(
    restarting: tuple[Served, FakeCri],
) -> None:
    served, cri = restarting
    served.service.restarted = {"a", "same"}
    assert served.stale() == ["a", "b"]
    assert served.stopped(cri) == ["a"]
    assert served.service.changed == {"/dev/zigbee"}
    assert served.service.reports == [("a", "stale", "stopped", WHY)]
    found = served.supervised.state.stale
    assert {key: one.restart for key, one in found.items()} == {"a": "stopped", "b": ""}
    assert served.stale() == ["a", "b"]
    assert served.stopped(cri) == []  # once for a container


def test_one_whose_device_is_back_by_now_or_away_is_not_stopped(
    restarting: tuple[Served, FakeCri],
) -> None:
    served, cri = restarting
    served.service.restarted = {"a", "b"}
    served.stale()
    served.service.minor = 0
    assert served.stopped(cri) == []
    assert [report[2] for report in served.service.reports] == ["useless", "useless"]


def test_one_that_is_only_to_be_reported_by_now_is_not_stopped(
    restarting: tuple[Served, FakeCri],
) -> None:
    served, cri = restarting
    served.service.restarted = {"a"}
    served.stale()
    served.service.restarted.clear()
    assert served.stopped(cri) == []

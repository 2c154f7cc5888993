"""What happens when a container starts that the plugin has not served, and when it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.plugin import Plugin, subscription
from nri_inject.service.config import Config
from nri_inject.service.health import mark, supervisor
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.stub import Stub

FUSE = Adjustment(linux=api.LinuxContainerAdjustment(devices=[api.LinuxDevice(path="/dev/fuse")]))
POD = Pod(id="p", namespace="ns", name="web")
FAILS = Config(on_no_answer="fail").failure_policy
PASSES = api.FailurePolicy(keep_connected=True)


def container(number: int = 0, *, marked: bool = False) -> Container:
    one = Container(id=f"c{number}", name="main", pod_sandbox_id="p")
    if marked:
        one.annotations[mark.PREFIX + "tested"] = one.id
    return one


class Service:
    """A service that would give every container one device, or nothing."""

    def __init__(self, policy: api.FailurePolicy | None, gives: Adjustment = FUSE) -> None:
        self.started: list[str] = []
        self._gives = gives
        self.plugin = Plugin(
            name="tested",
            index="20",
            failure_policy=policy,
            create_container=self.create,
            start_container=lambda _pod, one: self.started.append(one.id),
        )

    def create(self, _pod: Pod, _container: Container) -> Adjustment:
        return self._gives

    def expected(self, _pod: Pod, _container: Container) -> Adjustment:
        return self._gives

    def hook_changed(self, _program: str) -> float:
        return time.time() - 60.0

    def attach(self, _stub: Stub) -> None:
        pass

    def reconfigure(self, _configured: Config) -> None:
        pass

    def close(self) -> None:
        pass


class Life:
    """A supervised service without a runtime: its handlers are called by hand."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.supervised = Supervisor(service)
        self._stub = Stub(self.supervised.plugin)
        self.supervised.attach(self._stub)
        self.supervised._stub = None  # so that an answer is delivered at once

    def create(self, one: Container) -> None:
        assert self.supervised.plugin.create_container is not None
        self.supervised.plugin.create_container(POD, one)

    def start(self, one: Container) -> None:
        assert self.supervised.plugin.start_container is not None
        self.supervised.plugin.start_container(POD, one)

    def end(self) -> None:
        self._stub.stop()
        self._stub.run()
        self.supervised.close()

    @property
    def missed(self) -> list[str]:
        return list(self.supervised.state.missed)


Living = Callable[[Service], Life]


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    """Give a function that supervises a service."""
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", "")
    with ExitStack() as lives:

        def live(service: Service) -> Life:
            life = Life(service)
            lives.callback(life.end)
            return life

        yield live


def test_a_container_that_the_plugin_was_asked_for_starts(living: Living) -> None:
    life = living(Service(FAILS))
    life.create(container())
    life.start(container())  # of a runtime that does not report annotations
    assert (life.missed, life.service.started) == ([], ["c0"])


def test_a_container_with_the_mark_starts(living: Living) -> None:
    life = living(Service(FAILS))
    life.start(container(marked=True))
    assert (life.missed, life.service.started) == ([], ["c0"])


def test_a_container_that_was_missed_does_not_start(living: Living) -> None:
    life = living(Service(FAILS))
    with pytest.raises(RequestError) as error:
        life.start(container())
    assert str(error.value) == (
        "pod ns/web, container main: lacks device /dev/fuse; it was created without the plugin"
    )
    assert (life.missed, life.service.started) == (["c0"], [])


@pytest.mark.parametrize("policy", [PASSES, None])
def test_it_starts_and_is_reported_if_nothing_is_to_fail(
    policy: api.FailurePolicy | None, living: Living
) -> None:
    life = living(Service(policy))
    life.start(container())
    assert (life.missed, life.service.started) == (["c0"], ["c0"])


def test_a_container_that_needs_nothing_starts(living: Living) -> None:
    life = living(Service(FAILS, Adjustment()))
    life.start(container())
    assert (life.missed, life.service.started) == ([], ["c0"])


def test_a_container_whose_answer_was_too_late_is_compared_at_its_start(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = living(Service(FAILS))
    monkeypatch.setattr(life.supervised, "_when_delivered", lambda count: count(False))
    life.create(container())
    state = life.supervised.state
    assert (state.asked, state.late, state.changed) == (1, 1, 0)
    with pytest.raises(RequestError):
        life.start(container())


def test_what_is_remembered_until_the_start_is_bounded(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_ASKED", 2)
    life = living(Service(PASSES))
    for number in range(3):
        life.create(container(number))
    for number in range(3):
        life.start(container(number))
    assert life.missed == ["c0"]


def test_a_mark_alone_counts_as_no_change(living: Living) -> None:
    life = living(Service(FAILS, Adjustment(annotations={mark.PREFIX + "tested": "c0"})))
    life.create(container())
    assert (life.supervised.state.asked, life.supervised.state.changed) == (1, 0)


def test_only_a_plugin_that_injects_subscribes_to_the_start() -> None:
    start = 1 << (api.Event.START_CONTAINER - 1)
    assert subscription(Supervisor(Service(FAILS)).plugin) & start

    class Other:
        plugin = Plugin(name="other", index="90", create_container=lambda *_: None)

        def attach(self, _stub: Stub) -> None:
            pass

        def reconfigure(self, _configured: Config) -> None:
            pass

        def close(self) -> None:
            pass

    assert not subscription(Supervisor(Other()).plugin) & start

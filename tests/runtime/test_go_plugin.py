"""A plugin on NRI's own Go stub, driven by our runtime side: every call that there is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lives import live

from nri_inject import api
from nri_inject.api import ContainerState, Pod
from nri_inject.capabilities import NEWEST
from nri_inject.errors import NriError, RemoteError
from nri_inject.runtime import Rejection, Runtime, identify
from nri_inject.testing import FakeRuntime, make_container, make_pod

MODULE = Path(__file__).parents[2] / "benchmarks" / "go"
POD = make_pod("web")
MAIN = make_container(POD, "main")

pytestmark = [pytest.mark.slow, pytest.mark.program("go")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the plugin; its modules come through the Go client's own proxy and cache."""
    path = tmp_path_factory.mktemp("plugin") / "10-every-event"
    built = subprocess.run(
        ["go", "build", "-o", path, "./every-event"],
        cwd=MODULE,
        capture_output=True,
        text=True,
        check=False,
    )
    if "dial tcp" in built.stderr or "no such host" in built.stderr:
        pytest.skip("the modules of the Go plugin cannot be fetched")
    assert built.returncode == 0, built.stderr
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


Start = Callable[..., FakeRuntime]


@pytest.fixture
def start(program: Path, log: Path) -> Iterator[Start]:
    """Give a function that launches the plugin beside a runtime of some version."""
    opened: list[FakeRuntime] = []

    def started(runtime: Runtime = NEWEST, *, world: FakeRuntime | None = None) -> FakeRuntime:
        opened.append(world or FakeRuntime(runtime))
        opened[-1].launch(program, str(log))
        return opened[-1]

    yield started
    for runtime in opened:
        runtime.close()


def test_every_event_of_a_life_reaches_it(start: Start, log: Path) -> None:
    runtime = start(Runtime("containerd", "v2.4.0", (0, 12, 2)))
    runtime.run_pod(POD)
    resources = api.LinuxResources(cpu=api.LinuxCPU(cpus="0-1"))
    runtime.update_pod(POD.id, api.LinuxResources(), resources)
    made = runtime.create(MAIN)
    runtime.update_container(MAIN.id, api.LinuxResources())
    assert runtime.containers[MAIN.id].linux.resources.memory.limit.value == 4096
    runtime.remove_pod(POD.id)
    assert made.spec["process"]["env"] == ["GO=xx"]
    assert made.spec["linux"]["devices"] == [
        {"path": "/dev/go", "type": "c", "major": 1, "minor": 3}
    ]
    assert log.read_text().splitlines() == [
        "Configure containerd v2.4.0",
        "Synchronize 0 0",
        "RunPodSandbox web",
        "UpdatePodSandbox web 0-1",
        "PostUpdatePodSandbox web",
        "CreateContainer main",
        "ValidateContainerAdjustment main 1",
        "PostCreateContainer main",
        "UpdateContainer main",
        "PostUpdateContainer main",
        "StopContainer main",
        "RemoveContainer main",
        "RemovePodSandbox web",
    ]
    assert runtime.adaptation.dropped == []


def test_an_update_that_it_asks_for_by_itself_is_made(start: Start, log: Path) -> None:
    runtime = start()
    runtime.run_pod(POD)
    runtime.create(MAIN)
    runtime.start(MAIN.id)
    deadline = time.monotonic() + 10
    while "UpdateContainers" not in log.read_text() and time.monotonic() < deadline:
        runtime.adaptation.serve(0.01)
    assert log.read_text().splitlines()[-1] == "UpdateContainers 0 <nil>"
    container = runtime.containers[MAIN.id]
    assert container.linux.resources.cpu.shares.value == 77
    assert container.state == ContainerState.CONTAINER_RUNNING


def test_its_errors_and_rejections_fail_one_container(start: Start) -> None:
    runtime = start()
    runtime.run_pod(POD)
    with pytest.raises(RemoteError) as refused:
        runtime.create(make_container(POD, "refused"))
    assert refused.value.message == "container refused may not be"
    with pytest.raises(Rejection) as rejected:
        runtime.create(make_container(POD, "forbidden"))
    assert str(rejected.value) == (
        'validator "10-every-event" rejected container adjustment,'
        " reason: container forbidden is forbidden"
    )
    runtime.create(MAIN)
    assert runtime.adaptation.plugins == ["10-every-event"]


def test_long_messages_cross_in_both_directions(start: Start) -> None:
    """Go's receiver goes deaf over a frame that is cut otherwise than its own."""
    runtime = start()
    runtime.run_pod(POD)
    for size in (4060, 4096, 5000, 70_000, 2_000_000):
        made = runtime.create(make_container(POD, f"c{size}", args=["a" * size]))
        (variable,) = made.adjust.env
        assert len(variable.value) == size
    assert runtime.adaptation.dropped == []


def test_what_exists_reaches_it_in_parts(start: Start, log: Path) -> None:
    world = FakeRuntime()
    for number in range(30):
        pod = Pod(id=str(number), name=f"p{number}", annotations={"a": "x" * 400_000})
        world.run_pod(pod)
    world.create(make_container(pod))
    runtime = start(world=world)
    assert log.read_text().splitlines()[-1] == "Synchronize 30 1"
    assert runtime.adaptation.plugins == ["10-every-event"]


def test_an_older_runtime_refuses_it_as_real_ones_do(start: Start) -> None:
    """It has handlers for events of NRI 0.10.0, and no way to ask for fewer."""
    with pytest.raises(NriError) as caught:
        start(identify("containerd", "v2.1.0"))
    assert str(caught.value) == "plugin 10-every-event requests invalid events: 0x3800"


def test_a_whole_life_leaves_nothing(start: Start, log: Path) -> None:
    runtime = start()
    live(runtime, POD, MAIN)
    assert (runtime.pods, runtime.containers, runtime.faults) == ({}, {}, [])
    assert log.read_text().splitlines()[-1] == "RemovePodSandbox web"

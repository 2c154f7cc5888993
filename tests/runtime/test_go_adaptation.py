"""The suite under NRI's own adaptation: what becomes of containers while it hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nri_inject.api import CreateContainerRequest, CreateContainerResponse
from nri_inject.testing import make_container, make_pod

MODULE = Path(__file__).parents[2] / "benchmarks" / "go"
TITLE = "20-nri-inject"
ASKS = make_pod("web", annotations={"sysctl.noderesource.dev/pod": "net.core.somaxconn: '1024'"})
REQUEST = CreateContainerRequest(pod=ASKS, container=make_container(ASKS, "main"))

pytestmark = pytest.mark.program("go")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what drives the adaptation; its modules come through the Go client's own proxy."""
    path = tmp_path_factory.mktemp("driver") / "driver"
    built = subprocess.run(
        ["go", "build", "-o", path, "./driver"],
        cwd=MODULE,
        capture_output=True,
        text=True,
        check=False,
    )
    if "dial tcp" in built.stderr or "no such host" in built.stderr:
        pytest.skip("the modules of the driver cannot be fetched")
    assert built.returncode == 0, built.stderr
    return path


class Node:
    """A runtime with the suite in its plugin directory."""

    def __init__(self, driver: Path, folder: Path, config: str) -> None:
        plugins, configs = folder / "plugins", folder / "conf.d"
        plugins.mkdir()
        configs.mkdir()
        (plugins / TITLE).symlink_to(Path(sys.executable).parent / "nri-inject")
        (configs / f"{TITLE}.conf").write_text(f"policy: unrestricted\naudit: off\n{config}\n")
        self._process = subprocess.Popen(
            [driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started = self._tell(do="start", plugins=str(plugins), config=str(configs))
        (self.pid,) = started["pids"]

    def create(self, timeout_ms: int = 0) -> list[str] | str:
        """Create a container; return the names of its sysctls, or why it fails."""
        request = b64encode(REQUEST.SerializeToString()).decode()
        said = self._tell(do="play", requests=[request], times=1, timeout_ms=timeout_ms)
        if "error" in said:
            return str(said["error"])
        response = CreateContainerResponse.FromString(b64decode(said["response"]))
        return list(response.adjust.linux.sysctl)

    def close(self) -> None:
        self._process.communicate()

    def _tell(self, **command: Any) -> dict[str, Any]:
        told, said = self._process.stdin, self._process.stdout
        assert told is not None
        assert said is not None
        told.write(json.dumps({"peer": "node", **command}) + "\n")
        told.flush()
        answer: dict[str, Any] = json.loads(said.readline())
        return answer


Start = Callable[..., Node]


@pytest.fixture
def start(driver: Path, tmp_path: Path) -> Iterator[Start]:
    nodes: list[Node] = []

    def started(config: str) -> Node:
        nodes.append(Node(driver, tmp_path, config))
        return nodes[-1]

    yield started
    for node in nodes:
        node.close()


@pytest.mark.parametrize("config", ["", "on_no_answer: fail"])
def test_a_plugin_that_hangs_fails_the_container_by_its_name_and_serves_the_next(
    start: Start, config: str
) -> None:
    node = start(config)
    os.kill(node.pid, signal.SIGSTOP)
    for _ in range(2):
        assert node.create(timeout_ms=100) == (
            f"plugin {TITLE} failed to handle CreateContainer request: context deadline exceeded"
        )
    os.kill(node.pid, signal.SIGCONT)
    assert node.create() == ["net.core.somaxconn"]


def test_where_it_may_pass_the_containers_are_created_without_it(start: Start) -> None:
    node = start("on_no_answer: pass")
    assert node.create() == ["net.core.somaxconn"]
    os.kill(node.pid, signal.SIGSTOP)
    assert node.create(timeout_ms=100) == []
    assert node.create() == []

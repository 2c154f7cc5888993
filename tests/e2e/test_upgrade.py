"""Upgrades in place while containers are created: each has its device.

One upgrade in three is to a version that dies at once. NRI_E2E_ROUNDS is how many rounds there are.
"""

from __future__ import annotations

import statistics
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.children import family

from nri_inject.cli.upgrade import upgraded
from nri_inject.service.health import status

from .conftest import NewRuntime
from .creations import CREATED, FUSE, POD, ROUNDS, Creation, running
from .daemon import Daemon
from .plugin import External, install
from .poll import until

UPGRADES = 3  # in a round
DIES = """#!{python}
raise SystemExit(7)
"""
PROGRAM = """#!{python}
import nri_inject.version
nri_inject.version.VERSION = "{version}"
from nri_inject.plugins.device_injector import main
main()
"""


def put(path: Path, text: str, version: str = "") -> None:
    """Put a version of the program in the place of the one before."""
    other = path.with_suffix(".new")
    other.write_text(text.format(python=sys.executable, version=version))
    other.chmod(0o755)
    other.replace(path)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "10-device-injector"
    put(path, PROGRAM, "0")
    return path


def socket_of(pid: int) -> tuple[str, str]:
    """Return the name and the path of a plugin's status socket."""
    found = status.found(status.DIRECTORY).items()
    ((name, path),) = [one for one in found if one[0].endswith(f".{pid}")]
    return name, path


@dataclass
class Upgrading:
    """Upgrade a plugin again and again, until all containers are created."""

    program: Path
    pid: int
    creation: Creation
    done: threading.Event = field(default_factory=threading.Event)
    versions: list[str] = field(default_factory=lambda: ["0"])
    refused: int = 0
    busy: int = 0

    def run(self) -> None:
        """Make the upgrades of all rounds, spread over the time that the creations take."""
        for number in range(ROUNDS * UPGRADES):
            self._wait(number * CREATED // UPGRADES + 5)
            if self.done.is_set():
                return
            if number % UPGRADES == 1:
                put(self.program, DIES)
                assert "the new version ended with status 7" in self._upgrade()
                self.refused += 1
            else:
                put(self.program, PROGRAM, str(number + 1))
                while error := self._upgrade():
                    assert "less busy" in error
                    self.busy += 1
                self.versions.append(str(number + 1))

    def _wait(self, created: int) -> None:
        until(lambda: self.done.is_set() or len(self.creation.seconds) >= created, "containers")

    def _upgrade(self) -> str:
        row = upgraded(*socket_of(self.pid))
        assert (row["pid"], row["before"]) == (self.pid, self.versions[-1])
        return str(row["error"])


def check(daemon: Daemon, program: Path, pid: int) -> None:
    """Create containers while the plugin is upgraded; each has its device."""
    creation = Creation(daemon, daemon.cri.run_pod(POD, annotations=FUSE))
    upgrading = Upgrading(program, pid, creation)
    creation.run_beside(upgrading)
    document = status.ask(socket_of(pid)[1])
    assert document is not None
    assert document["version"] == upgrading.versions[-1]
    assert document["worker"]["failures"] == 0
    assert document["containers"]["asked"] == ROUNDS * CREATED
    done = len(upgrading.versions) - 1
    assert done + upgrading.refused >= ROUNDS * UPGRADES - 1
    seconds = sorted(creation.seconds.values())
    print(  # noqa: T201 - the figures of a soak
        f"\n{daemon.name}: {len(seconds)} containers in {creation.ended - creation.began:.0f} s,"
        f" all with their device, {done} upgrades, {upgrading.refused} more to a version that dies"
        f" at once, {upgrading.busy} put off; a creation takes {statistics.median(seconds):.3f} s,"
        f" the {done} longest {seconds[-done]:.3f} s to {seconds[-1]:.3f} s"
    )


@pytest.mark.soak
def test_each_container_has_its_device_however_often_a_service_is_upgraded(
    runtime: Daemon, program: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    log = tmp_path / "plugin.log"
    with closing(External(str(program), runtime, log, "--config", str(config))) as plugin:
        check(runtime, program, plugin.process.pid)
        assert "lost the connection" not in plugin.log
        assert plugin.process.poll() is None


@pytest.mark.soak
def test_each_container_has_its_device_however_often_a_launched_plugin_is_upgraded(
    new_runtime: NewRuntime, program: Path
) -> None:
    daemon = new_runtime()
    install(str(program), daemon, "10-device-injector", "policy: unrestricted\n")
    daemon.start()
    name = str(daemon.plugin_dir / "10-device-injector")
    (pid,) = [one for one in running(name) if len(family(one)) > 1]
    check(daemon, program, pid)
    assert pid in running(name)

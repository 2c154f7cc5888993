"""A project of `nri-inject new` on a real runtime, from an index of packages to a container."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wheels import Environment

from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon

KEY = "demo.example.com/greeting"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a new project into an environment of its own, and return its program."""
    environment = Environment(tmp_path_factory.mktemp("author"))
    environment.run("python -m pip install --quiet .")
    return environment.bin / "demo"


@pytest.fixture
def daemon(new_runtime: NewRuntime, program: Path) -> Daemon:
    """Give a runtime that has launched the program."""
    made = new_runtime()
    (made.plugin_dir / "50-demo").symlink_to(program)
    made.start()
    return made


def test_a_container_is_greeted(daemon: Daemon) -> None:
    pod = daemon.cri.run_pod("web", annotations={f"{KEY}/container.main": "good morning"})
    main, other = (daemon.cri.run(pod, name) for name in ("main", "other"))
    assert "GREETING=good morning, main\n" in daemon.cri.exec(main, "env").stdout
    assert "GREETING" not in daemon.cri.exec(other, "env").stdout


def test_a_mistake_is_a_sentence_for_the_pods_author(daemon: Daemon) -> None:
    pod = daemon.cri.run_pod("web", annotations={KEY: "two\nlines"})
    with pytest.raises(CriError, match=f"annotation {KEY}: one line of plain text expected"):
        daemon.cri.run(pod, "main")

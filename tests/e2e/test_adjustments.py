"""The example of docs/write-a-plugin.md in a real container, with paths of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.pages import ROOT, blocks

from .conftest import NewRuntime
from .daemon import Daemon
from .poll import until

SERVE = """
from nri_inject import Adjustment, Container, Plugin, Pod, serve

{give}

def create_container(pod: Pod, container: Container) -> Adjustment:
    adjustment = Adjustment()
    give(adjustment)
    return adjustment


serve(Plugin(name="give", index="50", create_container=create_container))
"""


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Return the file that the hook of the example writes."""
    return tmp_path / "stopped"


@pytest.fixture
def daemon(new_runtime: NewRuntime, tmp_path: Path, stopped: Path) -> Daemon:
    """Give a runtime that launches the example as a plugin."""
    models, hook = tmp_path / "models", tmp_path / "note-stop"
    tmp_path.chmod(0o755)
    models.mkdir()
    (models / "model").write_text("a model\n")
    hook.write_text(f"#!/bin/sh\n{{ echo $#; env; }} > {hook}.new && mv {hook}.new {stopped}\n")
    hook.chmod(0o755)
    page = blocks(ROOT / "docs/write-a-plugin.md")
    (give,) = (block.text for block in page if "def give(" in block.text)
    give = give.replace("/srv/models", str(models))
    give = give.replace("/usr/local/libexec/note-stop", str(hook))
    made = new_runtime()
    plugin = made.plugin_dir / "50-give"
    plugin.write_text(f"#!{sys.executable}\n{SERVE.format(give=give)}")
    plugin.chmod(0o755)
    made.start()
    return made


def test_a_container_has_all_that_the_example_gives(daemon: Daemon, stopped: Path) -> None:
    container = daemon.cri.run(daemon.cri.run_pod("given"), "main")

    def output(script: str) -> str:
        return daemon.cri.exec(container, "sh", "-c", script).stdout

    assert output("stat -c '%F %t:%T' /dev/nothing") == "character special file 1:3\n"
    assert output("echo x > /dev/nothing && wc -c < /dev/nothing") == "0\n"
    assert output("cat /models/model") == "a model\n"
    assert daemon.cri.exec(container, "touch", "/models/x").exit_code != 0
    limits = output("grep 'Max open files' /proc/1/limits")
    assert limits.split() == ["Max", "open", "files", "1024", "4096", "files"]
    memory = daemon.bundle_spec(container)["linux"]["resources"]["memory"]
    assert memory["limit"] == 512 * 1024 * 1024
    daemon.cri.remove_all()
    until(stopped.exists, "the hook's file")
    count, *variables = stopped.read_text().splitlines()
    assert count == "0"
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in variables

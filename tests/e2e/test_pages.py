"""Output that pages show of plugins on a runtime: the same command prints the same here.

Times, ids, processes and this machine's mode of a device are another each time. The node of
docs/pin-cpus.md has two CPUs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from support.pages import ROOT, blocks, commands

from nri_inject.cli.completion import PLACES
from nri_inject.cli.manual import PLACE
from nri_inject.plugins.resource_assigner import topology

from .daemon import Daemon
from .plugin import External
from .poll import until


def shown(page: str, program: str) -> tuple[str, str]:
    """Return the first such command of a page, without its pipe, and its output."""
    found = next(
        command
        for block in blocks(ROOT / "docs" / page)
        if block.language == "console"
        for command in commands(block)
        if command.text.startswith(program)
    )
    return found.text.partition(" | ")[0], found.output


def having(page: str, part: str) -> str:
    """Return the block of a page that has a part, and is no command."""
    (found,) = (
        block.text
        for block in blocks(ROOT / "docs" / page)
        if part in block.text and block.language != "console"
    )
    return found


class Start(Protocol):
    """Start a plugin beside the runtime, and end it with the test."""

    def __call__(self, line: str, log: str) -> External: ...


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as plugins:

        def start_plugin(line: str, log: str) -> External:
            program, *options = shlex.split(line)
            plugin = External(program, runtime, tmp_path / log, *options)
            return plugins.enter_context(closing(plugin))

        yield start_plugin


def live(daemon: Daemon) -> None:
    """Lead a pod of the namespace `shop` through its life, in the order of a kubelet."""
    pod = daemon.cri.run_pod("web", "shop")
    container = daemon.cri.run(pod, "main")
    daemon.cri.stop(container)
    daemon.cri.stop_pod(pod)
    daemon.cri.remove_container(container)
    daemon.cri.remove_pod(pod)


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_log_events(runtime: Daemon, start: Start, tmp_path: Path) -> None:
    command, output = shown("log-events.md", "nri-logger")
    file = tmp_path / "events"
    start(f"{command} --log-file {file}", "log")
    in_yaml = start(f"nri-logger --idx 91 --log-file {tmp_path}/yaml", "log of yaml")
    live(runtime)
    until(lambda: '"RemovePodSandbox"' in file.read_text(), "the pod's last event")
    events = [event["event"] for event in documents(file.read_text())]
    validation = ["ValidateContainerAdjustment"] if runtime.kind.nri >= (0, 10, 0) else []
    assert [event for event in events if event not in validation] == output.split()

    in_yaml.close()
    written = [*yaml.safe_load_all((tmp_path / "yaml").read_text())]
    (example,) = yaml.safe_load_all(having("log-events.md", "event: "))
    (created,) = (event for event in written if event["event"] == example["event"])
    assert [*created][: len(example)] == [*example]
    assert [*created["pod"]][: len(example["pod"])] == [*example["pod"]]


def test_see_what_changed(runtime: Daemon, start: Start, tmp_path: Path) -> None:
    command, output = shown("see-what-changed.md", "nri-differ")
    as_text = start(f"{command} --log-file {tmp_path}/text", "log of the differ")
    as_text.wait_synchronized(3)
    start("nri-device-injector --policy unrestricted --idx 10", "log of the injector")
    start("nri-logger --idx 90 --add-env WHO --log-file /dev/null", "log of the logger")
    annotations = {
        "devices.noderesource.dev/pod": "- path: /dev/fuse",
        "ulimits.noderesource.dev/pod": "- {type: NOFILE, soft: 300, hard: 400}",
    }
    runtime.cri.run(runtime.cri.run_pod("workshop", annotations=annotations), "main")
    as_text.close()

    mode = Path("/dev/fuse").stat().st_mode & 0o7777
    expected = output.replace('{"value": 384}', f'{{"value": {mode}}}')
    written = (tmp_path / "text").read_text()
    if runtime.kind.version.startswith("2.1."):  # the page's runtime
        assert without_process(written) == without_process(expected)
    else:
        first = expected.partition("from request at 99")[0].rpartition("\n")[0]
        assert without_process(first) in without_process(written)


def without_process(text: str) -> str:
    return re.sub(r"logger-pid-\d+", "logger-pid", text)


@pytest.mark.min_cpus(2)
def test_pin_cpus(runtime: Daemon, start: Start, tmp_path: Path) -> None:
    command, _ = shown("pin-cpus.md", "nri-resource-assigner")
    settings = tmp_path / "config.yaml"
    settings.write_text("resource_assigner: {beyond_requests: ['*']}\n")
    plugin = start(command.replace("/etc/nri-inject.yaml", str(settings)), "log")
    runtime.cri.run(runtime.cri.run_pod("web"), "main")
    asked = {"exclusive-cpus.noderesource.dev/container.engine": "1"}
    engine = runtime.cri.run(runtime.cri.run_pod("trading", annotations=asked), "engine")
    runtime.cri.stop(engine)
    until(lambda: plugin.log.count("info    shared CPUs are") > 1, "the CPU to come back")
    expected = [
        line.partition(" ")[2] for line in having("pin-cpus.md", ": exclusive CPUs 0").splitlines()
    ]
    logged = [line.partition(" ")[2] for line in plugin.log.splitlines()]
    if topology.read().all == {0, 1}:
        assert [line for line in logged if line in expected] == expected


def test_install(build: Path, tmp_path: Path) -> None:
    """On a host with containerd 1.7, whose configuration says nothing of NRI.

    `nri-inject` is on PATH, as after an installation into /usr/local/bin.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    places = [*PLACES.values(), PLACE]
    shared = [str(Path(place).parent).lstrip("/") for place in places]
    for directory in ("etc/containerd", "opt", "usr/local/bin", "var/lib", "var/log", *shared):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    (tmp_path / "etc/containerd/config.toml").write_text("version = 2\n")
    for command in ("install", "uninstall"):
        _, output = shown("install.md", f"nri-inject {command}")
        done = subprocess.run(
            [build, command, "--root", tmp_path],
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert without_release(of_nri_inject(done.stdout)) == without_release(output)


def of_nri_inject(text: str) -> str:
    """Return an output without the links and manual pages of the other programs."""
    return re.sub(r".*/(?:bin|man1)/nri-(?!inject(?:\.1)?\n).*\n", "", text)


def without_release(text: str) -> str:
    return re.sub(r"\d+\.\d+\.\d+-[0-9a-f]{8}", "RELEASE", text)

"""Every example runs, and does what its text says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.trying import NO_NODE

from nri_inject.api import Container, LinuxMemory, LinuxResources, Pod
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.launcher import launch
from nri_inject.testing import FakeRuntime, make_container, make_pod

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
BIN = Path(sys.executable).parent


def _installed(example: Path, tmp_path: Path, file_name: str) -> Path:
    """Copy a plugin to where a runtime would launch it, with our interpreter's absolute path."""
    lines = [line for line in example.read_text().splitlines() if not line.startswith("#!")]
    program = tmp_path / file_name
    program.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("example", "file_name", "variable"),
    [
        ("01-hello/hello.py", "10-hello", "GREETING=hello, main of web"),
        ("03-asyncio-driver/driver.py", "20-asyncio", "LOOP=asyncio for main"),
    ],
)
def test_plugin_adds_its_variable(
    tmp_path: Path, example: str, file_name: str, variable: str
) -> None:
    program = _installed(EXAMPLES / example, tmp_path, file_name)
    with Adaptation() as adaptation:
        adaptation.add(launch(program))
        created = adaptation.create_container(
            Pod(name="web"), Container(id="1", name="main", args=["sh"])
        )
    env = [f"{entry.key}={entry.value}" for entry in created.merged.adjust.env]
    assert env == [variable]


def test_updates_are_made_in_answers_and_by_the_plugin_itself(tmp_path: Path) -> None:
    program = _installed(EXAMPLES / "04-updates/updates.py", tmp_path, "30-updates")
    pod = make_pod("web")
    first, second = make_container(pod, "first"), make_container(pod, "second")
    with FakeRuntime() as runtime:
        runtime.launch(program)
        runtime.run_pod(pod)
        for container in (first, second):
            runtime.create(container)
            wanted = LinuxResources(memory=LinuxMemory(limit={"value": 1 << 20}))
            runtime.update_container(container.id, wanted)
        memory = runtime.containers[first.id].linux.resources.memory
        assert memory.limit.value == 1 << 19
        runtime.update_container(
            second.id, LinuxResources(memory=LinuxMemory(limit={"value": 1 << 22}))
        )
        runtime.stop(second.id)
        deadline = time.monotonic() + 10
        while memory.limit.value == 1 << 19 and time.monotonic() < deadline:
            runtime.adaptation.serve(0.01)
        assert memory.limit.value == 1 << 21


def test_the_injector_has_tests_that_pass() -> None:
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=EXAMPLES / "05-injector",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tests.returncode, tests.stdout.splitlines()[-1][:8]) == (0, "4 passed"), tests.stdout


def test_the_embedded_runtime_prints_what_plugins_make_of_a_container(tmp_path: Path) -> None:
    _installed(EXAMPLES / "01-hello/hello.py", tmp_path, "10-hello")
    (tmp_path / "wrong").touch(0o755)
    printed = subprocess.run(
        [sys.executable, EXAMPLES / "06-embedded-runtime" / "runtime.py", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed[0] == f"plugin {tmp_path / 'wrong'}: a file name such as 10-name expected"
    page = (EXAMPLES.parent / "docs" / "embed-a-runtime.md").read_text()
    assert f"```\n{printed[1]}\n```" in page
    program = (EXAMPLES / "06-embedded-runtime" / "runtime.py").read_text()
    assert program[program.index("import json") :] in page


def test_every_example_is_in_the_list_of_examples() -> None:
    text = (EXAMPLES / "README.md").read_text()
    folders = [path.name for path in EXAMPLES.iterdir() if path.is_dir()]
    assert [name for name in sorted(folders) if f"[{name}]" not in text] == []


def test_the_pod_of_the_second_example_gets_what_its_comments_say() -> None:
    example = EXAMPLES / "02-devices"
    arguments = ["--unsafe-files", "--policy", example / "policy.yaml", example / "pod.yaml"]
    result = subprocess.run(
        [BIN / "nri-inject", "try", *NO_NODE, "--format", "json", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    tunnel, logger, careless = map(json.loads, result.stdout.splitlines())
    assert [device["path"] for device in tunnel["adjust"]["linux"]["devices"]] == [
        "/dev/null",
        "/dev/nothing",
    ]
    assert tunnel["adjust"]["mounts"] == [
        {"destination": "/host/etc", "type": "bind", "source": "/etc", "options": ["bind", "ro"]}
    ]
    assert tunnel["adjust"]["rlimits"] == [
        {"type": "RLIMIT_MEMLOCK", "hard": "65536", "soft": "65536"}
    ]
    assert [device["path"] for device in logger["adjust"]["linux"]["devices"]] == ["/dev/full"]
    assert careless["error"] == (
        "pod default/workshop, container careless: "
        "annotation devices.noderesource.dev/container.careless: "
        "item 1: unknown key 'majr'; did you mean 'major'?"
    )

"""Every example runs, and does what its text says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nri_inject.api import Container, Pod
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.peer import launch

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


def test_the_pod_of_the_second_example_gets_what_its_comments_say() -> None:
    result = subprocess.run(
        [BIN / "nri-inject", "try", "--format", "json", EXAMPLES / "02-devices" / "pod.yaml"],
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
        {"destination": "/host/etc", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}
    ]
    assert tunnel["adjust"]["rlimits"] == [
        {"type": "RLIMIT_MEMLOCK", "hard": "65536", "soft": "65536"}
    ]
    assert [device["path"] for device in logger["adjust"]["linux"]["devices"]] == ["/dev/full"]
    assert careless["error"] == (
        "pod default/workshop, container careless: "
        "annotation devices.noderesource.dev/container.careless: "
        "item 1: unknown key 'majr'; did you mean major?"
    )

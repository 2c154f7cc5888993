"""The commands: `make demo` fails one container on purpose, and no other command runs a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.program("make")]


def demo(example: Path, programs: Path = BIN) -> tuple[int, str]:
    """Run `make demo` on a folder with a pod and a policy; return its status and its output."""
    made = subprocess.run(
        [
            *("make", "demo", f"DEMO={example}", f"BIN={programs}"),
            "--old-file=.venv/.installed",  # the tests have an environment
            "--no-print-directory",  # below `make test` it prints lines of its own
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return made.returncode, made.stdout + made.stderr


def example(folder: Path, file: str, old: str, new: str) -> Path:
    """Copy the example of the demo, with one change in one of its files."""
    shutil.copytree(ROOT / "examples" / "02-devices", folder, dirs_exist_ok=True)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    return folder


def test_the_demo_ends_well_when_one_container_fails_on_purpose() -> None:
    status, output = demo(Path("examples/02-devices"))
    assert status == 0, output
    assert output.splitlines()[-1].startswith("==> done: one container fails on purpose")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("policy.yaml", "/dev/full, ", "", id="the policy denies another container"),
        pytest.param("policy.yaml", "rules:", "rule:", id="the policy is faulty"),
        pytest.param("pod.yaml", "majr: 1", "major: 1", id="no container fails"),
        pytest.param("pod.yaml", "majr", "bogus", id="the container fails for another reason"),
    ],
)
def test_the_demo_fails_when_something_else_happens(
    tmp_path: Path, file: str, old: str, new: str
) -> None:
    status, output = demo(example(tmp_path, file, old, new))
    assert status == 2, output
    assert "Error: one container must fail, with: container careless: " in output
    assert "==> done" not in output


def test_the_tests_on_a_cluster_are_collected_only_by_their_folder() -> None:
    def collected(folder: str) -> str:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", folder]
        others = "--ignore-glob=*/tests/[!k]*"
        return subprocess.run(
            [*command, others], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout

    assert "tests/kubernetes" not in collected("tests")
    assert "tests/kubernetes/test_node.py" in collected("tests/kubernetes")


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        ("exit 0", "Error: plugin 20-nri-inject ended"),
        ("exec sleep 100", "Error: plugin 20-nri-inject did not answer registration in time"),
    ],
)
def test_the_demo_fails_when_the_plugin_does_not_register(
    tmp_path: Path, plugin: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    program = tmp_path / "nri-inject"
    program.write_text(
        "#!/bin/sh\n"
        f'if [ -n "$NRI_PLUGIN_SOCKET" ]; then {plugin}; fi\n'
        f'exec {tmp_path}/python -m nri_inject "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    status, output = demo(Path("examples/02-devices"), tmp_path)
    assert (status, sentence in output) == (2, True), output
    assert "==> done" not in output

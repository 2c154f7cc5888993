"""`nri-inject devices features`: the file for Node Feature Discovery, and when it is written."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.machine import machine, sticks, write

from nri_inject.cli.device_features import MARK, text_of
from nri_inject.cli.devices import command

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "nri-inject"
BOUND = 30
STICK = "devices.noderesource.dev/usb.1a86.7523"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return write(tmp_path / "host", machine())


def run(*arguments: object) -> tuple[int, str, str]:
    given = ["features", *map(str, arguments)]
    result = CliRunner().invoke(command, given, standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value or 0, result.stdout, result.stderr


def labels(text: str) -> dict[str, str]:
    """Read a feature file as NFD does: lines `NAME=VALUE` (source/local, 76e6cc8)."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value if equals else "true" for name, equals, value in pairs}


def test_the_labels_are_printed(host: Path) -> None:
    status, text, _ = run("--root", host)
    assert status == 0
    said = labels(text)
    assert set(said.values()) == {"true"}
    assert {STICK, "devices.noderesource.dev/class.kvm"} <= said.keys()
    assert json.loads(run("--root", host, "--format", "json")[1]) == {"labels": [*said]}


def test_the_file_is_replaced_only_when_the_labels_change(host: Path, tmp_path: Path) -> None:
    file = tmp_path / "features.d" / "nri-inject"
    arguments = ("--root", host, "--output", file.parent)
    assert run(*arguments) == (0, f"wrote {file}\n", "")
    before = file.stat()
    assert file.read_text() == MARK + run("--root", host)[1]
    assert not MARK.startswith("# +")  # which would be a directive of NFD
    assert stat.S_IMODE(before.st_mode) == 0o644  # NFD's worker is not root
    assert run(*arguments) == (0, f"unchanged {file}\n", "")
    assert file.stat().st_ino == before.st_ino
    other = write(tmp_path / "other", machine(sticks()[:0]))
    assert run("--root", other, "--output", file.parent) == (0, f"wrote {file}\n", "")
    assert STICK not in labels(file.read_text())
    assert [path.name for path in file.parent.iterdir()] == ["nri-inject"]


def test_a_file_of_another_program_stays(host: Path, tmp_path: Path) -> None:
    file = tmp_path / "nri-inject"
    file.write_text("other=true\n")
    status, _, errors = run("--root", host, "--output", tmp_path)
    assert (status, errors) == (
        1,
        f"Error: {file} was not written by this command; move it\n",
    )
    assert file.read_text() == "other=true\n"


def test_serial_numbers_are_there_on_request_only(host: Path) -> None:
    serial = "devices.noderesource.dev/usb.0403.6001.A50285BI"
    assert serial not in run("--root", host)[1]
    assert labels(run("--root", host, "--serials")[1])[serial] == "true"


def test_a_file_says_that_there_would_be_more_and_nfd_reads_all_of_it() -> None:
    many = [f"devices.noderesource.dev/{'x' * 59}{number:04}" for number in range(407)]
    text = text_of(many)
    assert text.splitlines()[-1] == "# 7 more are left out: a node has at most 400"
    assert [*labels(text)] == many[:400]
    assert len(text) < 65536  # MaxFeatureFileSize of NFD's source/local


def test_watching_ends_well_with_a_signal(host: Path, tmp_path: Path) -> None:
    arguments = ("devices", "features", "--watch", "--root", host, "--output", tmp_path / "out")
    with subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=BOUND)
        assert process.returncode == 0
    assert first == f"wrote {tmp_path}/out/nri-inject\n".encode()


def test_watching_needs_a_directory() -> None:
    result = CliRunner().invoke(command, ["features", "--watch"])
    assert result.exit_code == 2
    assert "Error: --watch needs --output" in result.output

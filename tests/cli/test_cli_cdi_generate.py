"""`nri-inject cdi generate`: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.machine import Fake, machine, sticks, write

from nri_inject.cdi import schema, spec
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cli.cdi import command
from nri_inject.cli.cdi_generate import MARK
from nri_inject.host.devices.classes import CLASSES

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "nri-inject"
BOUND = 30


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return write(tmp_path / "host", machine())


def run(*arguments: object) -> tuple[int, str, str]:
    given = ["generate", *map(str, arguments)]
    result = CliRunner().invoke(command, given, standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value or 0, result.stdout, result.stderr


def specs(*arguments: object) -> dict[str, Any]:
    documents = yaml.safe_load_all(run(*arguments)[1])
    return {document["kind"]: document for document in documents}


def devices(document: Any) -> dict[str, list[str]]:
    return {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
        for device in document["devices"]
    }


def test_every_class_that_the_host_has_is_printed(host: Path) -> None:
    made = specs("--root", host)
    assert [*made] == [f"node.local/{name}" for name, kind in CLASSES.items() if kind.generated]
    assert devices(made["node.local/infiniband"])["all"] == [
        "/dev/infiniband/rdma_cm",
        "/dev/infiniband/uverbs0",
    ]
    assert devices(made["node.local/tun"]) == {"all": ["/dev/net/tun"], "net-tun": ["/dev/net/tun"]}


def test_a_device_has_a_lasting_name_and_path(host: Path) -> None:
    (made,) = specs("--root", host, "--class", "tty-usb").values()
    link = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
    assert made["cdiVersion"] == "0.5.0"
    assert [device["name"] for device in made["devices"]] == [
        "all",
        "pci-0000:00:14.0-usb-0:1.1:1.0-port0",
        "pci-0000:00:14.0-usb-0:1.2:1.0-port0",
        "usb-0403_A50285BI-if00-port0",
    ]
    assert made["devices"][3]["containerEdits"]["deviceNodes"] == [
        {"path": "/dev/ttyUSB2"},
        {"path": link, "hostPath": "/dev/ttyUSB2"},
    ]


def test_a_sound_card_is_one_device(host: Path) -> None:
    (made,) = specs("--root", host, "--class", "sound").values()
    nodes = ["/dev/snd/controlC1", "/dev/snd/pcmC1D0c"]
    assert devices(made) == {
        "all": nodes,
        "usb-046d-0825-C0FFEE42-sound-02-controlC": nodes,
    }


def test_the_version_is_the_lowest_that_has_what_is_used(host: Path) -> None:
    versions = {kind: made["cdiVersion"] for kind, made in specs("--root", host).items()}
    assert versions["node.local/fuse"] == "0.3.0"
    assert versions["node.local/serial"] == "0.5.0"
    assert set(versions.values()) == {"0.3.0", "0.5.0"}


def test_a_version_of_ones_own_may_be_higher_and_not_lower(host: Path) -> None:
    (made,) = specs("--root", host, "--class", "serial", "--cdi-version", "0.6.0").values()
    assert made["cdiVersion"] == "0.6.0"
    status, text, errors = run("--root", host, "--class", "serial", "--cdi-version", "0.3.0")
    assert (status, text) == (1, "")
    assert errors.startswith("Error: class serial: --cdi-version: cdiVersion: ")


def test_what_is_generated_passes_validation_and_the_published_schema(host: Path) -> None:
    for made in specs("--root", host, *(f"--class={name}" for name in CLASSES)).values():
        data = yaml.safe_dump(made).encode()
        assert spec.parse(data).problems == ()
        assert schema.check(spec.load(data)) == []


def test_for_programs(host: Path) -> None:
    made = json.loads(run("--root", host, "--class", "fuse", "--format", "json")[1])
    assert made == {
        "nri-inject-fuse.yaml": {
            "cdiVersion": "0.3.0",
            "kind": "node.local/fuse",
            "devices": [
                {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/fuse"}]}},
                {"name": "fuse", "containerEdits": {"deviceNodes": [{"path": "/dev/fuse"}]}},
            ],
        }
    }


# --- files --------------------------------------------------------------------------------------


def store(host: Path, directory: Path, *arguments: object) -> Any:
    status, text, _ = run("--root", host, "--output", directory, "--format", "json", *arguments)
    assert status == 0
    return {word: [Path(f).name for f in files] for word, files in json.loads(text).items()}


def test_files_are_written_once_readable_and_the_same_for_the_same_hardware(
    host: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "etc/cdi"
    names = [f"nri-inject-{name}.yaml" for name, kind in CLASSES.items() if kind.generated]
    assert store(host, directory) == {"wrote": names, "removed": [], "unchanged": []}
    assert sorted(file.name for file in directory.iterdir()) == sorted(names)
    before = {file: (file.read_bytes(), file.stat().st_ino) for file in directory.iterdir()}
    assert store(host, directory) == {"wrote": [], "removed": [], "unchanged": names}
    assert before == {f: (f.read_bytes(), f.stat().st_ino) for f in directory.iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o644}
    again = tmp_path / "again"
    store(host, again)
    assert [f.read_bytes() for f in sorted(again.iterdir())] == [
        f.read_bytes() for f in sorted(directory.iterdir())
    ]


def test_names_stay_when_sticks_are_plugged_in_again_in_another_order(tmp_path: Path) -> None:
    listed = []
    for order in ((0, 1, 2), (2, 0, 1)):
        host = write(tmp_path / str(order), machine(sticks(*order)))
        (made,) = specs("--root", host, "--class", "tty-usb").values()
        by_name = {device["name"]: device["containerEdits"] for device in made["devices"]}
        listed.append([*by_name])
        node = by_name["usb-0403_A50285BI-if00-port0"]["deviceNodes"][1]
        assert node["hostPath"] == f"/dev/ttyUSB{order[2]}"
    assert listed[0] == listed[1]


def test_a_file_goes_when_the_last_device_of_its_class_has_gone(host: Path, tmp_path: Path) -> None:
    directory = tmp_path / "cdi"
    store(host, directory)
    (host / "sys/dev/char/10:229").unlink()
    assert store(host, directory)["removed"] == ["nri-inject-fuse.yaml"]
    assert not (directory / "nri-inject-fuse.yaml").exists()
    assert (directory / "nri-inject-kvm.yaml").exists()


def test_files_of_others_are_left_alone(host: Path, tmp_path: Path) -> None:
    directory = tmp_path / "cdi"
    directory.mkdir()
    (directory / "vendor.yaml").write_text("x")
    (directory / "nri-inject-fuse.yaml").write_text("mine")
    status, _, errors = run("--root", host, "--output", directory, "--class", "fuse")
    assert (status, errors) == (
        1,
        f"Error: {directory}/nri-inject-fuse.yaml was not written by this command; move it\n",
    )
    assert (directory / "nri-inject-fuse.yaml").read_text() == "mine"
    store(host, directory, "--class", "kvm")
    assert (directory / "vendor.yaml").read_text() == "x"


def test_a_directory_that_cannot_be_written_is_named(host: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, errors = run("--root", host, "--output", tmp_path / "file", "--class", "fuse")
    assert (status, errors) == (1, f"Error: {tmp_path}/file: File exists\n")


def test_the_registry_reads_what_is_written(host: Path, tmp_path: Path) -> None:
    store(host, tmp_path / "cdi")
    found = CdiRegistry([str(tmp_path / "cdi")], unsafe=True, watched=False).current()
    assert (found.errors, found.warnings) == ({}, {})
    assert "node.local/serial=usb-0403_A50285BI-if00-port0" in found.devices


def test_text_says_what_was_done(host: Path, tmp_path: Path) -> None:
    arguments = ("--root", host, "--output", tmp_path, "--class", "fuse")
    assert run(*arguments)[1] == f"wrote {tmp_path}/nri-inject-fuse.yaml\n"
    assert run(*arguments)[1] == f"unchanged {tmp_path}/nri-inject-fuse.yaml\n"
    assert (tmp_path / "nri-inject-fuse.yaml").read_text().startswith(MARK)


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_watching_ends_well_with_a_signal(host: Path, tmp_path: Path, word: int) -> None:
    arguments = ("cdi", "generate", "--watch", "--root", host, "--output", tmp_path / "cdi")
    with subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
        # A shell has its jobs in the background ignore SIGINT, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(word)
        process.communicate(timeout=BOUND)
        assert process.returncode == 0
    assert first.startswith(b"wrote ")


def test_watching_needs_a_directory() -> None:
    result = CliRunner().invoke(command, ["generate", "--watch"])
    assert result.exit_code == 2
    assert "Error: --watch needs --output" in result.output


def test_a_host_without_devices_has_no_specs(tmp_path: Path) -> None:
    assert run("--root", tmp_path) == (0, "", "")


def test_two_devices_that_would_have_one_name_get_two(tmp_path: Path) -> None:
    fakes = [
        Fake(f"/devices/pci/{n}/tty/ttyS{n}", "tty", f"ttyS{n}", f"4:{64 + n}", links=(link,))
        for n, link in enumerate(("serial/by-path/a b", "serial/by-path/a,b"))
    ]
    (made,) = specs("--root", write(tmp_path, fakes), "--class", "serial").values()
    assert [*devices(made)] == ["a-b", "all", "ttyS1"]


def test_it_has_an_example() -> None:
    assert "Example: nri-inject cdi generate" in run("--help")[1]

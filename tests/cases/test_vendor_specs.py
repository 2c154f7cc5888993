"""Specs of generators: loaded, checked and resolved; what is lost or gone is told everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import vendors
from support.saying import CASES, said

from nri_inject import api
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import Resolution, resolve
from nri_inject.host.nodes import HostDevices, HostFiles

GIDS = "NRI cannot add groups to a container"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """Write the specs of three vendors with nodes and files that every machine has."""
    library = tmp_path / "libcuda.so"
    library.touch()
    (tmp_path / "by-path").symlink_to("/dev/full")
    directory = tmp_path / "cdi"
    directory.mkdir()
    nvidia = vendors.nvidia("/dev/null", str(library), sys.executable)
    (directory / "nvidia.yaml").write_text(yaml.safe_dump(nvidia))
    (directory / "amd.json").write_text(json.dumps(vendors.amd("/dev/zero", "/dev/full")))
    intel = vendors.intel("/dev/full", "/dev/zero", str(tmp_path / "by-path"))
    (directory / "intel.com-gpu.yaml").write_text(yaml.safe_dump(intel))
    return directory


def resolved(specs: Path, name: str, **user: Any) -> Resolution:
    container = api.Container(name="main", user=api.User(**user))
    snapshot = CdiRegistry([str(specs)], watched=False).current()
    assert snapshot.errors == {}
    return resolve([name], snapshot, HostDevices(), files=HostFiles(), container=container)


def nodes(resolution: Resolution) -> list[tuple[str, int, int]]:
    return [(one.path, one.major, one.minor) for one in resolution.adjust.linux.devices]


def test_nvidia(specs: Path) -> None:
    for user in ({"uid": 0}, {"uid": 1000, "additional_gids": [44, 992]}):
        found = resolved(specs, vendors.NVIDIA, **user)
        assert (nodes(found), found.unsupported) == ([("/dev/nvidia0", 1, 3)], ())
        (device,) = found.adjust.linux.devices
        assert (device.gid.value, device.file_mode.value) == (44, 0o660)
        (hook,) = found.adjust.hooks.create_container
        assert [*hook.env] == ["NVIDIA_CTK_DEBUG=false"]
        assert [one.key for one in found.adjust.env][-1] == "NVIDIA_VISIBLE_DEVICES"
    (lost,) = resolved(specs, vendors.NVIDIA, uid=1000).unsupported
    file = specs / "nvidia.yaml"
    assert lost == (
        f"CDI device '{vendors.NVIDIA}' of {file}: additionalGids 44, 992: {GIDS}; add"
        " supplementalGroups: [44, 992] to the pod's securityContext, or set on_unsupported: warn"
        " or cdi.mode: native in the plugin's configuration"
    )


def test_amd(specs: Path) -> None:
    found = resolved(specs, vendors.AMD, uid=1000)
    assert found.unsupported == ()
    assert nodes(found) == [("/dev/dri/renderD128", 1, 5), ("/dev/kfd", 1, 7)]
    assert {one.gid.value for one in found.adjust.linux.devices} == {992}


def test_intel(specs: Path) -> None:
    found = resolved(specs, vendors.INTEL, uid=1000, gid=1000)
    assert found.unsupported == ()
    assert nodes(found) == [("/dev/dri/card1", 1, 7), ("/dev/dri/renderD129", 1, 5)]
    (mount,) = found.adjust.mounts
    assert (mount.type, [*mount.options]) == ("none", ["bind", "rw"])


def test_validate_and_list_have_a_word_on_groups_alone(specs: Path) -> None:
    files = sorted(specs.iterdir())
    status, lines = said("cdi", "validate", *files)
    needs = f"{GIDS}: one that is not root needs supplementalGroups: [44, 992]"
    assert status == 0
    assert len(lines) == 3
    assert all("nvidia.yaml: warning: line " in line and needs in line for line in lines)
    _, listed = said("cdi", "list", "--cdi-dir", specs)
    warned = [line for line in listed if line.startswith("warning: ")]
    assert len(warned) == 3
    assert all(needs in line for line in warned)


@pytest.mark.parametrize("command", ["validate", "list"])
def test_what_a_driver_took_with_it_is_told(command: str, tmp_path: Path) -> None:
    spec = vendors.nvidia("/dev/null", "/usr/lib/no-such-libcuda.so", "/usr/bin/no-such-hook")
    for device in spec["devices"]:
        device["containerEdits"] = {"deviceNodes": [{"path": "/dev/nvidia-no-such"}]}
    file = tmp_path / "nvidia.yaml"
    file.write_text(yaml.safe_dump(spec))
    arguments = [file] if command == "validate" else ["--cdi-dir", tmp_path]
    status, lines = said("cdi", command, *arguments)
    text = "\n".join(lines)
    assert status == 0
    for sentence in (
        "this host has no '/dev/nvidia-no-such'",
        "/usr/lib/no-such-libcuda.so does not exist",
        "program /usr/bin/no-such-hook does not exist",
    ):
        assert text.count(sentence) == 1


def test_resolve_fails_on_what_is_gone(tmp_path: Path) -> None:
    spec = vendors.nvidia("/dev/null", "/usr/lib/no-such-libcuda.so", "/usr/bin/no-such-hook")
    file = tmp_path / "nvidia.yaml"
    file.write_text(yaml.safe_dump(spec))
    sentence = (
        f"Error: CDI device '{vendors.NVIDIA}' of {file}: mount to"
        " '/usr/lib/x86_64-linux-gnu/libcuda.so.1': /usr/lib/no-such-libcuda.so does not exist;"
        " createContainer hook: program /usr/bin/no-such-hook does not exist"
    )
    assert said("cdi", "resolve", "--cdi-dir", tmp_path, vendors.NVIDIA) == (1, [sentence])


@pytest.mark.parametrize("name", ["pod.yaml", "pod-root-with-groups.yaml"])
def test_the_pods_of_the_case(name: str) -> None:
    pod = yaml.safe_load((CASES / "02" / name).read_text())
    context = pod["spec"].get("securityContext", {})
    user = {
        "uid": context.get("runAsUser", 0),
        "additional_gids": context.get("supplementalGroups", []),
    }
    container = api.Container(name="main", user=api.User(**user))
    snapshot = CdiRegistry([str(CASES / "02")], watched=False, unsafe=True).current()
    found = resolve(["acme.com/gpu=0"], snapshot, HostDevices(), container=container)
    assert (nodes(found), found.unsupported) == ([("/dev/null", 1, 3)], ())

"""Slips in CDI specs: keys of other tools, and patterns and directories as device nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.saying import CASES, said

LIST = "list the nodes, or use nri-inject cdi generate"

# A part of a spec that has a key of another tool: where it stands, the key, and ours for it.
KEYS: list[tuple[str, dict[str, Any], str, str]] = [
    ("mounts", {"hostPath": "/usr", "path": "/usr"}, "path", "containerPath"),
    ("mounts", {"source": "/usr", "containerPath": "/usr"}, "source", "hostPath"),
    ("mounts", {"hostPath": "/usr", "destination": "/usr"}, "destination", "containerPath"),
    ("mounts", {"hostPath": "/usr", "target": "/usr"}, "target", "containerPath"),
    ("mounts", {"hostPath": "/usr", "mountPath": "/usr"}, "mountPath", "containerPath"),
    ("mounts", {"hostPath": "/usr", "container_path": "/usr"}, "container_path", "containerPath"),
    ("mounts", {"src": "/usr", "containerPath": "/usr"}, "src", "hostPath"),
    ("deviceNodes", {"containerPath": "/dev/null"}, "containerPath", "path"),
    ("deviceNodes", {"pathInContainer": "/dev/null"}, "pathInContainer", "path"),
    ("deviceNodes", {"path": "/dev/null", "pathOnHost": "/dev/null"}, "pathOnHost", "hostPath"),
    ("deviceNodes", {"path": "/dev/null", "cgroupPermissions": "r"}, "cgroupPermissions",
     "permissions"),
    ("deviceNodes", {"path": "/dev/null", "mode": 438}, "mode", "fileMode"),
    ("hooks", {"name": "poststop", "path": "/bin/true", "env": ["A=1"]}, "name", "hookName"),
    ("hooks", {"hookName": "poststop", "command": "/bin/true", "env": ["A=1"]}, "command", "path"),
    ("hooks", {"hookName": "poststop", "path": "/bin/true", "env": ["A=1"], "arguments": []},
     "arguments", "args"),
    ("hooks", {"hookName": "poststop", "path": "/bin/true", "environment": ["A=1"]}, "environment",
     "env"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "entry", "key", "ours"), KEYS)
def test_a_key_of_another_tool_is_told_with_ours(
    part: str, entry: dict[str, Any], key: str, ours: str, tmp_path: Path
) -> None:
    assert faults(tmp_path, {"env": ["B=1"], part: [entry]})[-1].endswith(
        f"unknown key {key!r}; did you mean {ours!r}?"
    )


@pytest.mark.parametrize(
    ("edits", "key", "ours"),
    [
        ({"devices": [{"path": "/dev/null"}]}, "devices", "deviceNodes"),
        ({"volumes": []}, "volumes", "mounts"),
        ({"environment": {}}, "environment", "env"),
        ({"gids": [44]}, "gids", "additionalGids"),
        ({"supplementalGroups": [44]}, "supplementalGroups", "additionalGids"),
    ],
)
def test_the_same_of_edits(edits: dict[str, Any], key: str, ours: str, tmp_path: Path) -> None:
    found = faults(tmp_path, edits)
    assert found[-1].endswith(f"unknown key {key!r}; did you mean {ours!r}?")


def test_edits_beside_containeredits_are_told(tmp_path: Path) -> None:
    file = spec(tmp_path, {"name": "a", "deviceNodes": [{"path": "/dev/null"}]})
    assert said("cdi", "validate", file)[1][-1].endswith(
        "unknown key 'deviceNodes'; did you mean 'containerEdits'?"
    )


def test_the_mount_of_the_case() -> None:
    file = CASES / "18/f.yaml"
    at = "devices[0].containerEdits.mounts[0]"
    assert said("cdi", "validate", file) == (
        1,
        [
            f"{file}: line 10, column 11: {at}: containerPath is missing",
            f"{file}: line 11, column 17: {at}: unknown key 'path'; did you mean 'containerPath'?",
        ],
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/dev/ttyUSB*", "CDI has no patterns"),
        ("/dev/ttyUSB?", "CDI has no patterns"),
        ("/dev/nvidia[0-9]", "CDI has no patterns"),
        ("/dev/nvidia{0,1}", "CDI has no patterns"),
        ("/dev/nvidia{0..7}", "CDI has no patterns"),
        ("/dev/*", "CDI has no patterns"),
        ("/dev/dri", "CDI has no directories of nodes"),
        ("/dev/snd/", "CDI has no directories of nodes"),
        ("/dev/bus/usb", "CDI has no directories of nodes"),
        ("/dev/serial/by-id", "CDI has no directories of nodes"),
        ("/dev/shm", "CDI has no directories of nodes"),
        ("/dev", "CDI has no directories of nodes"),
    ],
)
def test_a_node_that_can_be_none_is_told_by_every_command(
    path: str, why: str, tmp_path: Path
) -> None:
    file = spec(tmp_path, {"name": "a", "containerEdits": {"deviceNodes": [{"path": path}]}})
    place = "devices[0].containerEdits.deviceNodes[0]"
    sentence = f"{path!r}: {why}; {LIST}"
    assert said("cdi", "validate", file) == (
        0,
        [f"{file}: warning: line 1, column 108: {place}: {sentence}"],
    )
    _, listed = said("cdi", "list", "--cdi-dir", tmp_path)
    assert listed[-1] == f"warning: {file}: {place}: {sentence}"


def spec(place: Path, device: dict[str, Any]) -> Path:
    file = place / "a.json"
    document = {"cdiVersion": "0.7.0", "kind": "acme.com/a", "devices": [device]}
    file.write_text(json.dumps(document))
    return file


def faults(place: Path, edits: dict[str, Any]) -> list[str]:
    status, lines = said("cdi", "validate", spec(place, {"name": "a", "containerEdits": edits}))
    assert status == 1
    return lines

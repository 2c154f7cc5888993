"""What the Go library does with specs, devices and names, case by case."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import hooks_without_env

from nri_inject.cdi import names, oci, schema, spec
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.registry import CdiRegistry, Snapshot
from nri_inject.host.nodes import HostDevices
from nri_inject.text.fields import Fault
from nri_inject.text.yamltext import Value, YamlError

VECTORS = Path(__file__).parents[1] / "vectors" / "cdi"

USUAL = {
    "ociVersion": "1.2.0",
    "process": {"args": ["sleep", "inf"], "cwd": "/", "env": ["PATH=/usr/bin:/bin"]},
    "root": {"path": "rootfs"},
    "linux": {},
}
NULL = {"type": "c", "major": 1, "minor": 3}


def with_env(*entries: str, **more: Any) -> dict[str, Any]:
    """Return the outcome of a container that has gained these variables, and more."""
    env = [*USUAL["process"]["env"], *entries]  # type: ignore[index]
    process = {**USUAL["process"], "env": env}  # type: ignore[dict-item]
    return {"oci_spec": {**USUAL, "process": process, **more}}


def with_node(path: str, **rules: Any) -> dict[str, Any]:
    """Return the outcome of a container that has gained /dev/null under a path."""
    linux = {"devices": [{"path": path, **NULL, "fileMode": 0o666}], **rules}
    return {"oci_spec": {**USUAL, "linux": linux}}


ALLOWED = {"resources": {"devices": [{"allow": True, **NULL, "access": "rwm"}]}}


def named(*devices: str) -> dict[str, Any]:
    """Return the listings when the spec's devices are in use."""
    names = [f"vendor.com/device={name}" for name in devices]
    return {"devices": names, "vendors": ["vendor.com"], "classes": ["device"]}


# Where we differ on purpose: for each step, what of the outcome is different here, and what it
# is. The reasons are in docs/differences-cdi.md.
DIFFERENCES: dict[str, dict[int, dict[str, Any]]] = {
    "conflicts/conflict-low-removes-sound-high": {
        0: {"expect": with_env("FROM=high"), **named("dev1")}
    },
    "device-nodes/permissions-none": {0: {"expect": with_node("/dev/null")}},
    "device-nodes/symlink-on-host": {0: {"expect": with_node("/dev/x", **ALLOWED)}},
    "device-nodes/type-u-needs-major": {0: {"expect": with_node("/dev/null", **ALLOWED)}},
    "formats/directory-is-a-file": {
        0: {
            "expect": with_env("DEV1=1"),
            "cache_errors": {"0": [{"code": "directory"}]},
            **named("dev1"),
        }
    },
    "formats/dropped-rdt-fields": {0: {"cache_errors": {}, **named("dev1", "dev2", "dev3")}},
    "formats/merge-key-with-override": {
        0: {
            "expect": with_env("B=1", mounts=[{"destination": "/srv", "source": "/srv"}]),
            "cache_errors": {},
            **named("dev1", "dev2", "dev3"),
        }
    },
    "formats/plain-scalars-become-strings": {
        0: {
            "cache_errors": {"0/a.yaml": [{"code": "wrong-type", "field": "devices.name"}]},
            "devices": [],
            "vendors": [],
            "classes": [],
        }
    },
    "formats/null-list-item-device-nodes": {
        0: {
            "expect": with_env("A=1"),
            "cache_errors": {"0/a.yaml": [{"code": "null-item"}]},
            **named("dev2"),
        }
    },
    "versions/none-permissions-need-no-version": {0: {"expect": with_node("/dev/null")}},
    "refresh/file-becomes-invalid": {1: {"expect": with_env("DEV1=1"), **named("dev1")}},
}


def vectors() -> Iterator[Any]:
    for file in sorted(VECTORS.glob("*.json")):
        if not file.name.startswith("table-"):
            for vector in json.loads(file.read_text()):
                yield pytest.param(vector, id=vector["name"])


@cache
def table(name: str) -> dict[str, list[Any]]:
    content: dict[str, list[Any]] = json.loads((VECTORS / f"table-{name}.json").read_text())
    return content


# --- files on disk ------------------------------------------------------------------------------


class Disk:
    """The directories of a vector, and the host's files."""

    def __init__(self, root: Path, vector: Mapping[str, Any]) -> None:
        self.host = root / "host"
        self.host.mkdir()
        self.directories = []
        for number, files in enumerate(vector["spec_dirs"]):
            setup = vector.get("dir_setup", {}).get(str(number))
            self.directories.append(self._directory(root, number, files, setup))
        for name, content in vector.get("host", {}).items():
            self._make(self.host / name, content)

    def _directory(self, root: Path, number: int, files: Mapping[str, Any], setup: Any) -> Path:
        place = root / str(number)
        if isinstance(setup, dict) and "same_as" in setup:
            return self.directories[setup["same_as"]]
        if isinstance(setup, dict):
            place.write_text(setup["file"])
            return place
        if setup == "missing":
            return place
        real = root / f"real-{number}" if setup == "symlink" else place
        real.mkdir()
        if setup == "symlink":
            place.symlink_to(real)
        for name, content in files.items():
            self._make(real / name, content)
        return place

    def _make(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(self.placed(content), newline="")
        elif "symlink" in content:
            path.symlink_to(content["symlink"])
        elif "base64" in content:
            path.write_bytes(base64.b64decode(content["base64"]))
        elif "fifo" in content:
            os.mkfifo(path)
            path.chmod(int(content["fifo"], 8))
        else:
            path.write_text(content["file"])

    def placed(self, text: str) -> str:
        return text.replace("@HOST@", str(self.host))

    def path(self, name: str) -> Path:
        number, _, rest = name.partition("/")
        return self.directories[int(number)] / rest if rest else self.directories[int(number)]

    def name(self, path: str) -> str:
        for number, directory in enumerate(self.directories):
            if path == str(directory):
                return str(number)
            if path.startswith(f"{directory}/"):
                return f"{number}/{path[len(str(directory)) + 1 :]}"
        raise AssertionError(path)

    def change(self, step: Mapping[str, Any]) -> None:
        for name in step.get("remove", ()):
            path = self.path(name)
            if path.is_dir():
                for inside in path.iterdir():
                    inside.unlink()
                path.rmdir()
            else:
                path.unlink()
        for name, content in step.get("write", {}).items():
            self._make(self.path(name), content)


# --- outcomes -----------------------------------------------------------------------------------


def errors(snapshot: Snapshot, disk: Disk) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in snapshot.files:
        for problem in file.errors:
            entry = {"code": problem.code, **problem.details}
            found.setdefault(disk.name(file.path), []).append(entry)
    for directory in snapshot.priorities:
        if directory in snapshot.errors:
            found[disk.name(directory)] = [{"code": "directory"}]
    for device, paths in snapshot.conflicts.items():
        files = [disk.name(path) for path in paths]
        # The first against each later one, as Go compares them.
        for later in files[1:]:
            pair = {"code": "conflict", "device": device, "files": [files[0], later]}
            found.setdefault(files[0], []).append(pair)
            found.setdefault(later, []).append(pair)
    return found


def injected(request: Mapping[str, Any], before: Any, snapshot: Snapshot) -> dict[str, Any]:
    try:
        after = oci.inject(before, request["inject"], snapshot, HostDevices())
    except CdiError as error:
        if error.unresolved:
            return {"error": {"code": "unresolvable", "devices": [*error.unresolved]}}
        fault = error.nodes[0]
        detail: dict[str, Any] = {"code": fault.code, "path": fault.host_path}
        if fault.code == "type-mismatch":
            types = re.findall(r"(spec|host) has (?:type )?(\w)(?:,|$)", fault.sentence)
            detail |= {f"{side}_type": type_ for side, type_ in types}
            detail |= {"path": fault.path, "host_path": fault.host_path}
        return {"error": detail}
    return {"oci_spec": after}


def outcome(
    request: Mapping[str, Any], before: Any, snapshot: Snapshot, disk: Disk
) -> dict[str, Any]:
    """Return all that a vector or a step of one may expect."""
    return {
        "expect": injected(request, before, snapshot),
        "cache_errors": errors(snapshot, disk),
        "devices": sorted(snapshot.devices),
        "vendors": [*snapshot.vendors],
        "classes": [*snapshot.classes],
    }


ZEROS = {"cwd": "", "user": {"uid": 0, "gid": 0}, "major": 0, "minor": 0, "uid": 0, "gid": 0}


def plainly(value: Any) -> Any:
    """Leave out what the reference prints although it is absent, and the order of errors."""
    if isinstance(value, dict):
        kept = {key: plainly(item) for key, item in value.items() if ZEROS.get(key) != item}
        return {key: item for key, item in kept.items() if not (key == "user" and item == {})}
    return [plainly(item) for item in value] if isinstance(value, list) else value


def comparable(result: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: plainly(value) for key, value in result.items()}
    for file, found in plain.get("cache_errors", {}).items():
        plain["cache_errors"][file] = sorted(found, key=json.dumps)
    return plain


@pytest.mark.parametrize("vector", [*vectors()])
def test_vector(vector: dict[str, Any], tmp_path: Path) -> None:
    usual = {"/dev/null": 0o666, "/dev/zero": 0o666, "/dev/full": 0o666, "/dev/random": 0o666}
    for path, mode in usual.items():
        if stat.S_IMODE(Path(path).stat().st_mode) != mode:
            pytest.skip(f"{path} has another mode here")
    disk = Disk(tmp_path, vector)
    registry = CdiRegistry(map(str, disk.directories), patience=0)
    different = DIFFERENCES.get(vector["name"], {})
    try:
        for number, step in enumerate([vector, *vector.get("steps", ())]):
            disk.change(step if number else {})
            got = outcome(step, vector["oci_spec_in"], registry.current(), disk)
            step_text = disk.placed(json.dumps({key: step[key] for key in got if key in step}))
            wanted = hooks_without_env.expected(vector["name"], json.loads(step_text), own(vector))
            wanted |= different.get(number, {})
            got = {key: value for key, value in got.items() if key in wanted}
            assert comparable(got) == comparable(wanted), f"step {number}"
    finally:
        registry.close()


def own(vector: Mapping[str, Any]) -> set[str]:
    """Return the programs of the hooks that a vector's container has already."""
    before = (vector["oci_spec_in"] or {}).get("hooks") or {}
    return {hook["path"] for hooks in before.values() for hook in hooks}


def test_every_difference_is_of_a_vector() -> None:
    assert {*DIFFERENCES} <= {param.id for param in vectors()}


# --- tables -------------------------------------------------------------------------------------


def parts_of(name: str) -> list[str] | None:
    try:
        return [*names.parse(name)]
    except Fault:
        return None


@pytest.mark.parametrize("row", table("names")["qualified_names"], ids=lambda row: row["input"])
def test_qualified_name(row: dict[str, Any]) -> None:
    assert (parts_of(row["input"]), [*names.split(row["input"])]) == (
        row["parts"],
        row["loose_parts"],
    )


@pytest.mark.parametrize("row", table("names")["name_parts"], ids=lambda row: row["input"])
def test_part_of_a_name(row: dict[str, Any]) -> None:
    matches = {"vendor": names.is_vendor, "class": names.is_class, "device": names.is_device}
    for part, match in matches.items():
        assert bool(match(row["input"])) == row[part]


@pytest.mark.parametrize("row", table("annotations")["parse"], ids=lambda row: str(row)[:60])
def test_requested_in_annotations(row: dict[str, Any]) -> None:
    texts = row["annotations"].items()
    requested = sorted(pair for pair in texts if pair[0].startswith(names.ANNOTATION_PREFIX))
    if "error" in row:
        with pytest.raises(Fault):
            names.listed(requested)
    else:
        assert [key for key, _ in requested] == row["keys"]
        assert [name for name, _ in names.listed(requested)] == row["devices"]


@pytest.mark.parametrize(
    "row", table("versions")["version_strings"], ids=lambda row: row["version"]
)
def test_version(row: dict[str, Any]) -> None:
    edits: Value = {"env": ["A=1"]}
    document: dict[str, Value] = {"cdiVersion": row["version"], "kind": "vendor.com/device"}
    parsed = spec.check({**document, "devices": [{"name": "a", "containerEdits": edits}]})
    codes = {"ok": [], "too-low": ["version-too-low"], "unknown": ["invalid-version"]}
    assert [problem.code for problem in parsed.errors] == codes[row["result"]]


@pytest.mark.parametrize("row", table("versions")["minimum_versions"], ids=lambda row: row["spec"])
def test_minimum_version(row: dict[str, Any]) -> None:
    assert spec.parse(row["spec"].encode()).minimum == row["minimum"]


# What Go's check of a schema refuses beyond its normal check, and we refuse neither: we warn.
ONLY_WARNED = {"hook-timeout-negative.json", "hook-timeout-negative.yaml"}


@pytest.mark.parametrize("row", table("schema")["documents"], ids=lambda row: row["name"])
def test_document_loads(row: dict[str, Any]) -> None:
    parsed = spec.parse(row["content"].encode())
    assert (parsed.spec is not None) == row["loads"], parsed.problems
    if row["loads"] and not row["loads_with_schema_check"]:
        assert row["name"] in ONLY_WARNED
        assert parsed.warnings


# What our schema takes and Go's refuses; loading takes it too, all but the last with a warning.
SCHEMA_TAKES = {*ONLY_WARNED, "annotation-bad-key.yaml", "trailing-comma.json"}
# What our schema refuses although it loads: a number, with a warning, where text is due.
SCHEMA_REFUSES = {"annotation-empty-key-number.json"}


@pytest.mark.parametrize("row", table("schema")["documents"], ids=lambda row: row["name"])
def test_schema_refuses_what_gos_does_and_what_does_not_load(row: dict[str, Any]) -> None:
    try:
        taken = not schema.check(spec.load(row["content"].encode()))
    except YamlError:
        taken = False
    for theirs in (row["schema_on_data"], row["schema_on_file"]):
        if taken and not theirs:
            assert row["loads"]
            assert row["name"] in SCHEMA_TAKES
        if theirs and not taken:
            assert not row["loads"] or row["name"] in SCHEMA_REFUSES

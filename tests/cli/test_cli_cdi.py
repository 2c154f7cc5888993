"""The commands below `nri-inject cdi`: their shapes and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cli.cdi import command, difference
from nri_inject.host.hook_environment import PATH

SPEC: dict[str, Any] = {
    "cdiVersion": "0.7.0",
    "kind": "v.com/d",
    "devices": [
        {"name": "a", "containerEdits": {"env": ["A=1"], "additionalGids": [44]}},
        {"name": "b", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-node"}]}},
    ],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "a.json").write_text(json.dumps(SPEC))
    return tmp_path / "cdi"


def run(*arguments: object, given: str = "") -> tuple[int, str]:
    """Return the exit status, and what was printed on both streams."""
    result = CliRunner().invoke(command, [*map(str, arguments)], input=given, standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value or 0, result.output


def as_json(*arguments: object, given: str = "") -> tuple[int, Any]:
    status, text = run(*arguments, "--format", "json", given=given)
    return status, json.loads(text)


def test_list(directory: Path) -> None:
    (directory / "bad.json").write_text("{}")
    status, listed = as_json("list", "--cdi-dir", directory)
    assert status == 0
    assert listed.pop("errors").keys() == {str(directory / "bad.json")}
    assert listed == {
        "devices": ["v.com/d=a", "v.com/d=b"],
        "vendors": ["v.com"],
        "classes": ["d"],
    }


def test_list_for_people(directory: Path) -> None:
    status, text = run("list", "--cdi-dir", directory)
    assert (status, text.splitlines()) == (
        0,
        [f"v.com/d={name}  ({directory}/a.json)" for name in ("a", "b")],
    )


def test_file_that_others_can_write_is_listed_with_unsafe_files(directory: Path) -> None:
    (directory / "a.json").chmod(0o666)
    assert as_json("list", "--cdi-dir", directory)[1]["devices"] == []
    assert as_json("list", "--cdi-dir", directory, "--unsafe-files")[1]["devices"] != []


def test_dirs(directory: Path) -> None:
    none = directory / "none"
    status, found = as_json("dirs", "--cdi-dir", none, "--cdi-dir", directory)
    assert (status, found["directories"]) == (
        0,
        [
            {"path": str(none), "priority": 0, "exists": False, "specs": 0, "errors": []},
            {"path": str(directory), "priority": 1, "exists": True, "specs": 1, "errors": []},
        ],
    )
    assert run("dirs", "--cdi-dir", directory / "a.json")[0] == 1


def test_specs_of_a_vendor(directory: Path) -> None:
    status, found = as_json("specs", "v.com", "--cdi-dir", directory)
    assert status == 0
    assert [(row["file"], row["kind"], row["cdiVersion"]) for row in found["specs"]] == [
        (str(directory / "a.json"), "v.com/d", "0.7.0")
    ]
    status, text = run("specs", "w.com", "--cdi-dir", directory)
    assert (status, text) == (1, "Error: no spec of vendor 'w.com'\n")


def test_validate_warns_of_hooks_without_env(directory: Path) -> None:
    bare, given = "{hookName: poststop, path: /a}", "{hookName: poststop, path: /a, env: [A=1]}"
    spec = directory / "hooks.yaml"
    spec.write_text(
        'cdiVersion: "0.5.0"\nkind: v.com/h\n'
        f"containerEdits: {{hooks: [{bare}]}}\n"
        "devices:\n"
        f"- {{name: a, containerEdits: {{hooks: [{given}, {bare[:-1]}, env: []}}]}}}}\n"
    )
    status, text = run("validate", spec)
    sentence = (
        f"the hook has no env, so nri-inject passes only {PATH}; a runtime that reads"
        " this file itself, as in mode native, may pass the container's variables,"
        " such as LD_PRELOAD"
    )
    assert (status, text.splitlines()) == (
        0,
        [
            f"{spec}: warning: line 3, column 26: containerEdits.hooks[0]: {sentence}",
            f"{spec}: warning: line 5, column 82: devices[0].containerEdits.hooks[1]: {sentence}",
        ],
    )


def test_validate_tells_file_place_and_sentence(directory: Path) -> None:
    good, bad = directory / "a.json", directory / "bad.yaml"
    bad.write_text("cdiVersion: 0.3.0\nkind: v.com/d\ndevices: [{name: 1, containerEdits: {}}]\n")
    assert run("validate", good) == (0, "")
    status, text = run("validate", good, bad)
    assert (status, text.splitlines()) == (
        1,
        [
            (
                f"{bad}: line 1, column 13: cdiVersion: '0.3.0' is too low for the fields that the"
                " spec"
                " uses; raise it to 0.5.0"
            ),
            (
                f"{bad}: warning: line 3, column 18: devices[0].name: not in quotes, so it is read"
                " as '1'"
            ),
            (
                f"{bad}: line 3, column 37: devices[0].containerEdits: no edits; a device must have"
                " at least one"
            ),
        ],
    )
    status, found = as_json("validate", bad)
    assert found["files"][str(bad)][0] == {
        "code": "version-too-low",
        "severity": "error",
        "line": 1,
        "column": 13,
        "path": "cdiVersion",
        "message": "'0.3.0' is too low for the fields that the spec uses; raise it to 0.5.0",
    }


def test_validate_needs_a_file_that_can_be_read(tmp_path: Path) -> None:
    status, text = run("validate", tmp_path / "none")
    assert (status, text) == (
        1,
        f"{tmp_path}/none: cannot be read: No such file or directory\n",
    )


def test_resolve(directory: Path) -> None:
    assert as_json("resolve", "--cdi-dir", directory, "v.com/d=a") == (
        0,
        {
            "adjust": {"env": [{"key": "A", "value": "1"}]},
            "unsupported": ["additionalGids 44: NRI cannot add groups to a container"],
        },
    )


def test_resolve_of_what_cannot_be_had(directory: Path) -> None:
    status, found = as_json("resolve", "--cdi-dir", directory, "v.com/d=c", "x")
    assert (status, found["unresolved"]) == (1, ["v.com/d=c", "x"])
    status, found = as_json("resolve", "--cdi-dir", directory, "v.com/d=b")
    sentence = "device node '/dev/no-such-node': the host has no '/dev/no-such-node'"
    assert (status, found) == (1, {"error": sentence, "unresolved": []})


@pytest.mark.parametrize("more", [(), ("--unsafe-files",)])
def test_validate_asks_for_the_content_alone(more: tuple[str, ...], directory: Path) -> None:
    (directory / "a.json").chmod(0o666)
    assert run("validate", *more, directory / "a.json") == (0, "")


def test_inject(directory: Path) -> None:
    given = '{"ociVersion": "1.2.0", "process": {"env": ["A=0"]}}'
    status, text = run("inject", "--cdi-dir", directory, "--spec", "-", "v.com/d=a", given=given)
    assert (status, json.loads(text)) == (
        0,
        {
            "ociVersion": "1.2.0",
            "process": {"env": ["A=1"], "user": {"additionalGids": [44]}},
        },
    )
    file = directory.parent / "config.json"
    file.write_text(given)
    assert run("inject", "--cdi-dir", directory, "--spec", file, "v.com/d=a") == (status, text)


def test_inject_of_what_cannot_be_had(directory: Path) -> None:
    arguments = ("inject", "--cdi-dir", directory, "--spec", "-", "v.com/d=c")
    status, text = run(*arguments, given="{}")
    assert status == 1
    assert json.loads(text) == {
        "error": "no CDI device 'v.com/d=c'; known devices of v.com/d: a, b",
        "unresolved": ["v.com/d=c"],
    }
    assert run(*arguments, given="[]")[0] == 1
    assert run(*arguments, given="{")[0] == 1


EVERYTHING: dict[str, Any] = {
    "cdiVersion": "1.1.0",
    "kind": "v.com/e",
    "devices": [
        {
            "name": "a",
            "containerEdits": {
                "env": ["A=1"],
                "deviceNodes": [{"path": "/dev/null"}],
                "netDevices": [{"hostInterfaceName": "eth0", "name": "net0"}],
                "mounts": [{"hostPath": "/a", "containerPath": "/a"}],
                "hooks": [{"hookName": "prestart", "path": "/bin/true"}],
                "intelRdt": {"closID": "a"},
                "additionalGids": [44],
            },
        }
    ],
}


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ('{"process": 5}', "OCI spec: process: 5 is not a map"),
        ('{"process": {"env": "A=1"}}', "OCI spec: process.env: 'A=1' is not a list"),
        ('{"process": {"env": ["A=1", 5]}}', "OCI spec: process.env[1]: 5 is not text"),
        ('{"process": {"user": []}}', "OCI spec: process.user: a list is not a map"),
        (
            '{"process": {"user": {"uid": "0"}}}',
            "OCI spec: process.user.uid: '0' is not a number",
        ),
        ('{"linux": []}', "OCI spec: linux: a list is not a map"),
        (
            '{"linux": {"devices": [null]}}',
            "OCI spec: linux.devices[0]: null where a map is expected",
        ),
        ('{"linux": {"namespaces": [5]}}', "OCI spec: linux.namespaces: 5 is not a map"),
        ('{"mounts": {}}', "OCI spec: mounts: a map is not a list"),
        ('{"mounts": [{"destination": 5}]}', "OCI spec: destination: 5 is not text"),
        ('{"hooks": true}', "OCI spec: hooks: true is not a map"),
        ("[]", "OCI spec -: a JSON object expected"),
        ("{", "cannot read OCI spec -: Expecting property name enclosed in double quotes"),
        ('{"a": NaN}', "cannot read OCI spec -: NaN is not JSON"),
    ],
)
def test_inject_into_what_is_no_oci_spec(given: str, fault: str, directory: Path) -> None:
    (directory / "e.json").write_text(json.dumps(EVERYTHING))
    arguments = ("inject", "--cdi-dir", directory, "--spec", "-", "v.com/e=a")
    status, text = run(*arguments, given=given)
    document = json.loads(text)
    assert (status, document["unresolved"]) == (1, [])
    assert document["error"].partition(": line")[0] == fault


def test_inject_into_a_file_that_is_not_there(directory: Path) -> None:
    status, text = run("inject", "--cdi-dir", directory, "--spec", "none.json", "v.com/d=a")
    assert (status, json.loads(text)["error"]) == (
        1,
        "cannot read OCI spec none.json: No such file or directory",
    )


@pytest.mark.parametrize(
    ("destination", "place"),
    [("/", 1), ("//a", 1), ("/a/../b", 1), ("/a/./b/", 2), ("a/b", 1), ("", 0), ("/a//b/c", 3)],
)
def test_mounts_are_put_in_order_by_their_clean_depth(
    destination: str, place: int, directory: Path
) -> None:
    edits = {"mounts": [{"hostPath": "/x", "containerPath": "/x/y/z/last"}]}
    document = {**EVERYTHING, "devices": [{"name": "a", "containerEdits": edits}]}
    (directory / "e.json").write_text(json.dumps(document))
    others = [{"destination": f"{'/x' * depth}" or "x"} for depth in range(4)]
    given = json.dumps({"mounts": [*reversed(others), {"destination": destination}]})
    arguments = ("inject", "--cdi-dir", directory, "--spec", "-", "v.com/e=a")
    mounts = json.loads(run(*arguments, given=given)[1])["mounts"]
    found = [mount.get("destination") for mount in mounts]
    assert found.index(destination) == place + 1


def test_monitor_does_not_tell_of_what_is_only_written_differently(directory: Path) -> None:
    devices = [{"name": f"d{n}", "containerEdits": {"env": [f"A={n}"]}} for n in range(500)]
    document = {**SPEC, "devices": devices}
    (directory / "a.json").write_text(json.dumps(document))
    registry = CdiRegistry([str(directory)], watched=False)
    first = registry.current()
    (directory / "a.json").write_text(json.dumps(document, indent=2))
    assert not any(difference(first, registry.current()).values())


def test_monitor_tells_what_was_added_changed_and_removed(directory: Path) -> None:
    registry = CdiRegistry([str(directory)], watched=False)
    first = registry.current()
    changed = {"name": "a", "containerEdits": {"env": ["A=2"]}}
    added = {"name": "c", "containerEdits": {"env": ["A=2"]}}
    (directory / "a.json").write_text(json.dumps({**SPEC, "devices": [changed, added]}))
    assert difference(first, registry.current()) == {
        "added": ["v.com/d=c"],
        "removed": ["v.com/d=b"],
        "changed": ["v.com/d=a"],
        "errors": {},
    }


@pytest.mark.parametrize(
    "name", ["list", "dirs", "specs", "monitor", "validate", "resolve", "inject"]
)
def test_each_command_has_an_example(name: str) -> None:
    assert f"Example: nri-inject cdi {name}" in run(name, "--help")[1]

"""Reading specs: what is wrong, where it stands, and what is only warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cdi import schema, spec
from nri_inject.text import yamltext
from nri_inject.text.fields import dotted
from nri_inject.text.yamltext import Value

VECTORS = Path(__file__).parents[1] / "vectors" / "cdi"


def document(**edits: Any) -> dict[str, Any]:
    return {
        "cdiVersion": "1.1.0",
        "kind": "vendor.com/device",
        "devices": [{"name": "a", "containerEdits": edits or {"env": ["A=1"]}}],
    }


def sentences(text: str) -> list[str]:
    data = text.encode()
    return [str(problem) for problem in spec.located(data, spec.parse(data))]


def problems(value: Value) -> list[tuple[str, str]]:
    return [
        (problem.code, f"{dotted(problem.path)}: {problem.sentence}")
        for problem in spec.check(value).problems
    ]


def test_all_problems_of_a_file_are_told_with_line_and_column() -> None:
    text = """\
cdiVersion: 1.2.0
kind: vendor.com
devices:
- name: -a
  containerEdits:
    env: [A]
    hooks:
    - {hookName: prestrat, path: /bin/true, tiemout: 3}
"""
    assert sentences(text) == [
        (
            "line 1, column 13: cdiVersion: '1.2.0' is not a version of CDI; newer than 1.1.0, the"
            " newest known version; use that one"
        ),
        "line 2, column 7: kind: 'vendor.com', not vendor/class, cannot be the kind's vendor",
        "line 4, column 9: devices[0].name: '-a' cannot be the name of a device",
        "line 6, column 11: devices[0].containerEdits.env[0]: 'A' is not of the form NAME=value",
        (
            "line 8, column 18: devices[0].containerEdits.hooks[0].hookName: 'prestrat' must be one"
            " of prestart, createRuntime, createContainer, startContainer, poststart, poststop; did"
            " you mean 'prestart'?"
        ),
        (
            "line 8, column 54: devices[0].containerEdits.hooks[0]: unknown key 'tiemout';"
            " did you mean 'timeout'?"
        ),
    ]


def test_version_that_was_not_quoted_is_explained() -> None:
    value: dict[str, Value] = {**document(), "cdiVersion": 1.0}
    assert problems(value) == [
        ("unquoted", "cdiVersion: not in quotes, so it is read as '1'"),
        (
            "invalid-version",
            "cdiVersion: '1' is not a version of CDI; did you mean '1.0.0', in quotes?",
        ),
    ]


@pytest.mark.parametrize(
    ("edits", "code"),
    [
        ({"deviceNodes": [{"path": "dev/x"}]}, "relative-path"),
        ({"deviceNodes": [{"path": "/x", "hostPath": "x"}]}, "relative-path"),
        ({"deviceNodes": [{"path": "/x", "major": -1}]}, "device-number"),
        ({"deviceNodes": [{"path": "/x", "minor": 2**20}]}, "device-number"),
        ({"deviceNodes": [{"path": "/x", "fileMode": 0o100666}]}, "file-mode"),
        ({"mounts": [{"hostPath": "/a", "containerPath": "a"}]}, "relative-path"),
        ({"mounts": [{"hostPath": "/a", "containerPath": "/a", "options": [None]}]}, "null-text"),
        ({"hooks": [{"hookName": "prestart", "path": "x"}]}, "relative-path"),
        ({"hooks": [{"hookName": "prestart", "path": "/x", "timeout": 0}]}, "timeout"),
        ({"intelRdt": {"closID": "c" * 256}}, "clos-id-length"),
        ({"netDevices": [{"hostInterfaceName": "e" * 16, "name": "a"}]}, "interface-name"),
        ({"netDevices": [{"hostInterfaceName": "e", "name": "a/b"}]}, "interface-name"),
        ({"ENV": ["A=1"]}, "key-case"),
        ({"additionalGids": [None]}, "null-group"),
    ],
)
def test_what_was_hardly_meant_is_warned_of_and_loads(edits: dict[str, Any], code: str) -> None:
    parsed = spec.check(document(**edits))
    assert parsed.spec is not None
    assert [problem.code for problem in parsed.warnings] == [code]


@pytest.mark.parametrize("key", ["Bad Key!", "-x", "UPPER/slash/twice", "", f"a/{'b' * 64}"])
def test_annotation_with_an_impossible_key_is_warned_of(key: str) -> None:
    value = {**document(), "annotations": {key: "x"}}
    assert [problem.code for problem in spec.check(value).problems] == ["annotation-key"]


@pytest.mark.parametrize("key", ["plain", "Example.com/Key", "a.b/c_d-e.f", f"a/{'b' * 63}"])
def test_annotation_with_a_possible_key_is_not(key: str) -> None:
    assert spec.check({**document(), "annotations": {key: "x"}}).problems == ()


def test_annotations_of_more_than_256_kib_are_warned_of() -> None:
    value = document()
    value["devices"][0]["annotations"] = {"example.com/slot": "x" * (256 * 1024)}
    assert [problem.code for problem in spec.check(value).problems] == ["annotations-size"]


@pytest.mark.parametrize(
    "edits",
    [
        {"deviceNodes": [None]},
        {"mounts": [None]},
        {"hooks": [None]},
        {"netDevices": [None]},
    ],
)
def test_null_in_a_list_is_a_problem_of_the_file_and_no_crash(edits: dict[str, Any]) -> None:
    parsed = spec.check(document(**edits))
    assert [problem.code for problem in parsed.errors] == ["null-item"]


def test_null_device_is_a_device_without_a_name() -> None:
    parsed = spec.check({**document(), "devices": [None]})
    codes = [problem.code for problem in parsed.errors]
    assert codes == ["invalid-device-name", "empty-device-edits"]


def test_key_in_two_letter_cases_is_given_twice() -> None:
    value = {**document(), "KIND": "vendor.com/other"}
    assert problems(value) == [("duplicate-key", ": kind is set twice, as 'kind' and 'KIND'")]


def test_further_document_is_told() -> None:
    text = json.dumps(document()) + "\n---\n{}\n"
    assert sentences(text) == [
        "line 2, column 1: a second document begins here; runtimes read only the first"
    ]


def test_control_characters_of_a_file_are_escaped_in_sentences() -> None:
    value = {**document(), "kind": "a\x1b[31m\n/b"}
    assert problems(value)[0][1] == "kind: vendor 'a\\x1b[31m\\n' cannot be the kind's vendor"


# --- JSON is read apart, and means the same -----------------------------------------------------


TEXTS = [
    json.dumps(document()),
    "\ufeff" + json.dumps(document()),
    '{"a": 1, "a": 2}',
    '{"a": {"b": 1, "b": 1}}',
    '{"a": NaN, "b": [Infinity, -Infinity]}',
    '{"a": 1e400}',
    '{"a": 123456789012345678901234567890}',
    '{"a": -0, "b": 1.0, "c": 1e3, "d": 1.5E-7, "e": -9223372036854775808}',
    '{"a": "\\ud800"}',
    '{"a": "\\u00e9\\n\\/"}',
    '{"a": 007, "b": yes}',
    '{"a": 1,}',
    "{a: 1}",
    '{"a": 1} {"b": 2}',
    '{"a": true, "b": null, "c": []}',
    '{"a": ' * 50 + "1" + "}" * 50,
    '{"a": ' * 5000 + "1" + "}" * 5000,
    '{"a": "\t"}',
    "{}",
    " {",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_json_means_what_it_means_to_yaml(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        wanted: object = yamltext.load(data, yamltext.SPEC_FILE)
    except yamltext.YamlError as error:
        wanted = str(error)
    try:
        found: object = spec.load(data)
    except yamltext.YamlError as error:
        found = str(error)
    if isinstance(wanted, str) and wanted.endswith("deep"):
        assert found == wanted or spec.check(found).spec is None  # type: ignore[arg-type]
        return
    assert (found, repr(found)) == (wanted, repr(wanted))


# --- the schema ---------------------------------------------------------------------------------

# What a schema cannot say.
BEYOND = {"version-too-low", "duplicate-device", "duplicate-net-host-name", "duplicate-net-name"}


RDT_BEFORE_1_1 = {"enableCMT", "enableMBM"}  # whether they may be there depends on the version


def has_null(value: Value) -> bool:
    """Tell of what loading takes for absent and the schema for wrong."""
    if isinstance(value, dict):
        return any(map(has_null, value.values()))
    return any(map(has_null, value)) if isinstance(value, list) else value is None


def every_document() -> list[tuple[str, bytes]]:
    found = []
    table = json.loads((VECTORS / "table-schema.json").read_text())["documents"]
    found += [(row["name"], row["content"].encode()) for row in table]
    for file in sorted(VECTORS.glob("[!t]*.json")):
        for vector in json.loads(file.read_text()):
            for directory in vector["spec_dirs"]:
                for name, content in directory.items():
                    if isinstance(content, str):
                        found.append((f"{vector['name']}/{name}", content.encode()))
    return found


@pytest.mark.parametrize(("name", "data"), every_document())
def test_schema_and_loading_agree(name: str, data: bytes) -> None:
    try:
        value = spec.load(data)
    except yamltext.YamlError:
        return
    parsed = spec.parse(data)
    accepted = not schema.check(value)
    structural = [
        problem
        for problem in parsed.errors
        if problem.code not in BEYOND and problem.details.get("field") not in RDT_BEFORE_1_1
    ]
    assert not (accepted and structural), name
    if not parsed.problems and not has_null(value):
        assert accepted, name

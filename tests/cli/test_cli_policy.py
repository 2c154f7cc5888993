"""`nri-inject policy check`: faults of a policy, and decisions before it is in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.trying import NO_NODE

from nri_inject.cli.policy import command

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: team
  annotations:
    devices.noderesource.dev/container.a: "[/dev/null]"
    devices.noderesource.dev/container.b: "[{path: /dev/null}, {path: /dev/full}]"
    sysctl.noderesource.dev/container.c: "{net.core.somaxconn: 1}"
spec:
  containers: [{name: a, image: i}, {name: b, image: i}, {name: c, image: i}, {name: d, image: i}]
""".replace('"[/dev/null]"', '"[{path: /dev/null}]"')
RULES = """\
rules:
  - name: bin
    who: {namespaces: [team]}
    allow: {devices: [/dev/null]}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    policy, pod = tmp_path / "policy.yaml", tmp_path / "pod.yaml"
    policy.write_text(RULES)
    pod.write_text(POD)
    return policy, pod


def run(*arguments: str | Path) -> Result:
    words = ["check", *NO_NODE, *map(str, arguments)]
    return CliRunner().invoke(command, words, standalone_mode=False)


def test_a_sound_policy_is_0(files: tuple[Path, Path]) -> None:
    policy, _ = files
    result = run("--policy", policy)
    assert (result.return_value, result.output) == (
        0,
        f"{policy}: 1 rules, mode enforce, no error\n",
    )


def test_every_fault_of_a_policy_is_told_with_its_place(files: tuple[Path, Path]) -> None:
    policy, _ = files
    policy.write_text("rules: [{allow: {devices: [dev/x]}}, {alow: 1}]\n")
    result = run("--policy", policy)
    assert (result.return_value, result.output) == (
        1,
        (
            f"Error: {policy}: rules: rule 1: allow: devices: item 1: 'dev/x' is not an absolute"
            " path without '.', '..' and doubled slashes; rules: rule 2: unknown key 'alow'; did"
            " you mean 'allow'?\n"
        ),
    )


def test_a_policy_that_others_can_write_is_checked_with_a_warning(
    files: tuple[Path, Path],
) -> None:
    policy, _ = files
    policy.chmod(0o666)
    result = run("--policy", policy)
    assert result.return_value == 0
    assert result.stderr == (
        f"Warning: {policy}: {policy} can be written by everybody (mode 0666); a plugin refuses to"
        " read it (unless with --unsafe-files)\n"
    )
    assert run("--unsafe-files", "--policy", policy).stderr == ""


def test_decisions_are_told_container_by_container(files: tuple[Path, Path]) -> None:
    policy, pod = files
    result = run("--policy", policy, pod)
    assert result.return_value == 1
    assert result.output == (
        "pod team/web, container a\n"
        "  policy allows device '/dev/null' (c 1:3): by rule 'bin'\n"
        "pod team/web, container b\n"
        "  policy allows device '/dev/null' (c 1:3): by rule 'bin'\n"
        "  fails  annotation devices.noderesource.dev/container.b: device '/dev/full' (c 1:7):"
        f" no rule of {policy} allows it; a rule that allows it:"
        " {who: {namespaces: [team]}, allow: {devices: [/dev/full]}}\n"
        "pod team/web, container c\n"
        "  fails  annotation sysctl.noderesource.dev/container.c: sysctl 'net.core.somaxconn':"
        f" no rule of {policy} allows it; a rule that allows it:"
        " {who: {namespaces: [team]}, allow: {sysctl: [net.core.somaxconn]}}\n"
        "pod team/web, container d\n"
        "  requests nothing that needs a rule\n"
    )


def test_json_is_a_line_for_each_container(files: tuple[Path, Path]) -> None:
    policy, pod = files
    result = run("--policy", policy, "--format", "json", pod)
    first, second, *_ = [json.loads(line) for line in result.output.splitlines()]
    assert first == {
        "pod": "team/web",
        "container": "a",
        "decisions": [
            {
                "kind": "devices",
                "requested": "device '/dev/null' (c 1:3)",
                "resolved": "c 1:3 /dev/null",
                "decision": "allow",
                "rule": "bin",
                "reason": "",
            }
        ],
    }
    assert [one["decision"] for one in second["decisions"]] == ["allow", "deny"]
    assert len(second["errors"]) == 1


def test_the_suggested_rule_allows_exactly_what_was_denied(files: tuple[Path, Path]) -> None:
    policy, pod = files
    denied = run("--policy", policy, pod).output
    rules = [
        line.split("a rule that allows it: ")[1]
        for line in denied.splitlines()
        if "allows it:" in line
    ]
    policy.write_text(RULES + "".join(f"  - {rule}\n" for rule in rules))
    result = run("--policy", policy, pod)
    assert result.return_value == 0
    assert "by rule '#2'" in result.output
    assert "by rule '#3'" in result.output


def test_a_manifest_that_is_missing_is_2(files: tuple[Path, Path]) -> None:
    policy, _ = files
    assert run("--policy", policy, "/nowhere.yaml").return_value == 2

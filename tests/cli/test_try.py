"""`nri-inject try`, with real plugins in child processes; only the command runs in this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.trying import BROKEN, SYSCTL, Try, file, lines

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_is_left")]
ADJUST = {"linux": {"sysctl": {"net.core.somaxconn": "1024"}}}
LOSS = (
    "containerd 1.7.24 (NRI 0.6.1) does not apply sysctl:"
    " needs NRI 0.12.0, first in containerd 2.3.0, CRI-O 1.37"
)
DEPLOYMENT = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: api}
spec:
  replicas: 3
  template:
    metadata:
      annotations:
        ulimits.noderesource.dev/container.init: "- {type: NOFILE, hard: 2, soft: 1}"
    spec:
      initContainers: [{name: init, image: i}]
      containers: [{name: app, image: i}]
"""


# --- JSON ----------------------------------------------------------------------------------------


def test_json_is_one_line_for_each_container_in_order(tmp_path: Path, attempt: Try) -> None:
    status, output, errors = attempt("--format", "json", file(tmp_path, "pod.yaml", SYSCTL))
    assert (status, errors) == (0, "")
    assert lines(output) == [
        {"pod": "shop/web", "container": "app", "adjust": ADJUST, "update": []},
        {"pod": "shop/web", "container": "side", "adjust": {}, "update": []},
    ]
    assert [list(line) for line in lines(output)] == [["pod", "container", "adjust", "update"]] * 2


def test_several_files_documents_and_kinds_come_in_their_order(
    tmp_path: Path, attempt: Try
) -> None:
    first = file(tmp_path, "1.yaml", f"{DEPLOYMENT}---\nkind: Service\n---\n{SYSCTL}---\n")
    second = file(tmp_path, "2.yaml", BROKEN)
    status, output, _ = attempt("--format", "json", second, first)
    limit = {"type": "RLIMIT_NOFILE", "hard": "2", "soft": "1"}
    found = lines(output)
    assert status == 1
    assert [(line["pod"], line["container"]) for line in found] == [
        ("default/bad", "app"),
        ("default/api-00000", "init"),
        ("default/api-00000", "app"),
        ("shop/web", "app"),
        ("shop/web", "side"),
    ]
    assert [line.get("adjust") for line in found[1:]] == [
        {"rlimits": [limit]},
        {},
        ADJUST,
        {},
    ]


def test_a_container_that_fails_has_an_error_instead_and_the_status_is_1(
    tmp_path: Path, attempt: Try
) -> None:
    status, output, errors = attempt(
        *("--format", "json", "--runtime", "containerd/1.7.24"),
        file(tmp_path, "pod.yaml", SYSCTL),
    )
    assert (status, errors) == (1, "")
    assert lines(output) == [
        {
            "pod": "shop/web",
            "container": "app",
            "error": "pod shop/web, container app: annotation"
            f" sysctl.noderesource.dev/container.app: {LOSS}",
        },
        {"pod": "shop/web", "container": "side", "adjust": {}, "update": []},
    ]


def test_what_resets_is_shown_though_it_is_all_zeros(tmp_path: Path, attempt: Try) -> None:
    manifest = SYSCTL.replace('net.core.somaxconn: "1024"', "class: IOPRIO_CLASS_NONE").replace(
        "sysctl.", "io-priority."
    )
    _, output, _ = attempt("--format", "json", file(tmp_path, "pod.yaml", manifest))
    assert lines(output)[0]["adjust"] == {"linux": {"ioPriority": {}}}
    _, output, _ = attempt(file(tmp_path, "pod.yaml", manifest))
    assert "  gets   IoPriority from 20-nri-inject" in output


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no object"),
        ("---\n---\n", "no object"),
        ("kind: Service\nmetadata: {name: a}\n---\nkind: ConfigMap\n", "Service a, ConfigMap"),
    ],
)
def test_a_manifest_without_pods_is_2_since_nothing_was_tried(
    tmp_path: Path, attempt: Try, text: str, what: str
) -> None:
    path = file(tmp_path, "pod.yaml", text)
    expected = f"Error: {path} describes no pod; it has {what}\n"
    assert attempt("--format", "json", path) == (2, "", expected)


# --- text ----------------------------------------------------------------------------------------


def test_text_tells_what_is_asked_given_by_whom_and_changed(tmp_path: Path, attempt: Try) -> None:
    status, output, errors = attempt(file(tmp_path, "pod.yaml", SYSCTL))
    assert (status, errors) == (0, "")
    assert output.splitlines() == [
        "pod shop/web, container app",
        '  asks   sysctl.noderesource.dev/container.app: {"net.core.somaxconn": "1024"}',
        "  gets   Sysctl net.core.somaxconn from 20-nri-inject",
        "  policy unrestricted",
        '  OCI    + linux.sysctl {"net.core.somaxconn": "1024"}',
        "pod shop/web, container side",
        "  gets   nothing",
    ]


def test_text_tells_why_a_container_fails(tmp_path: Path, attempt: Try) -> None:
    status, output, _ = attempt(file(tmp_path, "pod.yaml", BROKEN))
    first, asks, fails = output.splitlines()
    assert (status, first) == (1, "pod default/bad, container app")
    assert asks == '  asks   ulimits.noderesource.dev: [{"type": "SPEED", "hard": 1, "soft": 1}]'
    assert fails.startswith(
        "  fails  pod default/bad, container app: annotation ulimits.noderesource.dev: item 1: "
    )


def test_names_cannot_write_lines_of_their_own_nor_obey_a_terminal(
    tmp_path: Path, attempt: Try
) -> None:
    request = {
        "pod": {"namespace": "a\n  gets   all", "name": "\x1b[2J\u2028"},
        "container": {"id": "c", "name": "x\x9b"},
    }
    status, output, _ = attempt("--requests", file(tmp_path, "r", json.dumps(request)))
    assert status == 0
    assert output == (
        r"pod a\n  gets   all/\x1b[2J\u2028, container x\x9b" + "\n  gets   nothing\n"
    )


# --- configuration, policy, runtime ---------------------------------------------------------------


def test_on_unsupported_warn_lets_the_container_start(tmp_path: Path, attempt: Try) -> None:
    config = file(tmp_path, "nri.yaml", "on_unsupported: warn\npolicy: unrestricted\n")
    status, output, _ = attempt(
        *("--config", config, "--runtime", "containerd/1.7.24", "--format", "json"),
        file(tmp_path, "pod.yaml", SYSCTL),
    )
    assert (status, lines(output)[0]["adjust"]) == (0, ADJUST)


@pytest.mark.parametrize("config", ["", "policy: something\non_unsupported: fail\n"])
def test_the_policy_of_the_command_line_wins(tmp_path: Path, attempt: Try, config: str) -> None:
    status, output, errors = attempt(
        *("--config", file(tmp_path, "nri.yaml", config), "--policy", "unrestricted"),
        *("--format", "json", file(tmp_path, "pod.yaml", SYSCTL)),
    )
    assert (status, errors) == (0, "")
    assert lines(output)[0]["adjust"] == ADJUST


@pytest.mark.parametrize("config", [None, "on_unsupported: warn\n"])
def test_a_policy_that_is_none_is_blamed_on_the_option(
    tmp_path: Path, attempt: Try, config: str | None
) -> None:
    given = () if config is None else ("--config", file(tmp_path, "nri.yaml", config))
    assert attempt("--policy", "/other", *given, file(tmp_path, "pod.yaml", SYSCTL)) == (
        2,
        "",
        "Error: /other does not exist\n",
    )


def test_the_rule_that_allows_is_told_and_what_none_allows_fails(
    tmp_path: Path, attempt: Try
) -> None:
    rules = "rules: [{name: net, allow: {sysctl: [net.core.*]}}]"
    policy, pod = file(tmp_path, "policy.yaml", rules), file(tmp_path, "pod.yaml", SYSCTL)
    status, output, errors = attempt("--policy", policy, pod)
    assert (status, errors) == (0, "")
    assert "  policy allows sysctl 'net.core.somaxconn': by rule 'net'\n" in output
    policy.write_text("rules: []")
    status, output, _ = attempt("--policy", policy, pod)
    assert status == 1
    assert (
        f"sysctl 'net.core.somaxconn': no rule of {policy} allows it; a rule that allows it:"
        in output
    )


def test_without_a_policy_what_needs_a_rule_fails(tmp_path: Path, attempt: Try) -> None:
    config = file(tmp_path, "nri.yaml", "on_unsupported: warn\n")
    status, output, _ = attempt("--config", config, file(tmp_path, "pod.yaml", SYSCTL))
    assert status == 1
    assert "no rule of this node's policy (none configured) allows it" in output


@pytest.mark.parametrize("runtime", ["containerd", "containerd/", "/1.7", ""])
def test_a_runtime_needs_name_and_version(tmp_path: Path, attempt: Try, runtime: str) -> None:
    assert attempt("--runtime", runtime, file(tmp_path, "pod.yaml", SYSCTL)) == (
        2,
        "",
        f"Error: --runtime {runtime!r}: NAME/VERSION expected, as in containerd/1.7.24\n",
    )


def test_a_broken_configuration_is_1(tmp_path: Path, attempt: Try) -> None:
    config = file(tmp_path, "nri.yaml", "polcy: 1\non_unsupported: x\n")
    assert attempt("--config", config, file(tmp_path, "pod.yaml", SYSCTL)) == (
        1,
        "",
        (
            f"Error: {config}: unknown key 'polcy'; did you mean 'policy'?;"
            " on_unsupported: 'x' must be one of fail, warn\n"
        ),
    )


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ([], "cannot read manifest {}: No such file or directory"),
        (["--requests"], "cannot read requests {}: No such file or directory"),
        (["--config"], "{} does not exist"),
    ],
)
def test_a_file_that_is_missing_is_2(
    tmp_path: Path, attempt: Try, option: list[str], sentence: str
) -> None:
    path = tmp_path / "none"
    extra = [file(tmp_path, "pod.yaml", SYSCTL)] if option else []
    assert attempt(*option, path, *extra) == (
        2,
        "",
        f"Error: {sentence.format(path)}\n",
    )


@pytest.mark.parametrize(("option", "what"), [([], "manifest"), (["--requests"], "requests")])
def test_a_file_that_is_not_utf_8_is_2(
    tmp_path: Path, attempt: Try, option: list[str], what: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"{}\n\xff\n")
    status, output, errors = attempt(*option, path)
    assert (status, output) == (2, "")
    assert errors == (
        f"Error: cannot read {what} {path}:"
        " 'utf-8' codec can't decode byte 0xff in position 3: invalid start byte\n"
    )


@pytest.mark.parametrize("text", ["kind: [", "kind: Pod\nspec: {}\n", "- 1\n", "{}\n", "\0"])
def test_a_broken_manifest_is_2_and_one_sentence(tmp_path: Path, attempt: Try, text: str) -> None:
    path = file(tmp_path, "pod.yaml", text)
    status, output, errors = attempt(path)
    assert (status, output) == (2, "")
    assert errors.startswith(f"Error: {path}")
    assert errors.count("\n") == 1


# --- requests ------------------------------------------------------------------------------------


def request(number: int) -> str:
    return json.dumps(
        {
            "pod": {
                "namespace": "n",
                "name": f"p{number}",
                "annotations": {"sysctl.noderesource.dev": f"kernel.shmmax: '{number}'"},
            },
            "container": {"id": f"c{number}", "name": "app"},
        }
    )


def test_many_requests_are_answered_in_order(tmp_path: Path, attempt: Try) -> None:
    path = file(tmp_path, "requests", "\n".join(map(request, range(200))))
    status, output, _ = attempt("--format", "json", "--requests", path)
    assert status == 0
    assert lines(output) == [
        {
            "pod": f"n/p{number}",
            "container": "app",
            "adjust": {"linux": {"sysctl": {"kernel.shmmax": str(number)}}},
            "update": [],
        }
        for number in range(200)
    ]


def test_requests_come_before_manifests_and_empty_lines_do_not_count(
    tmp_path: Path, attempt: Try
) -> None:
    path = file(tmp_path, "requests", f"\n{request(1)}\n\n")
    _, output, _ = attempt(
        "--format", "json", "--requests", path, file(tmp_path, "pod.yaml", SYSCTL)
    )
    assert [line["pod"] for line in lines(output)] == ["n/p1", "shop/web", "shop/web"]


@pytest.mark.parametrize(
    "line", ["{", '["pod"]', '{"pod": 1}', '{"pood": {}}', "[" * 100_000, "nonsense"]
)
def test_a_broken_line_is_named_by_its_number_and_nothing_is_tried(
    tmp_path: Path, attempt: Try, line: str
) -> None:
    path = file(tmp_path, "requests", f"{request(1)}\n\n{line}\n{request(2)}\n")
    status, output, errors = attempt("--format", "json", "--requests", path)
    assert (status, output) == (2, "")
    assert errors.startswith(
        f"Error: {path}, line 3: not a CreateContainerRequest in protobuf JSON: "
    )
    assert errors.count("\n") == 1


def test_no_requests_are_2_since_nothing_was_tried(tmp_path: Path, attempt: Try) -> None:
    path = file(tmp_path, "requests", "\n")
    assert attempt("--requests", path) == (2, "", f"Error: {path} has no request\n")


def test_a_faulty_policy_is_1(tmp_path: Path, attempt: Try) -> None:
    policy = file(tmp_path, "policy.yaml", "rules: [{alow: {}}]")
    status, output, errors = attempt("--policy", policy, file(tmp_path, "pod.yaml", SYSCTL))
    assert (status, output) == (1, "")
    assert errors.startswith(f"Error: {policy}: rules: rule 1: unknown key 'alow'; did you mean")


def test_a_request_too_long_for_the_wire_fails_alone(tmp_path: Path, attempt: Try) -> None:
    long = json.dumps({"pod": {"name": "long", "annotations": {"a": "x" * 5_000_000}}})
    path = file(tmp_path, "requests", f"{long}\n{request(1)}\n")
    status, output, _ = attempt("--format", "json", "--requests", path)
    first, second = lines(output)
    assert status == 1
    assert first["error"].startswith("plugin 20-nri-inject: CreateContainer request of 50000")
    assert second["adjust"] == {"linux": {"sysctl": {"kernel.shmmax": "1"}}}

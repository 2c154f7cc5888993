"""`nri-inject try`, with real plugins in child processes; only the command runs in this one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cli import program
from nri_inject.service import options

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_is_left")]

Outcome = tuple[int, str, str]
Try = Callable[..., Outcome]


@pytest.fixture
def attempt(capsys: pytest.CaptureFixture[str]) -> Try:
    """Give a function that runs `nri-inject try` and returns status, output and errors.

    Nothing is restricted, unless the arguments have a policy or a configuration.
    """

    def run(*arguments: str | Path) -> Outcome:
        given = {str(argument) for argument in arguments}
        open_to_all = [] if given & {"--policy", "--config"} else ["--policy", "unrestricted"]
        status = options.exit_status(program, ["try", *open_to_all, *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


SYSCTL = """
kind: Pod
apiVersion: v1
metadata:
  name: web
  namespace: shop
  annotations:
    sysctl.noderesource.dev/container.app: |
      net.core.somaxconn: "1024"
spec:
  containers:
  - {name: app, image: i}
  - {name: side, image: i}
"""
ADJUST = {"linux": {"sysctl": {"net.core.somaxconn": "1024"}}}
LOSS = (
    "containerd 1.7.24 (NRI 0.6.1) does not apply sysctl:"
    " needs NRI 0.12.0, first in containerd 2.3.0, CRI-O 1.37"
)
BROKEN = """
kind: Pod
metadata: {name: bad, annotations: {ulimits.noderesource.dev: "- {type: SPEED, hard: 1, soft: 1}"}}
spec: {containers: [{name: app, image: i}]}
"""
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


@pytest.mark.parametrize("text", ["", "---\n---\n", "kind: Service\nmetadata: {name: a}\n"])
def test_a_manifest_without_pods_is_fine_and_says_nothing(
    tmp_path: Path, attempt: Try, text: str
) -> None:
    assert attempt("--format", "json", file(tmp_path, "pod.yaml", text)) == (0, "", "")


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
        "Error: cannot read /other: No such file or directory\n",
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


def test_a_broken_configuration_is_2(tmp_path: Path, attempt: Try) -> None:
    config = file(tmp_path, "nri.yaml", "polcy: 1\non_unsupported: x\n")
    assert attempt("--config", config, file(tmp_path, "pod.yaml", SYSCTL)) == (
        2,
        "",
        (
            f"Error: {config}: unknown key 'polcy'; did you mean 'policy'?;"
            " on_unsupported: 'x' must be one of fail, warn\n"
        ),
    )


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "what"),
    [([], "manifest"), (["--requests"], "requests"), (["--config"], "configuration")],
)
def test_a_file_that_is_missing_is_2(
    tmp_path: Path, attempt: Try, option: list[str], what: str
) -> None:
    path = tmp_path / "none"
    extra = [file(tmp_path, "pod.yaml", SYSCTL)] if option else []
    assert attempt(*option, path, *extra) == (
        2,
        "",
        f"Error: cannot read {what} {path}: No such file or directory\n",
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


def test_no_requests_are_fine(tmp_path: Path, attempt: Try) -> None:
    assert attempt("--requests", file(tmp_path, "requests", "")) == (0, "", "")


def test_a_request_too_long_for_the_wire_fails_alone(tmp_path: Path, attempt: Try) -> None:
    long = json.dumps({"pod": {"name": "long", "annotations": {"a": "x" * 5_000_000}}})
    path = file(tmp_path, "requests", f"{long}\n{request(1)}\n")
    status, output, _ = attempt("--format", "json", "--requests", path)
    first, second = lines(output)
    assert status == 1
    assert first["error"].startswith("plugin 20-nri-inject: CreateContainer request of 50000")
    assert second["adjust"] == {"linux": {"sysctl": {"kernel.shmmax": "1"}}}


# --- plugins of others ----------------------------------------------------------------------------

FOREIGN = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.stub import serve

def create(pod, container):
    {body}

serve(
    Plugin(
        name=os.environ["NRI_PLUGIN_NAME"],
        index=os.environ["NRI_PLUGIN_IDX"],
        create_container=create,
        failure_policy=api.FailurePolicy({policy}),
    )
)
"""
SETS_ENV = "return api.Adjustment(env=[api.KeyValue(key='BY', value=pod.name)])"
UPDATES = "return api.CreateContainerResponse(update=[api.ContainerUpdate(container_id='other')])"
DIES = "os._exit(0) if container.name == 'app' else None"
HANGS = "__import__('signal').pause()"
REFUSES = "raise NriError('not\\ntoday')"
BAD_NAMESPACE = """
    namespace = api.LinuxNamespace(type='moon', path='/x')
    return api.Adjustment(linux=api.LinuxContainerAdjustment(namespaces=[namespace]))
"""


def foreign(folder: Path, name: str, body: str, policy: str = "") -> Path:
    text = FOREIGN.format(python=sys.executable, path=sys.path, body=body, policy=policy)
    path = file(folder, name, text)
    path.chmod(0o755)
    return path


def test_a_foreign_plugin_is_named_by_its_path(
    tmp_path: Path, attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(tmp_path, "42-mine", SETS_ENV)
    monkeypatch.chdir(tmp_path)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    status, output, _ = attempt("--plugin", "./42-mine", "--format", "json", pod)
    assert (status, [line["adjust"] for line in lines(output)]) == (
        0,
        [{"env": [{"key": "BY", "value": "web"}]}] * 2,
    )


def test_it_works_beside_the_suite_and_the_text_tells_them_apart(
    tmp_path: Path, attempt: Try
) -> None:
    mine = foreign(tmp_path, "05-mine", SETS_ENV)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    _, output, _ = attempt("--plugin", "device-injector", "--plugin", mine, pod)
    assert output.splitlines()[2:7] == [
        "  gets   Env BY from 05-mine",
        "  gets   Sysctl net.core.somaxconn from 10-device-injector",
        "  policy unrestricted",
        '  OCI    + linux.sysctl {"net.core.somaxconn": "1024"}',
        '  OCI    + process.env "BY=web"',
    ]


def test_two_plugins_in_conflict_fail_the_container(tmp_path: Path, attempt: Try) -> None:
    pod = file(tmp_path, "pod.yaml", BROKEN.replace("SPEED", "CPU"))
    plugins = [foreign(tmp_path, f"{index}-mine", SETS_ENV) for index in (20, 30)]
    status, output, _ = attempt(
        "--plugin", plugins[0], "--plugin", plugins[1], "--format", "json", pod
    )
    assert (status, lines(output)[0]["error"]) == (
        1,
        'plugins "30-mine" and "20-mine" both tried to set Env BY',
    )


def test_updates_of_other_containers_are_shown(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", UPDATES)
    _, output, _ = attempt("--plugin", mine, "--format", "json", file(tmp_path, "pod.yaml", SYSCTL))
    (update,) = lines(output)[0]["update"]
    assert update["containerId"] == "other"


def test_a_dying_plugin_is_reported(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", DIES)
    status, output, errors = attempt(
        "--plugin", mine, "--format", "json", file(tmp_path, "pod.yaml", SYSCTL)
    )
    sentence = "plugin 42-mine: the connection ended before the answer to CreateContainer"
    assert status == 1
    assert lines(output)[0] == {
        "pod": "shop/web",
        "container": "app",
        "error": f"{sentence}; a runtime would create the container without it",
    }
    assert errors.splitlines()[0].endswith(f"warning {sentence}; it is disconnected")


def test_a_dying_plugin_fails_the_container_if_it_wants_that(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", DIES, "fail_request=True")
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    status, output, _ = attempt("--plugin", mine, "--format", "json", pod)
    sentence = "plugin 42-mine: the connection ended before the answer to CreateContainer"
    assert status == 1
    assert lines(output)[0]["error"] == f"{sentence}, so CreateContainer fails"


def test_an_older_runtime_creates_the_container_all_the_same(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", DIES, "fail_request=True")
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    _, output, _ = attempt(
        *("--plugin", mine, "--runtime", "containerd/2.4.2", "--format", "json", pod)
    )
    assert lines(output)[0]["error"].endswith("; a runtime would create the container without it")


def test_a_late_plugin_that_stays_is_reported(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", HANGS, "keep_connected=True")
    pod = file(tmp_path, "pod.yaml", BROKEN)
    status, output, _ = attempt("--plugin", mine, "--format", "json", pod)
    sentence = "plugin 42-mine did not answer CreateContainer in time"
    assert (status, lines(output)) == (
        1,
        [
            {
                "pod": "default/bad",
                "container": "app",
                "error": f"{sentence}; a runtime would create the container without it",
            }
        ],
    )


def test_a_plugin_that_refuses_is_quoted_and_stays_on_its_line(
    tmp_path: Path, attempt: Try
) -> None:
    mine = foreign(tmp_path, "42-mine", REFUSES)
    pod = file(tmp_path, "pod.yaml", BROKEN)
    _, output, _ = attempt("--plugin", mine, "--format", "json", pod)
    assert lines(output)[0]["error"] == "not\ntoday"
    _, output, _ = attempt("--plugin", mine, pod)
    assert output.splitlines()[-1] == r"  fails  not\ntoday"


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_what_the_runtime_could_not_apply_fails_in_either_format(
    tmp_path: Path, attempt: Try, output_format: str
) -> None:
    mine = foreign(tmp_path, "42-mine", BAD_NAMESPACE)
    status, output, errors = attempt(
        "--plugin", mine, "--format", output_format, file(tmp_path, "pod.yaml", SYSCTL)
    )
    assert (status, errors) == (1, "")
    assert output.count("unrecognized namespace 'moon'; known: ") == 2


def test_a_plugin_that_cannot_start_is_2_since_nothing_was_tried(
    tmp_path: Path, attempt: Try
) -> None:
    mine = file(tmp_path, "42-mine", "")
    assert attempt("--plugin", mine, file(tmp_path, "pod.yaml", SYSCTL)) == (
        2,
        "",
        f"Error: cannot start plugin {mine}: Permission denied\n",
    )


def test_a_plugin_that_ends_at_once_is_2_since_nothing_was_tried(
    tmp_path: Path, attempt: Try
) -> None:
    mine = file(tmp_path, "42-mine", f"#!{sys.executable} -IS\n")
    mine.chmod(0o755)
    assert attempt("--plugin", mine, file(tmp_path, "pod.yaml", SYSCTL)) == (
        2,
        "",
        "Error: plugin 42-mine ended\n",
    )


def test_a_file_of_another_name_needs_index_and_name(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "mine.py", SETS_ENV)
    pod = file(tmp_path, "pod.yaml", BROKEN)
    assert attempt("--plugin", mine, pod) == (
        2,
        "",
        f"Error: plugin {mine}: a file name such as 10-name expected; or set --idx and --name\n",
    )
    status, output, _ = attempt("--plugin", mine, "--idx", "33", "--name", "mine", pod)
    assert status == 0
    assert "  gets   Env BY from 33-mine" in output
    status, _, errors = attempt("--plugin", mine, "--idx", "3", "--name", "mine", pod)
    assert status == 2
    assert errors.splitlines()[-1] == "Error: --idx '3': two digits expected, as in 10"


def test_what_cannot_start_ends_a_runtime_before_nri_0_7(tmp_path: Path, attempt: Try) -> None:
    mine = file(tmp_path, "42-mine", f"#!{sys.executable} -IS\n")
    mine.chmod(0o755)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    assert attempt("--plugin", mine, "--runtime", "containerd/1.7.24", pod) == (
        2,
        "",
        "Error: plugin 42-mine ended; containerd 1.7.24 would stop, since it requires the plugin\n",
    )


def test_a_name_that_is_no_plugin_is_2(tmp_path: Path, attempt: Try) -> None:
    status, output, errors = attempt("--plugin", "gpu", file(tmp_path, "pod.yaml", SYSCTL))
    assert (status, output) == (2, "")
    assert errors.startswith("Error: plugin 'gpu' is not in the suite (")
    assert errors.endswith("; for an executable write a path, as in ./10-name\n")


# --- a whole life ---------------------------------------------------------------------------------

HEARS = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.stub import serve

def quiet(*_):
    pass

run_pod = create = start = stop = remove_pod = quiet
{body}
serve(
    Plugin(
        name=os.environ["NRI_PLUGIN_NAME"],
        index=os.environ["NRI_PLUGIN_IDX"],
        run_pod_sandbox=run_pod,
        create_container=create,
        start_container=start,
        stop_container=stop,
        remove_pod_sandbox=remove_pod,
    )
)
"""


def hearing(folder: Path, name: str, body: str) -> Path:
    path = file(folder, name, HEARS.format(python=sys.executable, path=sys.path, body=body))
    path.chmod(0o755)
    return path


UPDATES_AT_STOP = """
def stop(pod, container):
    return [api.ContainerUpdate(container_id="other")]
"""
REFUSES_START = """
def start(pod, container):
    if container.name == "app":
        raise NriError("not today")
"""
REFUSES_POD = """
def run_pod(pod):
    raise NriError(f"no pod {pod.name}")
"""
DIES_AT_STOP = """
def stop(pod, container):
    os._exit(1)
"""


def test_with_life_containers_are_led_to_their_end(tmp_path: Path, attempt: Try) -> None:
    mine = hearing(tmp_path, "42-mine", UPDATES_AT_STOP)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    status, output, _ = attempt("--plugin", mine, "--life", pod)
    assert status == 0
    assert [line for line in output.splitlines() if line.startswith("  life")] == [
        "  life   start, stop, remove",
        '  life   stop: updates {"containerId": "other"}',
    ] * 2
    _, output, _ = attempt("--plugin", mine, "--life", "--format", "json", pod)
    assert lines(output)[0]["update"] == [{"containerId": "other"}]
    _, output, _ = attempt("--plugin", mine, "--format", "json", pod)
    assert lines(output)[0]["update"] == []


def test_a_start_that_a_plugin_refuses_fails_the_container(tmp_path: Path, attempt: Try) -> None:
    mine = hearing(tmp_path, "42-mine", REFUSES_START)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    status, output, _ = attempt("--plugin", mine, "--life", "--format", "json", pod)
    first, second = lines(output)
    assert status == 1
    assert first == {"pod": "shop/web", "container": "app", "error": "start: not today"}
    assert second["adjust"] == {}


def test_a_pod_that_a_plugin_refuses_has_no_container(tmp_path: Path, attempt: Try) -> None:
    mine = hearing(tmp_path, "42-mine", REFUSES_POD)
    status, output, _ = attempt(
        "--plugin", mine, "--format", "json", file(tmp_path, "pod.yaml", SYSCTL)
    )
    assert status == 1
    assert [line["error"] for line in lines(output)] == ["RunPodSandbox: no pod web"] * 2


def test_a_plugin_that_dies_later_is_shown_where_it_died(tmp_path: Path, attempt: Try) -> None:
    mine = hearing(tmp_path, "42-mine", DIES_AT_STOP)
    status, output, _ = attempt(
        "--plugin", mine, "--life", "-q", file(tmp_path, "pod.yaml", SYSCTL)
    )
    assert status == 1
    assert [line for line in output.splitlines() if "stop:" in line] == [
        (
            "  life   stop: plugin 42-mine: the connection ended before the answer to"
            " StopContainer; it is not called again"
        )
    ]


def test_requests_of_one_pod_are_its_containers_and_equal_ids_are_of_another_time(
    tmp_path: Path, attempt: Try
) -> None:
    counts = """
seen = []
def run_pod(pod):
    seen.append(pod.name)
def create(pod, container):
    return api.Adjustment(env=[api.KeyValue(key="PODS", value=" ".join(seen))])
"""
    mine = hearing(tmp_path, "42-mine", counts)
    pod = {"id": "p", "namespace": "n", "name": "p"}
    requests = [
        {"pod": pod, "container": {"id": number, "name": "app"}} for number in ("1", "2", "1")
    ]
    path = file(tmp_path, "requests", "\n".join(map(json.dumps, requests)))
    _, output, _ = attempt("--plugin", mine, "--format", "json", "--requests", path)
    found = [line["adjust"]["env"][0]["value"] for line in lines(output)]
    assert found == ["p", "p", "p p"]


def test_what_the_runtime_drops_is_shown_as_lost(tmp_path: Path, attempt: Try) -> None:
    mine = foreign(tmp_path, "42-mine", "return api.Adjustment(args=['x'])")
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    _, output, _ = attempt("--plugin", mine, "--runtime", "containerd/1.7.24", pod)
    assert output.splitlines()[2:4] == [
        "  gets   nothing",
        "  lost   args from 42-mine, dropped without an error",
    ]
    assert "OCI" not in output
    _, output, _ = attempt("--plugin", mine, pod)
    assert "lost" not in output
    assert '  OCI    + process.args "x"' in output


def test_launched_plugins_are_synchronized_where_the_runtime_does(
    tmp_path: Path, attempt: Try
) -> None:
    says = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import Adjustment, Plugin, serve
told = []
def create(pod, container):
    adjustment = Adjustment()
    adjustment.env.add(key="TOLD", value=str(len(told)))
    return adjustment
def synchronize(*existing):
    told.append(existing)
serve(Plugin(name="x", index="42", create_container=create, synchronize=synchronize))
"""
    mine = file(tmp_path, "42-mine", says.format(python=sys.executable, path=sys.path))
    mine.chmod(0o755)
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    told = {}
    for runtime in ("containerd/1.7.24", "containerd/2.1.9"):
        _, output, _ = attempt("--plugin", mine, "--runtime", runtime, "--format", "json", pod)
        told[runtime] = lines(output)[0]["adjust"]["env"][0]["value"]
    assert told == {"containerd/1.7.24": "0", "containerd/2.1.9": "1"}

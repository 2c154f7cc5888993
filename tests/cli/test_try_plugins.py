"""nri-inject try with plugins of others, which die, hang, refuse or do not start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.trying import BROKEN, SYSCTL, Try, file, foreign, lines

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_is_left")]

SETS_ENV = "return api.Adjustment(env=[api.KeyValue(key='BY', value=pod.name)])"
UPDATES = "return api.CreateContainerResponse(update=[api.ContainerUpdate(container_id='other')])"
DIES = "os._exit(0) if container.name == 'app' else None"
HANGS = "__import__('signal').pause()"
REFUSES = "raise NriError('not\\ntoday')"
BAD_NAMESPACE = """
    namespace = api.LinuxNamespace(type='moon', path='/x')
    return api.Adjustment(linux=api.LinuxContainerAdjustment(namespaces=[namespace]))
"""


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


def test_a_script_that_looks_for_its_interpreter_finds_ours_and_is_warned_of(
    tmp_path: Path, attempt: Try
) -> None:
    """As the examples do; a runtime sets no PATH, so /usr/bin/python3 would be found there."""
    mine = Path(foreign(tmp_path, "42-mine", SETS_ENV))
    mine.write_text(mine.read_text().replace(f"#!{sys.executable}", "#!/usr/bin/env python3", 1))
    pod = file(tmp_path, "pod.yaml", SYSCTL)
    status, output, errors = attempt("--plugin", str(mine), "--format", "json", pod)
    assert (status, lines(output)[0]["adjust"]) == (0, {"env": [{"key": "BY", "value": "web"}]})
    assert errors.splitlines()[0] == (
        f"Warning: plugin {mine}: its first line looks for the interpreter on PATH, which a runtime"
        " does not set; write an absolute path there before a runtime launches it, as in"
        f" #!{sys.executable}"
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
    _, _, errors = attempt("--plugin", "device-injetor", file(tmp_path, "pod.yaml", SYSCTL))
    assert errors.endswith("; did you mean 'device-injector'?\n")

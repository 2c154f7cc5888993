"""nri-inject try with the whole life of pods and containers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.trying import SYSCTL, Try, file, foreign, lines

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_is_left")]

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

"""The file that `--config` names: every plugin follows it, and tells what is wrong with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from support.launching import BOUND, Running, launched

from nri_inject import api
from nri_inject.host.follow import FollowedFile
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.config_file import ConfigFile
from nri_inject.service.health.status import ask_all

T = TypeVar("T")
POD = api.Pod(id="p1", name="web", namespace="shop")
WHERE = "pod shop/web, container main"
CREATED = "PostCreateContainer"


def test_a_configuration_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("policy: unrestricted\n")
    seen: list[FollowedFile[Config]] = []
    with closing(ConfigFile(str(file), Options(idx="10", name="x"))) as followed:
        followed.on_change = seen.append
        with file.open("w") as half:  # which cuts it off: an empty one would be a good one
            followed.ready()
            half.write("policy: unrestricted\naudit: off\n")
            half.flush()
            followed.ready()
            assert followed.current() == Config(policy="unrestricted")
        followed.ready()
        followed.ready()
        assert followed.current() == Config(policy="unrestricted", audit="off")
    assert [version.trouble for version in seen] == ["half written", "half written", ""]


# --- the tools, as processes ----------------------------------------------------------------------


def until(ask: Callable[[], T]) -> T:
    """Ask until the answer is true; a process of its own tells when it is done with something."""
    deadline = time.monotonic() + BOUND
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it never became true"
    return answer


def replaced(file: Path, text: str) -> None:
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


def config_error(where: Path) -> str:
    (said,) = ask_all(str(where)).values()
    assert said is not None
    return str(said["config_error"])


def create(running: Running, number: str) -> None:
    container = api.Container(id=number, pod_sandbox_id="p1", name="main")
    request = api.CreateContainerRequest(pod=POD, container=container)
    running.peer.request("CreateContainer", request, api.CreateContainerResponse, BOUND)


def differ_step(running: Running, number: str) -> None:
    create(running, number)
    changed = api.Container(id=number, pod_sandbox_id="p1", name="main", env=["A=1"])
    request = api.PostCreateContainerRequest(pod=POD, container=changed)
    running.peer.request(CREATED, request, api.PostCreateContainerResponse, BOUND)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "key", "other", "step", "begins"),
    [
        ("nri-logger", "logger", "yaml", create, "---"),
        ("nri-differ", "differ", "text", differ_step, f"{WHERE}: from request at 99 to {CREATED}"),
    ],
)
def test_a_tool_follows_its_configuration(
    program: str,
    key: str,
    other: str,
    step: Callable[[Running, str], None],
    begins: str,
    tmp_path: Path,
) -> None:
    file, where = tmp_path / "config.yaml", tmp_path / "run"
    wrong = f"{file}: {key}: format: 'xml' must be one of "
    replaced(file, f"{key}: {{format: json}}")
    with launched(program, "--config", str(file), NRI_INJECT_STATUS_DIR=str(where)) as running:
        running.configured()
        step(running, "first")
        replaced(file, f"{key}: {{format: xml}}")
        assert until(lambda: config_error(where)).startswith(wrong)
        step(running, "second")
        replaced(file, f"{key}: {{format: {other}}}")
        until(lambda: config_error(where) == "")
        step(running, "third")
        _, output, log = running.end()
    first, second, *third = output.splitlines()
    assert [json.loads(line)["time"] != "" for line in (first, second)] == [True, True]
    assert third[0] == begins
    assert f"{file} has changed and is in force" in log


@pytest.mark.slow
def test_the_assigner_follows_a_configuration_that_others_could_write_if_told(
    tmp_path: Path,
) -> None:
    open_, where = tmp_path / "open", tmp_path / "run"
    open_.mkdir()
    open_.chmod(0o777)
    file = open_ / "config.yaml"
    replaced(file, "resource_assigner: {whole_cpus: true}")
    arguments = ["--unsafe-files", "--config", str(file)]
    with launched("nri-resource-assigner", *arguments, NRI_INJECT_STATUS_DIR=str(where)) as running:
        running.configured()
        running.peer.synchronize([], [])
        replaced(file, "resource_assigner: {whole_cpu: true}")
        error = until(lambda: config_error(where))
        assert error == (
            f"{file}: resource_assigner: unknown key 'whole_cpu'; did you mean 'whole_cpus'?"
        )
        replaced(file, "resource_assigner: {whole_cpus: false}")
        until(lambda: config_error(where) == "")
        status, _, log = running.end()
    assert status == 0
    assert "refusing to read it" not in log
    assert "new rules" in log

"""The resource assigner's handlers: what they answer, and what they ask for by themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hardware import container, host, pod, resources
from support.launching import BOUND, launched

from nri_inject import api
from nri_inject.errors import ConfigError, RequestError
from nri_inject.plugin import Plugin
from nri_inject.plugins.resource_assigner.plugin import MAX_PODS, ResourceAssigner
from nri_inject.plugins.resource_assigner.pools import ANNOTATION
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.config import AssignerConfig as Settings
from nri_inject.service.config import Config
from nri_inject.stub import Callback, Stub

FOUR = host(cores=4)
PROGRAM = "nri-resource-assigner"


OPTIONS = Options(idx="80", name="resource-assigner")
DEFAULT = Settings()
BARE = Settings(memory_nodes=False)

Said = list[tuple[str, str]]


class Asked(Stub):
    """A stub that keeps what it is asked for, to be looked at."""

    def __init__(self, plugin: Plugin) -> None:
        super().__init__(plugin)
        self.asked: Said = []

    def update(
        self,
        updates: Iterable[api.ContainerUpdate],
        callback: Callback | None = None,
        *,
        then: Callback | None = None,
    ) -> None:
        assert callback is not None
        assert then is None
        self.asked += said(updates)


@contextmanager
def assigner(
    settings: Settings = DEFAULT, options: Options = OPTIONS
) -> Iterator[tuple[ResourceAssigner, Asked]]:
    tested = ResourceAssigner(options, Config(resource_assigner=settings), lambda: FOUR)
    stub = Asked(tested.plugin)
    try:
        tested.attach(stub)
        yield tested, stub
    finally:
        tested.close()
        stub.stop()
        stub.run()  # which ends at once, and gives its descriptors back


def said(updates: Iterable[api.ContainerUpdate]) -> Said:
    return [(update.container_id, update.linux.resources.cpu.cpus) for update in updates]


def create(tested: ResourceAssigner, name: str, cpus: float = 0) -> tuple[str, Said]:
    """Create a container of a pod of its own; return its CPUs and the updates of others."""
    response = tested.create_container(pod(name), container(name, cpus=cpus))
    given = response.adjust.linux.resources.cpu.cpus
    tested.post_create_container(pod(name), container(name, has=given))
    return given, said(response.update)


def test_creation_moves_those_that_share_and_the_end_moves_them_back() -> None:
    with assigner(BARE) as (tested, stub):
        assert create(tested, "a") == ("0-3", [])
        assert create(tested, "b", 2) == ("0-1", [("id-a", "2-3")])
        assert create(tested, "c") == ("2-3", [])
        assert said(tested.stop_container(pod("b"), container("b"))) == [
            ("id-a", "0-3"),
            ("id-c", "0-3"),
        ]
        assert stub.asked == []


def test_the_container_that_is_created_is_not_among_the_updates() -> None:
    with assigner() as (tested, _):
        response = tested.create_container(pod("a"), container("a", cpus=1))
    assert response.adjust.linux.resources.cpu == api.LinuxCPU(cpus="0", mems="0")
    assert list(response.update) == []


def test_a_container_that_cannot_have_its_cpus_changes_nothing() -> None:
    with assigner() as (tested, _):
        create(tested, "a")
        with pytest.raises(RequestError, match="exclusive CPUs: 4 requested"):
            tested.create_container(pod("b"), container("b", cpus=4))
        assert create(tested, "c", 3) == ("0-2", [("id-a", "3")])


def test_a_container_that_others_overtook_is_updated_when_it_exists() -> None:
    with assigner(BARE) as (tested, stub):
        tested.create_container(pod("slow"), container("slow"))
        assert create(tested, "b", 1) == ("0", [])
        tested.post_create_container(pod("slow"), container("slow", has="0-3"))
        assert stub.asked == [("id-slow", "1-3")]


def test_a_container_that_nobody_told_of_is_taken_in_when_it_exists() -> None:
    with assigner(BARE) as (tested, stub):
        create(tested, "a")
        tested.post_create_container(pod("b"), container("b", cpus=2))
        tested.post_create_container(pod("c"), container("c", cpus=2))
        assert stub.asked == [("id-a", "2-3"), ("id-b", "0-1"), ("id-c", "2-3")]


def test_a_container_that_is_removed_without_an_end_gives_its_cpus_back() -> None:
    with assigner(BARE) as (tested, stub):
        create(tested, "a")
        create(tested, "b", 1)
        tested.remove_container(pod("b"), container("b"))
        assert stub.asked == [("id-a", "0-3")]
        create(tested, "b", 1)
        tested.remove_pod_sandbox(api.Pod(id="pod-b"))
        assert stub.asked == [("id-a", "0-3"), ("id-a", "0-3")]


def test_an_update_is_answered_for_all_whom_it_concerns() -> None:
    with assigner() as (tested, _):
        create(tested, "a")
        create(tested, "b", 1)
        answer = tested.update_container(pod("b"), container("b", cpus=1), resources(2000, 2000))
        assert said(answer) == [("id-a", "2-3"), ("id-b", "0-1")]
        assert [update.ignore_failure for update in answer] == [True, False]
        answer = tested.update_container(pod("a"), container("a"), resources(0, 0))
        assert said(answer) == [("id-a", "2-3")]
        with pytest.raises(RequestError, match="exclusive CPUs: 4 requested"):
            tested.update_container(pod("b"), container("b", cpus=2), resources(4000, 4000))


def test_what_exists_is_learned_anew_and_put_right(caplog: pytest.LogCaptureFixture) -> None:
    with assigner(BARE) as (tested, _):
        create(tested, "gone", 2)
        pods = [pod("a"), pod("b"), pod("c")]
        existing = [
            container("a", has="0-2"),
            container("b", cpus=1, has="3"),
            container("c", cpus=1),
        ]
        for given, each in zip(existing, pods, strict=True):
            given.pod_sandbox_id = each.id
        assert said(tested.synchronize(pods, existing)) == [("id-a", "1-2"), ("id-c", "0")]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "pod default/c, container c: had CPUs any, now has exclusive CPUs 0"
    ]


def test_what_exists_may_come_in_parts_a_container_before_its_pod() -> None:
    existing = container("b", cpus=1, has="3")
    existing.pod_sandbox_id = pod("b").id
    existing.env.append("SECRET=" + "x" * 1000)
    with assigner(BARE) as (tested, _):
        tested.synchronize_part([], [existing])
        tested.synchronize_part([pod("a"), pod("b")], [])
        assert said(tested.synchronize([], [])) == []
        assert tested._pools.placed["id-b"].own == {3}
        assert said(tested.synchronize([], [])) == []
        assert dict(tested._pools.placed) == {}


def test_an_annotation_that_is_too_long_costs_its_own_pod(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = pod("a", exclusive="2")
    long.annotations[f"{ANNOTATION}/container.other"] = "x" * MAX_PODS
    existing = [container("a", cpus=2, has="0-1"), container("b", cpus=1, has="3")]
    for each, of in zip(existing, ("a", "b"), strict=True):
        each.pod_sandbox_id = pod(of).id
    with assigner(BARE) as (tested, _):
        tested.synchronize([long, pod("b")], existing)
        assert tested._pools.placed["id-b"].own == {3}
    assert caplog.messages[0] == (
        "the annotations of 1 pods are not read, since they have more than 8 MiB in all"
    )


def test_what_a_runtime_tells_and_is_no_list_is_as_good_as_none() -> None:
    with assigner(BARE) as (tested, _):
        assert said(tested.synchronize([], [container("a", has="x")])) == [("id-a", "0-3")]


# --- configuration --------------------------------------------------------------------------------


def test_changed_rules_move_containers_and_wrong_ones_do_not() -> None:
    with assigner(BARE) as (tested, stub):
        create(tested, "a")
        with pytest.raises(ConfigError) as caught:
            tested.reconfigure(Config(resource_assigner=replace(BARE, reserved=frozenset({9}))))
        assert str(caught.value) == (
            "reserved CPUs 9 are missing, offline or isolated; available CPUs: 0-3"
        )
        assert stub.asked == []
        tested.reconfigure(Config(resource_assigner=replace(BARE, reserved=frozenset({0}))))
        assert stub.asked == [("id-a", "1-3")]
        tested.configure(api.ConfigureRequest(config="resource_assigner: {memory_nodes: false}"))
        assert stub.asked[1:] == [("id-a", "0-3")]


def test_reserved_cpus_that_are_no_list_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        config.read("resource_assigner: {reserved: all}", "config.yaml")
    assert str(caught.value) == (
        "config.yaml: resource_assigner: reserved: 'all' is not a CPU or a range of CPUs,"
        " as in 0-3,8"
    )


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_launched_assigner_answers() -> None:
    with launched(PROGRAM) as running:
        running.configured()
        running.peer.synchronize([], [])
        request = api.CreateContainerRequest(pod=pod(), container=container())
        answer = running.peer.request("CreateContainer", request, api.CreateContainerResponse)
        assert answer.adjust.linux.resources.cpu.cpus
        assert running.end()[0] == 0


@pytest.mark.slow
def test_a_configuration_with_wrong_rules_is_1(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("resource_assigner: {reserved: 32000}")
    done = subprocess.run(
        [Path(sys.executable).with_name(PROGRAM), "--config", file],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 1
    assert "reserved CPUs 32000 are missing, offline or isolated" in done.stderr

"""Logger, differ and resource assigner on real runtimes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from nri_inject.plugins.resource_assigner import topology
from nri_inject.text import cpulist
from nri_inject.text.cpulist import Cpus
from nri_inject.wire import recording
from nri_inject.wire.session import Call, Role, Session

from . import image
from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon
from .plugin import External, install
from .poll import until

StartPlugin = Callable[..., External]


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[StartPlugin]:
    """Start commands beside the shared runtime; they are ended with SIGTERM."""
    with ExitStack() as plugins:

        def start_plugin(command: str, *options: str) -> External:
            log = tmp_path / f"{command}.log"
            return plugins.enter_context(closing(External(command, runtime, log, *options)))

        yield start_plugin


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def run_through(daemon: Daemon, name: str, namespace: str = "default") -> str:
    """Let a pod with one container live from beginning to end; return the container's id."""
    pod = daemon.cri.run_pod(name, namespace)
    container = daemon.cri.run(pod, "main")
    daemon.cri.stop(container)
    daemon.cri.remove_container(container)
    daemon.cri.remove_pod(pod)
    return container


# --- the logger -----------------------------------------------------------------------------------

LIFE = [
    *("RunPodSandbox", "CreateContainer", "PostCreateContainer", "StartContainer"),
    *("PostStartContainer", "StopContainer", "RemoveContainer"),
    *("StopPodSandbox", "RemovePodSandbox"),
]
VALIDATION = ["ValidateContainerAdjustment"]


def test_the_whole_life_of_a_pod_is_logged_and_no_other_pods(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    file = tmp_path / "events"
    logger = start(
        *("nri-logger", "--format", "json", "--log-file", str(file)),
        *("--namespace", "team-*", "--events", "pod,container"),
    )
    run_through(runtime, "other")
    container = run_through(runtime, "mine", "team-a")
    until(lambda: '"RemovePodSandbox"' in file.read_text(), "the pod's last event")
    logger.close()

    events = lines(file)
    validation = VALIDATION if runtime.kind.nri >= (0, 10, 0) else []
    assert [event["event"] for event in events] == [*LIFE[:2], *validation, *LIFE[2:]]
    created = events[1]
    assert created["pod"]["namespace"] == "team-a"
    assert created["container"]["id"] == container
    assert created["container"]["args"] == list(image.ENTRY_COMMAND)


def test_yaml_says_what_exists_when_the_logger_starts(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    pod = runtime.cri.run_pod("before", annotations={"example.com/text": "a\nb: \x1b[2J"})
    runtime.cri.run(pod, "main")
    file = tmp_path / "events"
    start("nri-logger", "--log-file", str(file), "--events", "synchronize").close()

    text = file.read_text()
    assert "\x1b" not in text
    first, second = yaml.safe_load_all(text)
    assert (first["event"], first["pod"]["name"]) == ("Synchronize", "before")
    assert first["pod"]["annotations"]["example.com/text"] == "a\nb: \x1b[2J"
    assert second["container"]["podSandboxId"] == pod


def test_the_logger_comes_back_after_a_restart_and_its_recording_is_the_session(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    file = tmp_path / "session"
    logger = start("nri-logger", "--log-file", "/dev/null", "--record", str(file))
    runtime.restart()
    logger.wait_synchronized(2)
    runtime.cri.run_pod("after")
    logger.close()

    records = [recording.decode(line) for line in file.read_text().splitlines()]
    ends = [number for number, record in enumerate(records) if not record.data]
    assert len(ends) == 2
    session = Session(Role.PLUGIN)
    session.call("RegisterPlugin", _registration(records[ends[0] + 1].data))
    told = [r.data for r in records[ends[0] + 1 : ends[1]] if r.sender is Role.RUNTIME]
    methods = [event.method for data in told for event in session.receive(data)]
    assert methods[:3] in (
        ["RegisterPlugin", "Configure", "Synchronize"],
        ["Configure", "RegisterPlugin", "Synchronize"],
    )
    told_as = "RunPodSandbox" if runtime.kind.nri >= (0, 12, 0) else "StateChange"
    assert methods[3:] == [told_as]


def _registration(data: bytes) -> Any:
    first, *_ = Session(Role.RUNTIME).receive(data)
    assert isinstance(first, Call)
    return first.request


def test_a_preinstalled_logger_is_configured_by_its_drop_in_file(
    new_runtime: NewRuntime, tmp_path: Path
) -> None:
    daemon = new_runtime()
    file = tmp_path / "events"
    config = (
        f"logger: {{log_file: {file}, format: json, events: [CreateContainer], add_env: WHO}}\n"
    )
    install("nri-logger", daemon, "90-logger", config)
    daemon.start()
    container = daemon.cri.run(daemon.cri.run_pod("launched"), "main")
    who = daemon.cri.exec(container, "sh", "-c", "echo $WHO").stdout
    assert re.fullmatch(r"logger-pid-[0-9]+\n", who)
    assert [event["event"] for event in lines(file)] == ["CreateContainer"]


# --- the differ -----------------------------------------------------------------------------------


def test_each_plugins_changes_are_shown_where_they_came_and_what_was_created(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    file = tmp_path / "changes"
    differ = start(
        *("nri-differ", "--indices", "00,50,99", "--format", "json", "--log-file", str(file))
    )
    differ.wait_synchronized(3)
    start("nri-device-injector", "--policy", "unrestricted", "--idx", "10")
    start("nri-logger", "--idx", "90", "--log-file", "/dev/null", "--add-env", "WHO")
    annotations = {
        "devices.noderesource.dev/container.main": "- path: /dev/fuse\n",
        "devices.noderesource.dev/container.bad": "- path: /dev/no-such\n",
    }
    pod = runtime.cri.run_pod("changed", annotations=annotations)
    with pytest.raises(CriError):
        runtime.cri.create(pod, "bad")  # seen at 00, never at 50
    container = runtime.cri.run(pod, "main")
    runtime.cri.run(pod, "plain")
    differ.close()

    steps = [step for step in lines(file) if step["id"] == container]
    assert [(step["from"], step["to"]) for step in steps] == [
        ("request at 00", "request at 50"),
        ("request at 50", "request at 99"),
        ("request at 99", "PostCreateContainer"),
    ]
    device, variable, created = (step["changes"] for step in steps)
    assert [(change["field"], change["key"]) for change in device] == [
        ("linux.devices", "/dev/fuse")
    ]
    assert [(change["field"], change["key"]) for change in variable] == [("env", "WHO")]
    assert "linux.resources.devices" in {change["field"] for change in created}
    assert {step["container"] for step in lines(file)} == {"main", "plain"}


def test_text_is_quiet_about_containers_that_nobody_changed(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    file = tmp_path / "changes"
    differ = start("nri-differ", "--log-file", str(file))
    differ.wait_synchronized(2)
    runtime.cri.run(runtime.cri.run_pod("alone"), "main")
    runtime.restart()
    differ.wait_synchronized(4)
    runtime.cri.run(runtime.cri.run_pod("again"), "main")
    differ.close()
    assert file.read_text() == ""


# --- the resource assigner ------------------------------------------------------------------------

ASK = "exclusive-cpus.noderesource.dev/container.main"
EVERYBODY = "resource_assigner: {beyond_requests: ['*']}\n"
CPUS = topology.read().all
FIRST = frozenset({min(CPUS)})
MEMORY_NODES = Path("/sys/devices/system/node/has_memory")

of_several_cpus = pytest.mark.min_cpus(2)


def cpus(daemon: Daemon, container: str) -> Cpus:
    """Return the CPUs of a running container's cgroup."""
    return cpulist.read(cgroup_file(daemon, container, "cpuset.cpus"))


def cgroup_file(daemon: Daemon, container: str, name: str) -> str:
    groups = Path(f"/proc/{daemon.cri.details(container)['pid']}/cgroup").read_text()
    version_1 = re.search(r"^[0-9]+:[^:]*\bcpuset\b[^:]*:(.*)$", groups, re.MULTILINE)
    version_2 = re.search(r"^0::(.*)$", groups, re.MULTILINE)
    if version_1:
        return Path(f"/sys/fs/cgroup/cpuset{version_1[1]}/{name}").read_text().strip()
    assert version_2 is not None
    return Path(f"/sys/fs/cgroup{version_2[1]}/{name}").read_text().strip()


@pytest.fixture
def assigner(start: StartPlugin, tmp_path: Path) -> External:
    file = tmp_path / "config.yaml"
    file.write_text(EVERYBODY)
    return start("nri-resource-assigner", "--config", str(file))


@of_several_cpus
def test_the_shared_pool_makes_room_for_an_exclusive_container_and_has_it_back(
    runtime: Daemon, assigner: External
) -> None:
    shared = runtime.cri.run(runtime.cri.run_pod("shared"), "main")
    assert cpus(runtime, shared) == CPUS
    assert cgroup_file(runtime, shared, "cpuset.mems") == MEMORY_NODES.read_text().strip()

    pod = runtime.cri.run_pod("exclusive", annotations={ASK: "1"})
    exclusive = runtime.cri.run(pod, "main")
    taken = cpus(runtime, exclusive)
    assert (len(taken), cpus(runtime, shared)) == (1, CPUS - taken)
    late = runtime.cri.run(runtime.cri.run_pod("late"), "main")
    assert cpus(runtime, late) == CPUS - taken
    allowed = runtime.cri.exec(exclusive, "grep", "Cpus_allowed_list", "/proc/self/status").stdout
    assert cpulist.read(allowed.split()[1]) == taken

    runtime.cri.stop(exclusive)
    until(lambda: cpus(runtime, shared) == CPUS, "the shared pool to have its CPU back")
    assert cpus(runtime, late) == CPUS
    assert f"exclusive CPUs {cpulist.format_cpu_list(taken)}" in assigner.log


@of_several_cpus
@pytest.mark.usefixtures("assigner")
def test_what_cannot_be_had_fails_that_container_with_a_sentence(runtime: Daemon) -> None:
    pod = runtime.cri.run_pod("greedy", annotations={ASK: str(len(CPUS))})
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "main")
    assert caught.value.message.endswith(
        f"pod default/greedy, container main: annotation {ASK}: exclusive CPUs: {len(CPUS)}"
        f" requested, {len(CPUS) - 1} available: of {len(CPUS)} CPUs 0 are reserved, 0 exclusive to"
        " other"
        " containers, and 1 is always shared; request fewer, or use another node"
    )


@of_several_cpus
@pytest.mark.usefixtures("assigner")
def test_whole_cpus_that_are_requested_are_exclusive_and_follow_an_update(
    runtime: Daemon,
) -> None:
    whole = {"cpu_shares": 1024, "cpu_quota": 100_000, "cpu_period": 100_000}
    limits = whole | {"memory_limit_in_bytes": 1 << 26}
    shared = runtime.cri.run(runtime.cri.run_pod("shared"), "main")
    pod = runtime.cri.run_pod("guaranteed")
    security = {"namespace_options": {"network": "NODE", "pid": "CONTAINER"}}
    exclusive = runtime.cri.run(
        pod, "main", linux={"resources": limits, "security_context": security}
    )
    taken = cpus(runtime, exclusive)
    assert (len(taken), cpus(runtime, shared)) == (1, CPUS - taken)

    runtime.cri.update(exclusive, **(limits | {"cpu_shares": 512, "cpu_quota": 50_000}))
    assert (cpus(runtime, exclusive), cpus(runtime, shared)) == (CPUS, CPUS)
    runtime.cri.update(exclusive, **limits)
    taken = cpus(runtime, exclusive)
    assert (len(taken), cpus(runtime, shared)) == (1, CPUS - taken)


@of_several_cpus
def test_the_assignment_outlives_restarts_of_the_plugin_and_of_the_runtime(
    runtime: Daemon, start: StartPlugin, assigner: External, tmp_path: Path
) -> None:
    shared = runtime.cri.run(runtime.cri.run_pod("shared"), "main")
    pod = runtime.cri.run_pod("exclusive", annotations={ASK: "1"})
    exclusive = runtime.cri.run(pod, "main")
    taken = cpus(runtime, exclusive)
    assigner.kill()
    meanwhile = runtime.cri.run(runtime.cri.run_pod("meanwhile"), "main")

    again = start("nri-resource-assigner", "--config", str(tmp_path / "config.yaml"))
    until(
        lambda: cpus(runtime, meanwhile) == CPUS - taken, "the container of meanwhile to be moved"
    )
    assert (cpus(runtime, exclusive), cpus(runtime, shared)) == (taken, CPUS - taken)
    assert "warning" not in again.log

    runtime.restart()
    again.wait_synchronized(2)
    assert (cpus(runtime, exclusive), cpus(runtime, shared)) == (taken, CPUS - taken)
    runtime.cri.stop(exclusive)
    until(lambda: cpus(runtime, shared) == CPUS, "the shared pool to have its CPU back")


@of_several_cpus
def test_a_change_of_the_configuration_moves_containers_at_once(
    runtime: Daemon, assigner: External, tmp_path: Path
) -> None:
    shared = runtime.cri.run(runtime.cri.run_pod("shared"), "main")
    system = runtime.cri.run(runtime.cri.run_pod("dns", "kube-system"), "main")
    new = tmp_path / "new.yaml"
    new.write_text(f"resource_assigner: {{reserved: {min(CPUS)}}}\n")
    new.rename(tmp_path / "config.yaml")
    until(lambda: cpus(runtime, shared) == CPUS - FIRST, "the shared pool to be smaller")
    until(lambda: cpus(runtime, system) == FIRST, "the reserved pool to be used")

    (tmp_path / "config.yaml").write_text("resource_assigner: {reserved: 9999}\n")
    until(
        lambda: "the previous configuration stays in force" in assigner.log,
        "a word on the wrong rule",
    )
    present = cpulist.format_cpu_list(CPUS)
    assert (
        f"reserved CPUs 9999 are missing, offline or isolated; available CPUs: {present}"
        in assigner.log
    )
    late = runtime.cri.run(runtime.cri.run_pod("late"), "main")
    assert cpus(runtime, late) == CPUS - FIRST


@of_several_cpus
def test_a_preinstalled_assigner_is_configured_by_its_drop_in_file(new_runtime: NewRuntime) -> None:
    daemon = new_runtime()
    install("nri-resource-assigner", daemon, "80-assigner", EVERYBODY)
    daemon.start()
    pod = daemon.cri.run_pod("exclusive", annotations={ASK: "1"})
    exclusive = daemon.cri.run(pod, "main")
    shared = daemon.cri.run(pod, "other")
    taken = cpus(daemon, exclusive)
    assert (len(taken), cpus(daemon, shared)) == (1, CPUS - taken)

"""Each function writes the message that a runtime takes, and no other part of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from nri_inject import adjustments, api
from nri_inject.adjustments import UNLIMITED
from nri_inject.api import Adjustment
from nri_inject.capabilities import Runtime, dotted, unsupported_in
from nri_inject.host.model import DeviceNode
from nri_inject.runtime.apply import apply
from nri_inject.testing import FakeRuntime, make_container, make_pod

Change = Callable[[Adjustment], None]

SERIAL = DeviceNode("/dev/ttyS1", "c", 4, 65, mode=0o660, uid=0, gid=20)
ROOTS_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def linux(**fields: object) -> Adjustment:
    return Adjustment(linux=api.LinuxContainerAdjustment(**fields))  # type: ignore[arg-type]  # it checks


def resources(**fields: object) -> Adjustment:
    return linux(resources=api.LinuxResources(**fields))  # type: ignore[arg-type]  # the message checks


CHANGES: dict[str, tuple[Change, Adjustment]] = {
    "add_env": (
        lambda to: adjustments.add_env(to, "LAMP", "on\nand on"),
        Adjustment(env=[{"key": "LAMP", "value": "on\nand on"}]),
    ),
    "remove_env": (
        lambda to: adjustments.remove_env(to, "LAMP"),
        Adjustment(env=[{"key": "-LAMP"}]),
    ),
    "set_args": (
        lambda to: adjustments.set_args(to, ["sh", "-c", ""]),
        Adjustment(args=["sh", "-c", ""]),
    ),
    "set_rlimit": (
        lambda to: adjustments.set_rlimit(to, "nofile", soft=1024, hard=UNLIMITED),
        Adjustment(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}]),
    ),
    "set_oom_score_adj": (
        lambda to: adjustments.set_oom_score_adj(to, 0),
        linux(oom_score_adj={"value": 0}),
    ),
    "set_io_priority": (
        lambda to: adjustments.set_io_priority(to, "IOPRIO_CLASS_BE", 7),
        linux(io_priority={"class": "IOPRIO_CLASS_BE", "priority": 7}),
    ),
    "set_scheduler": (
        lambda to: adjustments.set_scheduler(
            to, "SCHED_FIFO", priority=9, flags=["SCHED_FLAG_RESET_ON_FORK"]
        ),
        linux(
            scheduler=api.LinuxScheduler(
                policy="SCHED_FIFO", priority=9, flags=["SCHED_FLAG_RESET_ON_FORK"]
            )
        ),
    ),
    "set_memory_policy": (
        lambda to: adjustments.set_memory_policy(to, "MPOL_BIND", "0-1", ["MPOL_F_STATIC_NODES"]),
        linux(
            memory_policy=api.LinuxMemoryPolicy(
                mode="MPOL_BIND", nodes="0-1", flags=["MPOL_F_STATIC_NODES"]
            )
        ),
    ),
    "add_mount": (
        lambda to: adjustments.add_mount(to, "/srv/models", "/models"),
        Adjustment(
            mounts=[
                {
                    "source": "/srv/models",
                    "destination": "/models",
                    "type": "bind",
                    "options": ["rbind", "ro"],
                }
            ]
        ),
    ),
    "add_mount of a file system": (
        lambda to: adjustments.add_mount(
            to, "tmpfs", "/scratch", kind="tmpfs", options=["size=1m", "nosuid"]
        ),
        Adjustment(
            mounts=[
                {
                    "source": "tmpfs",
                    "destination": "/scratch",
                    "type": "tmpfs",
                    "options": ["size=1m", "nosuid"],
                }
            ]
        ),
    ),
    "remove_mount": (
        lambda to: adjustments.remove_mount(to, "/data/"),
        Adjustment(mounts=[{"destination": "-/data/"}]),
    ),
    "add_device": (
        lambda to: adjustments.add_device(to, "/dev/lamp", "b", 4095, 0),
        linux(devices=[{"path": "/dev/lamp", "type": "b", "major": 4095, "minor": 0}]),
    ),
    "add_device with an owner": (
        lambda to: adjustments.add_device(
            to, "/dev/lamp", "c", 1, 3, file_mode=0o640, uid=0, gid=1000
        ),
        linux(
            devices=[
                {
                    "path": "/dev/lamp",
                    "type": "c",
                    "major": 1,
                    "minor": 3,
                    "file_mode": {"value": 0o640},
                    "uid": {"value": 0},
                    "gid": {"value": 1000},
                }
            ]
        ),
    ),
    "add_host_device": (
        lambda to: adjustments.add_host_device(
            to, "/dev/ttyS1", "/dev/serial", devices={"/dev/ttyS1": SERIAL}
        ),
        linux(
            devices=[
                {
                    "path": "/dev/serial",
                    "type": "c",
                    "major": 4,
                    "minor": 65,
                    "file_mode": {"value": 0o660},
                    "uid": {"value": 0},
                    "gid": {"value": 20},
                }
            ]
        ),
    ),
    "remove_device": (
        lambda to: adjustments.remove_device(to, "/dev/lamp"),
        linux(devices=[{"path": "-/dev/lamp"}]),
    ),
    "add_device_rule": (
        lambda to: adjustments.add_device_rule(to, "c", 189, None, "rw"),
        resources(devices=[{"allow": True, "type": "c", "major": {"value": 189}, "access": "rw"}]),
    ),
    "add_device_rule that denies": (
        lambda to: adjustments.add_device_rule(to, "b", 8, 0, allow=False),
        resources(
            devices=[
                {"type": "b", "major": {"value": 8}, "minor": {"value": 0}, "access": "rwm"},
            ]
        ),
    ),
    "add_cdi_device": (
        lambda to: adjustments.add_cdi_device(to, "example.com/lamp=0"),
        Adjustment(CDI_devices=[{"name": "example.com/lamp=0"}]),
    ),
    "add_net_device": (
        lambda to: adjustments.add_net_device(to, "eth1", "net0"),
        linux(net_devices={"eth1": api.LinuxNetDevice(name="net0")}),
    ),
    "remove_net_device": (
        lambda to: adjustments.remove_net_device(to, "eth1"),
        linux(net_devices={"-eth1": api.LinuxNetDevice()}),
    ),
    "add_hook": (
        lambda to: adjustments.add_hook(to, "createRuntime", "/opt/note", ["--start"]),
        Adjustment(
            hooks=api.Hooks(
                create_runtime=[
                    {"path": "/opt/note", "args": ["/opt/note", "--start"], "env": [ROOTS_PATH]}
                ]
            )
        ),
    ),
    "add_hook with an environment": (
        lambda to: adjustments.add_hook(to, "poststop", "/opt/note", env={"LAMP": ""}, timeout=5),
        Adjustment(
            hooks=api.Hooks(
                poststop=[
                    {
                        "path": "/opt/note",
                        "args": ["/opt/note"],
                        "env": ["LAMP="],
                        "timeout": {"value": 5},
                    }
                ]
            )
        ),
    ),
    "set_annotation": (
        lambda to: adjustments.set_annotation(to, "example.com/lamp", ""),
        Adjustment(annotations={"example.com/lamp": ""}),
    ),
    "remove_annotation": (
        lambda to: adjustments.remove_annotation(to, "example.com/lamp"),
        Adjustment(annotations={"-example.com/lamp": ""}),
    ),
    "set_sysctl": (
        lambda to: adjustments.set_sysctl(to, "net.ipv4.ping_group_range", "0\t1"),
        linux(sysctl={"net.ipv4.ping_group_range": "0\t1"}),
    ),
    "remove_sysctl": (
        lambda to: adjustments.remove_sysctl(to, "net.core.somaxconn"),
        linux(sysctl={"-net.core.somaxconn": ""}),
    ),
    "set_namespace": (
        lambda to: adjustments.set_namespace(to, "network", "/proc/1/ns/net"),
        linux(namespaces=[{"type": "network", "path": "/proc/1/ns/net"}]),
    ),
    "remove_namespace": (
        lambda to: adjustments.remove_namespace(to, "ipc"),
        linux(namespaces=[{"type": "-ipc"}]),
    ),
    "set_memory_limit": (
        lambda to: adjustments.set_memory_limit(to, 1 << 30),
        resources(memory={"limit": {"value": 1 << 30}}),
    ),
    "set_cpu_shares": (
        lambda to: adjustments.set_cpu_shares(to, 512),
        resources(cpu={"shares": {"value": 512}}),
    ),
    "set_cpu_quota": (
        lambda to: adjustments.set_cpu_quota(to, 200_000),
        resources(cpu={"quota": {"value": 200_000}, "period": {"value": 100_000}}),
    ),
    "set_cpuset": (
        lambda to: adjustments.set_cpuset(to, "0-3,7", "0"),
        resources(cpu={"cpus": "0-3,7", "mems": "0"}),
    ),
    "set_pids_limit": (
        lambda to: adjustments.set_pids_limit(to, 100),
        resources(pids={"limit": 100}),
    ),
    "set_hugepage_limit": (
        lambda to: adjustments.set_hugepage_limit(to, "2MB", 1 << 30),
        resources(hugepage_limits=[{"page_size": "2MB", "limit": 1 << 30}]),
    ),
    "set_cgroup_value": (
        lambda to: adjustments.set_cgroup_value(to, "memory.high", "1073741824"),
        resources(unified={"memory.high": "1073741824"}),
    ),
    "set_blockio_class": (
        lambda to: adjustments.set_blockio_class(to, "slow"),
        resources(blockio_class={"value": "slow"}),
    ),
    "set_rdt_class": (
        lambda to: adjustments.set_rdt_class(to, ""),
        resources(rdt_class={"value": ""}),
    ),
}


TAKEN_BACK = ("remove_env", "remove_device")
"""NRI applies these to what earlier plugins gave, and to nothing else."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_this_message(name: str) -> None:
    change, expected = CHANGES[name]
    made = Adjustment()
    change(made)
    assert made == expected


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_made_twice_is_made_once(name: str) -> None:
    """But for hooks and rules of the cgroup, which have no key: their order counts."""
    change, expected = CHANGES[name]
    made = Adjustment()
    change(made)
    change(made)
    if name.startswith(("add_hook", "add_device_rule")):
        twice = api.copy_of(expected)
        twice.MergeFrom(expected)
        expected = twice
    assert made == expected


@pytest.mark.parametrize("name", CHANGES)
def test_a_runtime_takes_the_change(name: str, nri_runtime: FakeRuntime) -> None:
    made = Adjustment()
    CHANGES[name][0](made)
    nri_runtime.connect_injector(lambda *_: made)
    pod = make_pod()
    nri_runtime.run_pod(pod)
    adjusted = nri_runtime.create(make_container(pod)).adjust
    assert apply({}, adjusted) == ({} if name in TAKEN_BACK else apply({}, made))


@pytest.mark.parametrize("name", CHANGES)
def test_help_names_the_first_runtimes_that_apply_a_change(name: str) -> None:
    function = getattr(adjustments, name.split()[0])
    text = " ".join(inspect.getdoc(function).split())  # type: ignore[union-attr]  # each has one
    lost = unsupported_in(CHANGES[name][1], Runtime("containerd", "1.7.0", (0, 3, 0)))
    needs = [f"needs NRI {dotted(one.needs)} ({one.releases})" for one in lost if one.needs]
    assert [each for each in needs if each not in text] == []
    assert text.count("needs NRI") == (1 if name == "remove_mount" else len(needs))


def test_every_function_is_here() -> None:
    named = {name.split()[0] for name in CHANGES}
    assert named == {name for name in adjustments.__all__ if name.islower()}


def test_changes_of_different_parts_are_one_adjustment() -> None:
    together, merged = Adjustment(), Adjustment()
    for change, alone in CHANGES.values():
        if alone.env or alone.mounts or alone.rlimits:
            change(together)
            merged.MergeFrom(alone)
    assert len(together.env) == 2
    assert together == merged


def test_set_replaces_what_was_set() -> None:
    made = Adjustment()
    for number in (1, 2):
        adjustments.set_rlimit(made, "NPROC", soft=number, hard=number)
        adjustments.set_rlimit(made, "CORE", soft=0, hard=number)
        adjustments.set_hugepage_limit(made, "1GB", number)
        adjustments.set_sysctl(made, "net.core.somaxconn", str(number))
        adjustments.set_oom_score_adj(made, number)
        adjustments.set_args(made, [f"sleep-{number}"])
    adjustments.set_namespace(made, "ipc")
    adjustments.remove_namespace(made, "ipc")
    assert made == Adjustment(
        args=["sleep-2"],
        rlimits=[
            {"type": "RLIMIT_NPROC", "soft": 2, "hard": 2},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 2},
        ],
        linux=api.LinuxContainerAdjustment(
            resources={"hugepage_limits": [{"page_size": "1GB", "limit": 2}]},
            sysctl={"net.core.somaxconn": "2"},
            oom_score_adj={"value": 2},
            namespaces=[{"type": "-ipc"}],
        ),
    )


def test_a_removal_before_an_addition_replaces_what_another_plugin_gave(
    nri_runtime: FakeRuntime,
) -> None:
    def first(*_: object) -> Adjustment:
        made = Adjustment()
        adjustments.add_env(made, "LAMP", "off")
        return made

    def second(*_: object) -> Adjustment:
        made = Adjustment()
        adjustments.remove_env(made, "LAMP")
        adjustments.add_env(made, "LAMP", "on")
        return made

    nri_runtime.connect_injector(first, name="first")
    nri_runtime.connect_injector(second, name="second")
    pod = make_pod()
    nri_runtime.run_pod(pod)
    assert nri_runtime.create(make_container(pod)).spec["process"]["env"] == ["LAMP=on"]


def test_an_update_of_a_running_container_has_the_same_resources() -> None:
    update = api.ContainerUpdate(container_id="c")
    adjustments.set_memory_limit(update, 1)
    adjustments.set_cpuset(update, mems="0")
    adjustments.set_cpuset(update, cpus="1")
    assert update == api.ContainerUpdate(
        container_id="c",
        linux={"resources": {"memory": {"limit": {"value": 1}}, "cpu": {"cpus": "1", "mems": "0"}}},
    )

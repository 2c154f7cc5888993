"""What NRI or a runtime would refuse, or drop in silence, is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nri_inject import adjustments, api
from nri_inject.adjustments import UNLIMITED
from nri_inject.api import Adjustment, Container, env_of
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.host.nodes import HostDevices

REMOVES = "begins with '-', which NRI reads as a removal"
FIFO = DeviceNode("/run/fifo", "p", 0, 0, mode=0o600, uid=0, gid=0)
REFUSED: dict[str, Callable[[Adjustment], None]] = {
    f"variable '-A' {REMOVES}": lambda to: adjustments.add_env(to, "-A", ""),
    "variable '' must have a name": lambda to: adjustments.add_env(to, "", ""),
    "variable 'A=B' contains '='": lambda to: adjustments.add_env(to, "A=B", ""),
    "variable 'A' contains a zero byte": lambda to: adjustments.add_env(to, "A", "\0"),
    "args []: the program must be the first of them": lambda to: adjustments.set_args(to, []),
    "args ['', 'x']: the program must be the first of them": lambda to: adjustments.set_args(
        to, ["", "x"]
    ),
    "args: 'a\\x00' contains a zero byte": lambda to: adjustments.set_args(to, ["a\0"]),
    "limit 'NOFILES' is not known; did you mean 'NOFILE'?": lambda to: adjustments.set_rlimit(
        to, "NOFILES", soft=0, hard=0
    ),
    "limit RLIMIT_NOFILE: soft limit 2 is above hard limit 1": lambda to: adjustments.set_rlimit(
        to, "NOFILE", soft=2, hard=1
    ),
    f"limit RLIMIT_CORE is -1, and must be 0 to {UNLIMITED}": lambda to: adjustments.set_rlimit(
        to, "RLIMIT_CORE", soft=0, hard=-1
    ),
    "oom_score_adj is -1001, and must be -1000 to 1000": lambda to: adjustments.set_oom_score_adj(
        to, -1001
    ),
    "I/O class 'BEST' is not known; did you mean 'IOPRIO_CLASS_BE'?": (
        lambda to: adjustments.set_io_priority(to, "BEST")
    ),
    "I/O priority is 8, and must be 0 to 7": lambda to: adjustments.set_io_priority(
        to, "IOPRIO_CLASS_RT", 8
    ),
    "scheduling policy 'FIFO' is not known; did you mean 'SCHED_FIFO'?": (
        lambda to: adjustments.set_scheduler(to, "FIFO")
    ),
    "nice value is 20, and must be -20 to 19": lambda to: adjustments.set_scheduler(
        to, "SCHED_OTHER", nice=20
    ),
    "priority of SCHED_RR is 0, and must be 1 to 99": lambda to: adjustments.set_scheduler(
        to, "SCHED_RR"
    ),
    "priority of SCHED_BATCH is 1, and must be 0": lambda to: adjustments.set_scheduler(
        to, "SCHED_BATCH", priority=1
    ),
    "deadline of SCHED_BATCH is 1, and must be 0": lambda to: adjustments.set_scheduler(
        to, "SCHED_BATCH", deadline=1
    ),
    "nodes 'all' is not a list of nodes such as 0-3,7": lambda to: adjustments.set_memory_policy(
        to, "MPOL_BIND", "all"
    ),
    f"mount '-/proc' {REMOVES}": lambda to: adjustments.add_mount(to, "/a", "-/proc"),
    "mount 'a' is not an absolute path": lambda to: adjustments.add_mount(to, "/a", "a"),
    "mount '/a/../b' contains '..'": lambda to: adjustments.remove_mount(to, "/a/../b"),
    "mount '/' is the root directory": lambda to: adjustments.add_mount(to, "/a", "/"),
    "mount '/b': source 'a' is not an absolute path": lambda to: adjustments.add_mount(
        to, "a", "/b"
    ),
    "mount '/b': source 'x\\x00' contains a zero byte": lambda to: adjustments.add_mount(
        to, "x\0", "/b", kind="tmpfs", options=[]
    ),
    "mount '/b': source '/srv/../etc' contains '..'": lambda to: adjustments.add_mount(
        to, "/srv/../etc", "/b"
    ),
    "mount '/b': option 'ro,nosuid' contains a comma; list each option as a separate item": (
        lambda to: adjustments.add_mount(to, "/a", "/b", options=["bind", "ro,nosuid"])
    ),
    "mount '/b': option '' contains white space; an option must not": (
        lambda to: adjustments.add_mount(to, "/a", "/b", options=["bind", ""])
    ),
    "mount '/b': options must have bind or rbind": lambda to: adjustments.add_mount(
        to, "/a", "/b", options=["ro"]
    ),
    "mount '/b': the kind of the file system is missing": lambda to: adjustments.add_mount(
        to, "a", "/b", kind="", options=["ro"]
    ),
    f"device '-/dev/x' {REMOVES}": lambda to: adjustments.add_device(to, "-/dev/x", "c", 1, 3),
    "device '/dev/x\\x00' contains a zero byte": lambda to: adjustments.add_device(
        to, "/dev/x\0", "c", 1, 3
    ),
    "device '/dev/x' is of kind 'char', not c or b": lambda to: adjustments.add_device(
        to, "/dev/x", "char", 1, 3
    ),
    "device '/dev/x' is a fifo; mount it instead": lambda to: adjustments.add_device(
        to, "/dev/x", "p", 0, 0
    ),
    "device '/run/fifo' is a fifo; mount it instead": lambda to: adjustments.add_host_device(
        to, "/run/fifo", devices={"/run/fifo": FIFO}
    ),
    "device '/dev/x': major is 4096, and must be 0 to 4095": lambda to: adjustments.add_device(
        to, "/dev/x", "c", 4096, 0
    ),
    "device '/dev/x': minor is -1, and must be 0 to 1048575": lambda to: adjustments.add_device(
        to, "/dev/x", "c", 1, -1
    ),
    "device '/dev/x': file_mode is 33206, and must be 0 to 4095": (
        lambda to: adjustments.add_device(to, "/dev/x", "c", 1, 3, file_mode=0o100666)
    ),
    "device '/dev/x': uid is -1, and must be 0 to 4294967295": lambda to: adjustments.add_device(
        to, "/dev/x", "c", 1, 3, uid=-1
    ),
    "device '/dev/x' does not exist on the host": lambda to: adjustments.add_host_device(
        to, "/dev/x", devices={}
    ),
    "device rule: kind 'u' is not a, b or c": lambda to: adjustments.add_device_rule(
        to, "u", None, None
    ),
    "device rule: access 'rx' is not some of r, w and m": lambda to: adjustments.add_device_rule(
        to, "c", 1, 3, "rx"
    ),
    "device rule: minor is -1, and must be 0 to 1048575": lambda to: adjustments.add_device_rule(
        to, "c", 1, -1
    ),
    "'gpu0' is not a device name such as vendor.com/class=name": (
        lambda to: adjustments.add_cdi_device(to, "gpu0")
    ),
    f"network device '-eth1' {REMOVES}": lambda to: adjustments.add_net_device(to, "-eth1"),
    "network device 'a-very-long-name' must have 1 to 15 bytes": (
        lambda to: adjustments.add_net_device(to, "eth1", "a-very-long-name")
    ),
    "hook '/opt/note': stage 'prestart' is not one of createRuntime, createContainer,"
    " startContainer, poststart, poststop": (
        lambda to: adjustments.add_hook(to, "prestart", "/opt/note")  # type: ignore[arg-type]  # the test's point
    ),
    "hook 'note' is not an absolute path": lambda to: adjustments.add_hook(to, "poststart", "note"),
    "hook '/opt/note': timeout is 0, and must be 1 to 2147483647": (
        lambda to: adjustments.add_hook(to, "poststart", "/opt/note", timeout=0)
    ),
    "variable '' must have a name ": lambda to: adjustments.add_hook(
        to, "poststart", "/opt/note", env={"": "x"}
    ),
    f"annotation '-a' {REMOVES}": lambda to: adjustments.set_annotation(to, "-a", ""),
    "annotation '' must have a name": lambda to: adjustments.remove_annotation(to, ""),
    f"sysctl '-net.x' {REMOVES}": lambda to: adjustments.set_sysctl(to, "-net.x", ""),
    "sysctl 'net..x' is not a name that a sysctl can have": lambda to: adjustments.set_sysctl(
        to, "net..x", ""
    ),
    "sysctl 'net.x': one line of text expected, not '1\\n2'": lambda to: adjustments.set_sysctl(
        to, "net.x", "1\n2"
    ),
    "namespace 'net' is not known; did you mean 'network'?": lambda to: adjustments.set_namespace(
        to, "net"
    ),
    "namespace 'ipc': path 'x' is not an absolute path": lambda to: adjustments.set_namespace(
        to, "ipc", "x"
    ),
    f"memory limit is 0, and must be 1 to {2**63 - 1}": lambda to: adjustments.set_memory_limit(
        to, 0
    ),
    "cpu shares is 1, and must be 2 to 262144": lambda to: adjustments.set_cpu_shares(to, 1),
    f"cpu quota is 2, and must be 1000 to {2**63 - 1}": lambda to: adjustments.set_cpu_quota(to, 2),
    "cpu period is 1, and must be 1000 to 1000000": lambda to: adjustments.set_cpu_quota(
        to, 1000, 1
    ),
    "cpus '3-1' is not a list of numbers such as 0-3,7": lambda to: adjustments.set_cpuset(
        to, "3-1"
    ),
    f"pids limit is -1, and must be 1 to {2**63 - 1}": lambda to: adjustments.set_pids_limit(
        to, -1
    ),
    "page size '2Mi' is not a size such as 2MB or 1GB": lambda to: adjustments.set_hugepage_limit(
        to, "2Mi", 0
    ),
    "cgroup file '../x.y' is not a name such as memory.high": lambda to: (
        adjustments.set_cgroup_value(to, "../x.y", "")
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_it_is_refused_and_changes_nothing(sentence: str) -> None:
    made = Adjustment()
    with pytest.raises(RequestError) as caught:
        REFUSED[sentence](made)
    assert str(caught.value) == sentence.rstrip()
    assert made == Adjustment()


TWICE: dict[str, tuple[Callable[[Adjustment], None], Callable[[Adjustment], None]]] = {
    "variable 'A' is added twice, with different values": (
        lambda to: adjustments.add_env(to, "A", "1"),
        lambda to: adjustments.add_env(to, "A", "2"),
    ),
    "mount '/b' is added twice, with different values": (
        lambda to: adjustments.add_mount(to, "/a", "/b"),
        lambda to: adjustments.add_mount(to, "/b", "/b"),
    ),
    "device '/dev/x' is added twice, with different values": (
        lambda to: adjustments.add_device(to, "/dev/x", "c", 1, 3),
        lambda to: adjustments.add_device(to, "/dev/x", "c", 1, 5),
    ),
    "network device 'eth1' is added twice, with different values": (
        lambda to: adjustments.add_net_device(to, "eth1"),
        lambda to: adjustments.add_net_device(to, "eth1", "net0"),
    ),
    "network device 'eth1' would be in the container twice": (
        lambda to: adjustments.add_net_device(to, "eth1"),
        lambda to: adjustments.add_net_device(to, "eth2", "eth1"),
    ),
}


@pytest.mark.parametrize("sentence", TWICE)
def test_a_second_value_is_refused_and_the_first_stays(sentence: str) -> None:
    first, second = TWICE[sentence]
    made, alone = Adjustment(), Adjustment()
    first(made)
    first(alone)
    with pytest.raises(RequestError) as caught:
        second(made)
    assert str(caught.value) == sentence
    assert made == alone


@pytest.mark.parametrize(
    "change",
    [
        lambda to: adjustments.set_args(to, "sh -c x"),
        lambda to: adjustments.add_mount(to, "/a", "/b", options="ro"),
        lambda to: adjustments.add_hook(to, "poststop", "/opt/note", "--start"),
    ],
)
def test_one_text_is_no_list_of_texts(change: Callable[[Adjustment], None]) -> None:
    with pytest.raises(TypeError, match="a list of texts expected, not the text '"):
        change(Adjustment())


def test_a_path_of_the_host_that_is_no_device_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("dev").mkdir()
    tmp_path.joinpath("dev/file").touch()
    devices = HostDevices(tmp_path)
    for path, why in {"/dev": "is a directory", "/dev/file": "is a regular file"}.items():
        with pytest.raises(RequestError, match=f"^device '{path}' {why}$"):
            adjustments.add_host_device(Adjustment(), path, devices=devices)


def test_a_device_that_others_can_redirect_is_refused() -> None:
    doubt = "/tmp can be written by everybody"
    node = DeviceNode("/tmp/x", "c", 1, 3, mode=0o666, uid=0, gid=0, doubt=doubt)
    with pytest.raises(RequestError, match=f"^others can redirect '/tmp/x': {doubt}$"):
        adjustments.add_host_device(Adjustment(), "/tmp/x", devices={"/tmp/x": node})


def test_without_devices_the_host_is_looked_at() -> None:
    made = Adjustment()
    adjustments.add_host_device(made, "/dev/null", "/dev/nothing")
    (device,) = made.linux.devices
    assert (device.path, device.type, device.major, device.minor) == ("/dev/nothing", "c", 1, 3)


def test_variables_of_a_container_are_a_dict_without_what_is_no_variable() -> None:
    container = Container(env=["A=1", "B=", "C", "A=x=y"])
    assert env_of(container) == {"A": "x=y", "B": ""}


@pytest.mark.parametrize("message", [api.Pod, api.Container, Adjustment, api.ContainerUpdate])
def test_help_of_a_message_names_its_fields(message: type) -> None:
    text = message.__doc__ or ""
    fields = message.DESCRIPTOR.fields  # type: ignore[attr-defined]  # of every message
    assert [field.name for field in fields if field.name not in text] == []


def test_help_of_an_adjustment_names_the_fields_for_linux() -> None:
    text = Adjustment.__doc__ or ""
    fields = api.LinuxContainerAdjustment.DESCRIPTOR.fields
    assert [field.name for field in fields if field.name not in text] == []

"""The device injector on real runtimes: what annotations ask for is there and usable."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import NewRuntime
from .creations import running
from .cri import CriError
from .daemon import Daemon
from .plugin import External, install
from .poll import until

COMMAND = "nri-device-injector"
DEVICES = "devices.noderesource.dev"
MAIN = f"{DEVICES}/container.main"

# Runtimes of Debian carry none of these, newer ones all: what to ask for, the field that lacks
# there, the NRI that has it, and where it then is in the OCI specification.
NEWER: dict[str, tuple[str, str, str, str, Any]] = {
    "sysctl.noderesource.dev": (
        *("kernel.shm_rmid_forced: '1'", "sysctl", "0.12.0"),
        *("linux.sysctl", {"kernel.shm_rmid_forced": "1"}),
    ),
    "scheduling-policy.noderesource.dev": (
        *("policy: SCHED_BATCH", "scheduler", "0.11.0"),
        *("process.scheduler", {"policy": "SCHED_BATCH"}),
    ),
    "io-priority.noderesource.dev": (
        *("class: IOPRIO_CLASS_IDLE", "io_priority", "0.10.0"),
        *("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
    ),
    "network-devices.noderesource.dev": (
        *("[{hostIf: lo9, name: eth9}]", "net_devices", "0.11.0"),
        *("linux.netDevices", {"lo9": {"name": "eth9"}}),
    ),
    "memory-policy.noderesource.dev": (
        *("mode: MPOL_LOCAL", "memory_policy", "0.12.0"),
        *("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": ""}),
    ),
}

StartPlugin = Callable[..., External]


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[StartPlugin]:
    """Start the injector beside the shared runtime; it is ended with SIGTERM."""
    with ExitStack() as plugins:

        def start_plugin(config: str = "policy: unrestricted\n") -> External:
            file = tmp_path / "config.yaml"
            file.write_text(config)
            log = tmp_path / "plugin.log"
            plugin = External(COMMAND, runtime, log, "--config", str(file))
            return plugins.enter_context(closing(plugin))

        yield start_plugin


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give a block device of the host, and the file that has its bytes."""
    backing = tmp_path / "disk"
    backing.write_bytes(b"from the host\n".ljust(1 << 20, b"\0"))
    device = _output("losetup", "--find", "--show", str(backing))
    try:
        yield device, backing
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def _stat(daemon: Daemon, container: str, path: str) -> str:
    """Return type, numbers, mode, uid and gid of a node in the container."""
    result = daemon.cri.exec(container, "stat", "-c", "%F %t:%T %a %u:%g", path)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def test_a_block_device_named_by_path_alone_can_be_read_and_written(
    runtime: Daemon, start: StartPlugin, loop_device: tuple[str, Path]
) -> None:
    start()
    device, backing = loop_device
    pod = runtime.cri.run_pod("block", annotations={MAIN: f"- path: {device}\n"})
    container = runtime.cri.run(pod, "main")

    assert _stat(runtime, container, device) == _output("stat", "-c", "%F %t:%T %a %u:%g", device)
    read = runtime.cri.exec(container, "head", "-c", "13", device)
    assert read.stdout == "from the host"
    write = f"printf 'from inside' | dd of={device} conv=notrunc,fsync"
    assert runtime.cri.exec(container, "sh", "-c", write).exit_code == 0
    _output("blockdev", "--flushbufs", device)
    assert backing.read_bytes().startswith(b"from inside")


def test_a_character_device_named_by_path_alone_can_be_opened(
    runtime: Daemon, start: StartPlugin
) -> None:
    start()
    pod = runtime.cri.run_pod("char", annotations={MAIN: "- path: /dev/fuse\n"})
    with_device = runtime.cri.run(pod, "main")
    without = runtime.cri.run(pod, "other")

    host = _output("stat", "-c", "%F %t:%T %a %u:%g", "/dev/fuse")
    assert _stat(runtime, with_device, "/dev/fuse") == host
    open_it = ("sh", "-c", "exec 3<>/dev/fuse")
    assert runtime.cri.exec(with_device, *open_it).exit_code == 0
    made = ("sh", "-c", "mknod /tmp-fuse c 10 229 && exec 3<>/tmp-fuse")
    refused = runtime.cri.exec(without, *made)
    assert refused.exit_code != 0
    assert "not permitted" in refused.stderr


def test_a_device_has_the_path_numbers_mode_and_owner_that_the_annotation_gives(
    runtime: Daemon, start: StartPlugin
) -> None:
    start()
    wish = "- {path: /dev/mine, type: c, major: 1, minor: 5, file_mode: 0640, uid: 1000, gid: 7}\n"
    zeros = "- {path: /dev/none, type: c, major: 1, minor: 5, file_mode: 0, uid: 0, gid: 0}\n"
    pod = runtime.cri.run_pod("numbers", annotations={f"{DEVICES}/pod": wish + zeros})
    container = runtime.cri.run(pod, "main", run_as_user=1000)

    assert _stat(runtime, container, "/dev/mine") == "character special file 1:5 640 1000:7"
    assert _stat(runtime, container, "/dev/none") == "character special file 1:5 0 0:0"
    read = runtime.cri.exec(container, "sh", "-c", "head -c 4 /dev/mine | od -An -tx1")
    assert read.stdout.split() == ["00"] * 4


def test_a_symbolic_link_of_the_host_is_followed(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    start()
    link = tmp_path / "by-name"
    link.symlink_to("/dev/fuse")
    pod = runtime.cri.run_pod("link", annotations={DEVICES: f"- path: {link}\n"})
    container = runtime.cri.run(pod, "main")
    host = _output("stat", "-c", "%F %t:%T %a %u:%g", "/dev/fuse")
    assert _stat(runtime, container, str(link)) == host


def test_a_mount_is_there_and_read_only(
    runtime: Daemon, start: StartPlugin, tmp_path: Path
) -> None:
    start()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("from the host\n")
    wish = f"- {{source: {tmp_path}/shared, destination: /in, type: bind, options: [rbind, ro]}}\n"
    pod = runtime.cri.run_pod("mount", annotations={"mounts.noderesource.dev": wish})
    container = runtime.cri.run(pod, "main")

    assert runtime.cri.exec(container, "cat", "/in/file").stdout == "from the host\n"
    write = runtime.cri.exec(container, "touch", "/in/other")
    assert "Read-only file system" in write.stderr


def test_limits_for_the_whole_pod_and_for_one_container(
    runtime: Daemon, start: StartPlugin
) -> None:
    start()
    annotations = {
        "ulimits.noderesource.dev/pod": "- {type: nofile, soft: 300, hard: 400}\n",
        "ulimits.noderesource.dev/container.main": "- {type: RLIMIT_NOFILE, soft: 30, hard: 40}\n",
    }
    pod = runtime.cri.run_pod("limits", annotations=annotations)
    for name, expected in (("main", "30 40"), ("other", "300 400")):
        container = runtime.cri.run(pod, name)
        limits = runtime.cri.exec(container, "sh", "-c", "cat /proc/1/limits | grep 'open files'")
        assert " ".join(limits.stdout.split()[3:5]) == expected


def _carries(daemon: Daemon, needed: str) -> bool:
    return daemon.kind.nri >= tuple(map(int, needed.split(".")))


def _part(spec: Any, place: str) -> Any:
    for key in place.split("."):
        spec = spec.get(key, {})
    return spec


@pytest.mark.parametrize("prefix", NEWER)
def test_what_a_runtime_carries_is_in_the_bundle_and_what_it_would_drop_fails_the_container(
    runtime: Daemon, start: StartPlugin, prefix: str
) -> None:
    start()
    value, field, needed, place, expected = NEWER[prefix]
    pod = runtime.cri.run_pod("new", annotations={f"{prefix}/container.main": value})
    if _carries(runtime, needed):
        container = runtime.cri.create(pod, "main")
        part = _part(runtime.cri.details(container)["runtimeSpec"], place)
        assert {**part, **expected} == part
        return
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "main")
    message = caught.value.message
    assert f"pod default/new, container main: annotation {prefix}/container.main: " in message
    assert f"does not apply {field}: needs NRI {needed}, first in " in message


def test_a_sysctl_is_set_where_the_runtime_carries_it_and_else_the_admin_may_have_a_warning(
    runtime: Daemon, start: StartPlugin
) -> None:
    plugin = start("on_unsupported: warn\npolicy: unrestricted\n")
    prefix = "sysctl.noderesource.dev"
    value, field, needed, *_ = NEWER[prefix]
    pod = runtime.cri.run_pod("new", annotations={prefix: value, DEVICES: "- path: /dev/fuse\n"})
    container = runtime.cri.run(pod, "main")
    assert _stat(runtime, container, "/dev/fuse").startswith("character special file a:e5")
    carried = _carries(runtime, needed)
    shown = runtime.cri.exec(container, "cat", "/proc/sys/kernel/shm_rmid_forced")
    assert shown.stdout == ("1\n" if carried else "0\n")
    told = f"does not apply {field}: needs NRI {needed}" in plugin.log
    assert told is not carried


@pytest.mark.parametrize(("access", "reads", "writes"), [("r", 0, 1), ("w", 1, 0), ("rw", 0, 0)])
def test_the_kernel_allows_what_access_says_where_the_runtime_carries_device_rules(
    runtime: Daemon, start: StartPlugin, access: str, reads: int, writes: int
) -> None:
    start()
    wish = f"- {{path: /dev/fuse, access: {access}}}\n"
    pod = runtime.cri.run_pod("access", annotations={MAIN: wish})
    if access != "rw" and not _carries(runtime, "0.10.0"):
        with pytest.raises(CriError) as caught:
            runtime.cri.create(pod, "main")
        assert "does not apply device rules: needs NRI 0.10.0" in caught.value.message
        return
    container = runtime.cri.run(pod, "main")
    for direction, status in (("<", reads), (">", writes)):
        opened = runtime.cri.exec(container, "sh", "-c", f"exec 3{direction}/dev/fuse")
        assert opened.exit_code == status
        assert ("Operation not permitted" in opened.stderr) is bool(status)


def test_a_bad_annotation_fails_its_own_container_and_no_other(
    runtime: Daemon, start: StartPlugin
) -> None:
    start()
    annotations = {
        f"{DEVICES}/container.bad": "- {path: /dev/no-such, major: ten}\n- null\n",
        f"{DEVICES}/container.good": "- path: /dev/fuse\n",
    }
    pod = runtime.cri.run_pod("mixed", annotations=annotations)
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "bad")
    assert caught.value.message == (
        f"{runtime.refusal}pod default/mixed, container bad: "
        f"annotation {DEVICES}/container.bad: item 1: major: 'ten' is not an integer; "
        f"annotation {DEVICES}/container.bad: item 2: null where a path,"
        " a selector or a map with device, path, as, access, file_mode, owner, uid, gid, optional,"
        " on_change, count, links, type, major, minor is expected"
    )
    container = runtime.cri.run(pod, "good")
    assert _stat(runtime, container, "/dev/fuse").startswith("character special file a:e5")


def test_a_missing_device_is_named(runtime: Daemon, start: StartPlugin) -> None:
    start()
    pod = runtime.cri.run_pod("missing", annotations={DEVICES: "- path: /dev/no-such\n"})
    with pytest.raises(CriError, match="'/dev/no-such' does not exist on the host"):
        runtime.cri.create(pod, "main")


def test_injection_goes_on_after_a_restart_of_the_runtime(
    runtime: Daemon, start: StartPlugin
) -> None:
    plugin = start()
    runtime.restart()
    plugin.wait_synchronized(2)
    pod = runtime.cri.run_pod("after", annotations={DEVICES: "- path: /dev/fuse\n"})
    container = runtime.cri.run(pod, "main")
    assert _stat(runtime, container, "/dev/fuse").startswith("character special file a:e5")
    assert "lost the connection" in plugin.log


def test_the_runtime_goes_on_when_the_plugin_is_killed(runtime: Daemon, start: StartPlugin) -> None:
    start().kill()
    pod = runtime.cri.run_pod("alone", annotations={DEVICES: "- path: /dev/fuse\n"})
    container = runtime.cri.run(pod, "main")
    assert runtime.cri.exec(container, "ls", "/dev/fuse").exit_code != 0


def test_preinstalled_and_configured_by_a_drop_in_file(new_runtime: NewRuntime) -> None:
    daemon = new_runtime()
    config = "policy: unrestricted\non_unsupported: warn\n"
    install(COMMAND, daemon, "10-device-injector", config)
    daemon.start()
    annotations = {
        DEVICES: "- path: /dev/fuse\n",
        "sysctl.noderesource.dev": "kernel.shm_rmid_forced: 1",
        f"{DEVICES}/container.bad": "- {}",
    }
    pod = daemon.cri.run_pod("launched", annotations=annotations)
    with pytest.raises(CriError, match="pod default/launched, container bad: annotation"):
        daemon.cri.create(pod, "bad")
    container = daemon.cri.run(pod, "main")
    assert _stat(daemon, container, "/dev/fuse").startswith("character special file a:e5")
    assert daemon.cri.exec(container, "sh", "-c", "exec 3<>/dev/fuse").exit_code == 0


def test_preinstalled_ends_with_the_runtime(new_runtime: NewRuntime) -> None:
    daemon = new_runtime()
    install(COMMAND, daemon, "10-device-injector")
    daemon.start()
    program = str(daemon.plugin_dir / "10-device-injector")
    assert len(running(program)) == 2  # the parent and its worker
    daemon.kill()
    until(lambda: not running(program), f"the end of {program}")

"""Devices by what they are, on real kernels and runtimes: events, selectors, generated specs."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.machine import usual, write

from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.source import HostInventory
from nri_inject.host.devices.uevents import Uevents

from .cri import CriError
from .daemon import Daemon
from .plugin import BIN, External
from .poll import until

MAIN = "devices.noderesource.dev/container.main"
CDI = "cdi-devices.noderesource.dev"

# <linux/loop.h>
LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81
FUSE_UEVENT = Path("/sys/devices/virtual/misc/fuse/uevent")


# --- the kernel ---------------------------------------------------------------------------------


class Loops:
    """Loop devices of the test's own, by number; the kernel tells of each."""

    def __init__(self) -> None:
        self._control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        self.numbers: set[int] = set()

    def add(self) -> int:
        for number in range(200, 300):
            with suppress(FileExistsError):
                fcntl.ioctl(self._control, LOOP_CTL_ADD, number)
                self.numbers.add(number)
                return number
        raise AssertionError("no free loop device")

    def remove(self, number: int) -> None:
        fcntl.ioctl(self._control, LOOP_CTL_REMOVE, number)
        self.numbers.discard(number)

    def close(self) -> None:
        for number in list(self.numbers):
            self.remove(number)
        os.close(self._control)


@pytest.fixture
def loops() -> Iterator[Loops]:
    if os.geteuid() != 0:
        pytest.skip("making devices needs root")
    with closing(Loops()) as loops:
        yield loops


def paths(found: Inventory) -> set[str]:
    return {device.path for device in found}


def test_a_device_that_comes_and_goes_is_known_at_once(loops: Loops) -> None:
    with closing(HostInventory()) as source:
        # A request looks once, so each look here is a request of its own.
        before = source.current()()
        number = loops.add()
        path = f"/dev/loop{number}"
        assert path not in paths(before)
        assert path in paths(source.current()())
        loops.remove(number)
        assert path not in paths(source.current()())


def test_messages_that_the_kernel_lost_are_made_up_for(loops: Loops) -> None:
    def deaf() -> Uevents:
        connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.bind((0, 1))
        return Uevents(connection)

    with closing(HostInventory(listen=deaf)) as source:
        source.current()()
        for _ in range(100):
            FUSE_UEVENT.write_text("change")
        number = loops.add()
        assert f"/dev/loop{number}" in paths(source.current()())
        loops.remove(number)
        assert f"/dev/loop{number}" not in paths(source.current()())


def test_generated_specs_follow_the_hardware(loops: Loops, tmp_path: Path) -> None:
    file = tmp_path / "nri-inject-block.yaml"
    argv = [BIN / "nri-inject", "cdi", "generate", "--watch", "--class=block", "--output", tmp_path]
    with subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE) as process:
        until(file.exists, "the first spec")
        number = loops.add()
        until(lambda: f"/dev/loop{number}\n" in file.read_text(), "the new device in the spec")
        loops.remove(number)
        until(lambda: f"/dev/loop{number}\n" not in file.read_text(), "the spec without it")
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        process.terminate()
        assert (said, process.stdout.read()) == ([f"wrote {file}\n".encode()] * 3, b"")
        assert process.wait(10) == 0


def test_the_feature_file_follows_the_hardware(tmp_path: Path) -> None:
    root, output = tmp_path / "host", tmp_path / "features.d"
    fuse = next(fake for fake in usual() if fake.node == "fuse")
    write(root, [fake for fake in usual() if fake != fuse])
    words = ["devices", "features", "--watch", "--root", str(root), "--output", str(output)]
    with subprocess.Popen([str(BIN / "nri-inject"), *words], stdout=subprocess.PIPE) as process:
        file = output / "nri-inject"
        until(file.exists, "the first labels")
        assert "class.fuse=true" not in file.read_text()
        write(root, [fuse])
        FUSE_UEVENT.write_text("change")
        until(lambda: "class.fuse=true\n" in file.read_text(), "the label of the new device")
        assert [path.name for path in output.iterdir()] == ["nri-inject"]
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        assert (said, process.stdout.read()) == ([f"wrote {file}\n".encode()] * 2, b"")
        assert process.wait(10) == 0


# --- the device injector ------------------------------------------------------------------------


@pytest.fixture
def plugin(runtime: Daemon, tmp_path: Path) -> Iterator[External]:
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    log = tmp_path / "plugin.log"
    started = External("nri-device-injector", runtime, log, "--config", str(config))
    with closing(started):
        yield started


def attach(loops: Loops, tmp_path: Path, sectors: int) -> str:
    """Make a disk of so many sectors, and return its node."""
    backing = tmp_path / "disk"
    backing.write_bytes(b"from the host\n".ljust(sectors * 512, b"\0"))
    device = f"/dev/loop{loops.add()}"
    subprocess.run(("losetup", device, backing), check=True)
    return device


def refusal(runtime: Daemon, pod: str) -> str:
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "main")
    return str(caught.value.message)


def shell(runtime: Daemon, container: str, script: str) -> tuple[int, str]:
    result = runtime.cri.exec(container, "sh", "-c", script)
    return result.exit_code, result.stdout


def test_a_selector_gives_the_device_under_its_alias_to_a_user_who_is_not_root(
    runtime: Daemon, plugin: External, loops: Loops, tmp_path: Path
) -> None:
    """The plugin runs before there is such a device, and learns of it from the kernel."""
    wish = "- {device: 'class:block,ATTR{size}=2053', as: /dev/archive, uid: 1000, gid: 1000}\n"
    pod = runtime.cri.run_pod("selected", annotations={MAIN: wish})
    assert "'class:block,ATTR{size}=2053' matches no device" in refusal(runtime, pod)

    device = attach(loops, tmp_path, 2053)
    container = runtime.cri.run(pod, "main", run_as_user=1000)
    try:
        read = "id -u; head -c 13 /dev/archive; stat -c ' %F %u:%g' /dev/archive"
        expected = "1000\nfrom the host block special file 1000:1000\n"
        assert shell(runtime, container, read) == (0, expected)
        assert shell(runtime, container, f"test -e {device}")[0] == 1
        write = "printf 'from inside' | dd of=/dev/archive conv=notrunc,fsync"
        assert shell(runtime, container, write)[0] == 0
        assert Path(device).read_bytes().startswith(b"from inside")
    finally:
        runtime.cri.remove_all()
        subprocess.run(("losetup", "--detach", device), check=True)
    assert "injected 1 devices" in plugin.log


@pytest.mark.usefixtures("plugin")
def test_several_devices_have_a_place_each(runtime: Daemon) -> None:
    wish = "- {device: 'usb:ffff:ffff', optional: true}\n"
    wish += "- {device: '/dev/[fz]u[sl]*', count: all, as: '/dev/all/{index}-{name}'}\n"
    pod = runtime.cri.run_pod("several", annotations={MAIN: wish})
    container = runtime.cri.run(pod, "main")
    assert shell(runtime, container, "ls /dev/all") == (0, "0-full\n1-fuse\n")
    assert shell(runtime, container, "exec 3<>/dev/all/1-fuse")[0] == 0


@pytest.mark.usefixtures("plugin")
def test_more_devices_than_wanted_are_listed(runtime: Daemon) -> None:
    pod = runtime.cri.run_pod("many", annotations={MAIN: "- class:block,KERNEL=loop[01]\n"})
    assert (
        "'class:block,KERNEL=loop[01]' matches 2 devices, 1 requested;"
        " use one of these, or `count`: /dev/loop0; /dev/loop1"
    ) in refusal(runtime, pod)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("user", [0, 1000])
def test_a_device_belongs_to_the_containers_user_where_the_runtime_tells_who_that_is(
    runtime: Daemon, user: int
) -> None:
    wish = "- {device: 'class:fuse', owner: container, file_mode: 0600}\n"
    pod = runtime.cri.run_pod("owner", annotations={MAIN: wish})
    kind = runtime.kind
    if kind.nri < (0, 11, 0) or (kind.name == "containerd" and kind.nri < (0, 12, 0)):
        assert f"owner: {kind.name} " in refusal(runtime, pod)
        assert "set uid and gid instead" in refusal(runtime, pod)
        return
    container = runtime.cri.run(pod, "main", run_as_user=user)
    shown = shell(runtime, container, "id -u; stat -c '%u:%g %a' /dev/fuse; exec 3<>/dev/fuse")
    assert shown == (0, f"{user}\n{user}:{user} 600\n")


# --- generated specs ----------------------------------------------------------------------------


def generate(directory: Path) -> str:
    argv = (BIN / "nri-inject", "cdi", "generate", "--class", "fuse", "--class", "tun")
    done = subprocess.run(
        (*argv, "--output", directory), check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_generated_spec_gives_the_device(runtime: Daemon, tmp_path: Path) -> None:
    directory = tmp_path / "cdi"
    assert generate(directory).count("wrote ") == 2
    first = {file: file.read_bytes() for file in directory.iterdir()}
    assert generate(directory).count("unchanged ") == 2
    assert first == {file: file.read_bytes() for file in directory.iterdir()}
    subprocess.run((BIN / "nri-inject", "cdi", "validate", *first), check=True)

    log = tmp_path / "plugin.log"
    config = tmp_path / "config.yaml"
    config.write_text("policy: unrestricted\n")
    options = ("--config", str(config), "--cdi-dir", str(directory))
    with closing(External("nri-cdi-injector", runtime, log, *options)):
        wish = "[node.local/fuse=fuse, node.local/tun=all]"
        pod = runtime.cri.run_pod("generated", annotations={CDI: wish})
        container = runtime.cri.run(pod, "main")
        opened = "exec 3<>/dev/fuse && test -c /dev/net/tun"
        assert shell(runtime, container, opened)[0] == 0

"""An inventory that is kept current by messages; here they come from the test."""

from __future__ import annotations

import errno
import logging
import select
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.machine import HUB, Fake, machine, sticks, write

from nri_inject.host.devices.inventory import Inventory, read
from nri_inject.host.devices.live import Live
from nri_inject.host.devices.selectors import parse
from nri_inject.host.devices.source import HostInventory
from nri_inject.host.devices.sysfs import Sysfs
from nri_inject.host.devices.uevents import Uevent, Uevents
from nri_inject.host.watch import FileWatch

pytestmark = pytest.mark.slow


class Kernel:
    """A host of plain files whose kernel tells of what the test does to it."""

    def __init__(self, root: Path) -> None:
        self.root = write(root, machine())
        ours, self._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.source = HostInventory(str(root), lambda: Uevents(ours))
        self._ours = ours

    def tell(self, fake: Fake) -> None:
        major, _, minor = fake.number.partition(":")
        number = f"MAJOR={major}\0MINOR={minor}\0" if fake.number else ""
        message = f"x@x\0DEVPATH={fake.syspath}\0SUBSYSTEM={fake.subsystem}\0{number}"
        self._socket.send(message.encode())

    def unplug(self, fakes: list[Fake]) -> None:
        for fake in reversed(fakes):
            shutil.rmtree(self.root / "sys" / fake.syspath[1:], ignore_errors=True)
            if fake.number:
                (self.root / "sys/dev/char" / fake.number).unlink()
                for path in (fake.node, *fake.links):
                    (self.root / "dev" / path).unlink()
            self.tell(fake)

    def plug(self, fakes: list[Fake]) -> None:
        write(self.root, fakes)
        for fake in fakes:
            self.tell(fake)

    def close(self) -> None:
        self.source.close()
        self._socket.close()
        self._ours.close()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with closing(Kernel(tmp_path)) as kernel:
        yield kernel


def look(source: HostInventory) -> Inventory:
    return source.current()()


def selected(text: str, source: HostInventory) -> list[str]:
    return [device.path for device in parse(text).select(look(source))]


def test_the_inventory_is_that_of_a_single_look(kernel: Kernel) -> None:
    assert look(kernel.source) == read(str(kernel.root))


def test_nothing_is_looked_at_before_somebody_asks(kernel: Kernel) -> None:
    current = kernel.source.current()
    kernel.unplug(sticks())
    kernel.source.ready()
    assert "/dev/ttyUSB0" not in {device.path for device in current()}


def test_without_news_it_is_the_same_value(kernel: Kernel) -> None:
    before = look(kernel.source)
    kernel.source.ready()
    assert look(kernel.source) is before


def test_replugged_in_another_order_the_same_selector_gives_the_right_stick(kernel: Kernel) -> None:
    by_serial, by_port = "usb:0403:6001:A50285BI", "usb:1a86:7523,KERNELS=1-1.2"
    assert selected(by_serial, kernel.source) == ["/dev/ttyUSB2"]
    assert selected(by_port, kernel.source) == ["/dev/ttyUSB1"]
    kernel.unplug(sticks())
    assert selected(by_serial, kernel.source) == []
    kernel.plug(sticks(2, 0, 1))
    assert selected(by_serial, kernel.source) == ["/dev/ttyUSB1"]
    assert selected(by_port, kernel.source) == ["/dev/ttyUSB0"]
    assert look(kernel.source) == read(str(kernel.root))


def test_a_snapshot_does_not_change(kernel: Kernel) -> None:
    before = look(kernel.source)
    paths = [device.paths for device in before]
    kernel.unplug(sticks())
    look(kernel.source)
    assert [device.paths for device in before] == paths


def test_news_of_a_parent_are_news_of_what_is_below(kernel: Kernel) -> None:
    assert selected("usb:0403:6001:NEW", kernel.source) == []
    (kernel.root / "sys" / HUB[1:] / "1-1.3/serial").write_text("NEW\n")
    assert selected("usb:0403:6001:NEW", kernel.source) == []
    kernel.tell(Fake(f"{HUB}/1-1.3", "usb"))
    assert selected("usb:0403:6001:NEW", kernel.source) == ["/dev/ttyUSB2"]


def test_a_link_counts_at_once_though_the_kernel_knows_none(kernel: Kernel) -> None:
    assert selected("/dev/zigbee", kernel.source) == []
    (kernel.root / "dev/zigbee").symlink_to("ttyUSB1")
    assert selected("/dev/zigbee", kernel.source) == ["/dev/ttyUSB1"]
    (kernel.root / "dev/zigbee").unlink()
    assert selected("/dev/zigbee", kernel.source) == []


def test_the_descriptor_can_be_read_until_the_news_are_taken(kernel: Kernel) -> None:
    readable = kernel.source.fileno()
    look(kernel.source)
    assert select.select([readable], [], [], 0)[0] == []
    kernel.unplug(sticks())
    assert select.select([readable], [], [], 0)[0] == [readable]
    kernel.source.ready()
    assert select.select([readable], [], [], 0)[0] == []
    assert kernel.source.fileno() == readable


class _Losing(Uevents):
    """Events that overflow: the socket says so once, and goes on."""

    def take(self) -> None:
        super().take()


def test_after_a_loss_everything_is_looked_at(tmp_path: Path) -> None:
    root = write(tmp_path, machine())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, closing(HostInventory(str(root), lambda: _Losing(ours))) as source:
        assert selected("class:fuse", source) == ["/dev/fuse"]
        (root / "sys/dev/char/10:229").unlink()
        assert selected("class:fuse", source) == []
        assert look(source) == read(str(root))


def test_without_netlink_each_look_is_at_everything_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> Uevents:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    root = write(tmp_path, machine())
    with caplog.at_level(logging.WARNING), closing(HostInventory(str(root), none)) as source:
        assert selected("class:fuse", source) == ["/dev/fuse"]
        (root / "sys/dev/char/10:229").unlink()
        assert selected("class:fuse", source) == []
        assert select.select([source.fileno()], [], [], 0)[0] == []
    assert caplog.messages == [
        "no kernel events (Protocol not supported): each request reads all devices"
    ]


def test_properties_are_asked_for_anew_when_udevs_database_changes(tmp_path: Path) -> None:
    """Udev's own messages are not heard in another network namespace."""
    root = write(tmp_path / "host", machine())
    database = tmp_path / "data"
    database.mkdir()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    events, watch = Uevents(ours), FileWatch([str(database)])
    live = Live(str(root), Sysfs(str(root)), events, watch)

    def model() -> str | None:
        live.refresh()
        device = live.inventory().of_path("/dev/fuse")
        assert device is not None
        return device.properties().get("ID_MODEL")

    with theirs, closing(live):
        assert model() is None
        with (root / "sys/devices/virtual/misc/fuse/uevent").open("a") as file:
            file.write("ID_MODEL=new\n")
        assert model() is None
        (database / "c10:229").touch()
        assert [*live.descriptors()] == [events.fileno(), watch.fileno()]
        assert model() == "new"


def test_many_news_are_one_look_at_everything(kernel: Kernel) -> None:
    look(kernel.source)

    class Crowd(Uevents):
        """More messages than a test's socket holds."""

        def take(self) -> list[Uevent] | None:
            return [Uevent("/devices/virtual/misc/fuse")] * 101

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, closing(HostInventory(str(kernel.root), lambda: Crowd(ours))) as source:
        look(source)
        (kernel.root / "sys/dev/char/10:229").unlink()
        assert selected("class:fuse", source) == []


def test_closed_twice_gives_the_descriptors_back_once(kernel: Kernel) -> None:
    look(kernel.source)
    kernel.source.close()
    kernel.source.close()


def test_the_real_host_can_be_asked() -> None:
    with closing(HostInventory()) as source:
        assert look(source) == read()


def test_a_request_looks_once_and_the_next_one_again(kernel: Kernel) -> None:
    current = kernel.source.current()
    first = current()
    kernel.unplug(sticks())
    assert current() is first
    assert kernel.source.current()() is not first

"""Looking at the devices of a host, here of one whose /sys and /dev are plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.machine import HUB, PCI, USB, Fake, machine, sticks, write

from nri_inject.host.devices import inventory
from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory, Tree, assemble
from nri_inject.host.devices.selectors import parse
from nri_inject.host.devices.sysfs import Attributes, Sysfs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("host"), machine())


@pytest.fixture(scope="module")
def found(root: Path) -> Inventory:
    return inventory.read(str(root))


def selected(text: str, devices: Inventory) -> list[str]:
    return [device.path for device in parse(text).select(devices)]


def test_a_device_has_its_numbers_subsystem_and_stable_names(found: Inventory) -> None:
    stick = found.of_path("/dev/serial/by-id/usb-0403_A50285BI-if00-port0")
    assert stick == Device(
        path="/dev/ttyUSB2",
        type="c",
        major=188,
        minor=2,
        subsystem="tty",
        syspath=f"{HUB}/1-1.3/1-1.3:1.0/ttyUSB2/tty/ttyUSB2",
        links=(
            "/dev/serial/by-id/usb-0403_A50285BI-if00-port0",
            "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.3:1.0-port0",
        ),
    )
    assert [part.name for part in stick.chain()] == [
        *("ttyUSB2", "ttyUSB2", "1-1.3:1.0", "1-1.3", "1-1", "usb1", "0000:00:14.0"),
    ]
    assert [part.driver for part in stick.chain()][:3] == ["", "ch341-uart", "ch341"]


def test_the_ids_of_usb_are_known_without_udev(found: Inventory) -> None:
    stick = found.of_path("/dev/ttyUSB2")
    assert stick is not None
    properties = stick.properties()
    assert {key: value for key, value in properties.items() if key.startswith("ID_")} == {
        "ID_BUS": "usb",
        "ID_VENDOR_ID": "0403",
        "ID_MODEL_ID": "6001",
        "ID_REVISION": "0264",
        "ID_SERIAL_SHORT": "A50285BI",
        "ID_USB_INTERFACE_NUM": "00",
    }
    assert properties["DEVNAME"] == "/dev/ttyUSB2"
    assert stick.tags == []


MEANT = {
    "usb:1a86:7523": ["/dev/ttyUSB0", "/dev/ttyUSB1"],
    "usb:1a86:7523,KERNELS=1-1.2": ["/dev/ttyUSB1"],
    "usb:0403:6001:A50285BI": ["/dev/ttyUSB2"],
    "usb:046d:0825": [
        *("/dev/input/event7", "/dev/media0"),
        *("/dev/snd/controlC1", "/dev/snd/pcmC1D0c", "/dev/video0", "/dev/video1"),
    ],
    "usb:046d:0825:C0FFEE42:02": ["/dev/snd/controlC1", "/dev/snd/pcmC1D0c"],
    "usb:046d:0825,CLASS=video,ATTR{index}=0": ["/dev/video0"],
    "usb:046d:0825,CLASS=usb": ["/dev/bus/usb/001/004"],
    "usb:05e3:0608": [],
    "udev:ID_SERIAL_SHORT=A50285BI,SUBSYSTEM=tty": ["/dev/ttyUSB2"],
    "udev:SUBSYSTEM=tty,ATTRS{idVendor}=0403": ["/dev/ttyUSB2"],
    "/dev/serial/by-path/*1.2*": ["/dev/ttyUSB1"],
    "/dev/disk/by-id/nvme-SAMPLE_DISK_S1": ["/dev/nvme0n1"],
    "class:serial": ["/dev/ttyS0", "/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyUSB2"],
    "class:tty-usb": ["/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyUSB2"],
    "class:video": ["/dev/video0", "/dev/video1"],
    "class:input": ["/dev/input/event7"],
    "class:sound": ["/dev/snd/controlC1", "/dev/snd/pcmC1D0c"],
    "class:render": ["/dev/dri/renderD128"],
    "class:dri": ["/dev/dri/card0", "/dev/dri/renderD128"],
    "class:kvm": ["/dev/kvm"],
    "class:fuse": ["/dev/fuse"],
    "class:tun": ["/dev/net/tun"],
    "class:tpm": ["/dev/tpmrm0"],
    "class:infiniband": ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs0"],
    "class:block": ["/dev/nvme0n1", "/dev/nvme0n1p1"],
    "class:block,KERNEL=nvme0n1": ["/dev/nvme0n1"],
    "class:usb": [f"/dev/bus/usb/001/{n:03}" for n in (1, 2, 4, 11, 12, 13)],
    "class:hidraw": [],
    "class:uinput": [],
    "class:gpio": [],
    "class:i2c": [],
    "class:spi": [],
}


@pytest.mark.parametrize("text", MEANT)
def test_a_selector_means_these_devices_of_the_machine(text: str, found: Inventory) -> None:
    assert selected(text, found) == MEANT[text]


def test_no_class_is_forgotten() -> None:
    assert {f"class:{name}" for name in CLASSES} <= MEANT.keys()


def test_no_node_of_block_devices_is_in_another_class(found: Inventory) -> None:
    kinds = [kind for name, kind in CLASSES.items() if name != "block"]
    blocks = [device for device in found if device.type == "b"]
    assert len(blocks) == 2
    assert not [d for d in blocks for kind in kinds if kind.holds(d)]


@pytest.mark.slow
def test_replugged_in_another_order_the_selector_means_the_same_stick(tmp_path: Path) -> None:
    """The kernel counts anew, but serial number and port stay."""
    orders = [(0, 1, 2), (2, 0, 1), (1, 2, 0)]
    for order in orders:
        host = write(tmp_path / str(order), machine(sticks(*order)))
        found = inventory.read(str(host))
        first, second, third = (f"/dev/ttyUSB{number}" for number in order)
        assert selected("usb:0403:6001:A50285BI", found) == [third]
        assert selected("usb:1a86:7523,KERNELS=1-1.1", found) == [first]
        assert selected("usb:1a86:7523,KERNELS=1-1.2", found) == [second]
        by_path = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.2:1.0-port0"
        assert selected(by_path, found) == [second]


def test_which_device_a_number_is(root: Path, found: Inventory) -> None:
    stick = inventory.of_number("c", 188, 1, str(root))
    assert stick == found.of_path("/dev/ttyUSB1") == found.of_number("c", 188, 1)
    assert stick is not None
    assert stick.links == ("/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.2:1.0-port0",)
    disk = inventory.of_number("b", 259, 0, str(root))
    assert disk is not None
    assert (disk.path, disk.devtype) == ("/dev/nvme0n1", "disk")
    assert inventory.of_number("b", 188, 1, str(root)) is None
    assert inventory.of_number("c", 99, 0, str(root)) is None
    assert found.of_number("c", 99, 0) is None


def test_a_host_without_sys_has_no_devices(tmp_path: Path) -> None:
    assert inventory.read(str(tmp_path)) == Inventory()


# --- links and other nodes ----------------------------------------------------------------------


def test_links_to_links_and_a_second_node_are_paths_of_the_device() -> None:
    stick = Device("/dev/ttyUSB0", "c", 188, 0, syspath="/devices/x")
    links = {
        "/dev/b": "/dev/a",
        "/dev/a": "/dev/ttyUSB0",
        "/dev/loop": "/dev/loop",
        "/dev/gone": "/dev/none",
    }
    nodes = {"/dev/ttyUSB0": stick.number, "/dev/mine": stick.number, "/dev/bare": ("b", 7, 9)}
    found = assemble([stick], Tree(links, {**nodes, "/dev/ttyUSB0": ("c", 188, 0)}))
    assert [device.path for device in found] == ["/dev/bare", "/dev/ttyUSB0"]
    assert found.devices[1].links == ("/dev/a", "/dev/b", "/dev/mine")
    assert found.devices[0] == Device("/dev/bare", "b", 7, 9)
    assert found.of_path("/dev/b") == found.devices[1]


def test_the_order_of_the_directory_does_not_matter() -> None:
    one, two = (Device(f"/dev/x{n}", "c", 1, n) for n in (2, 10))
    links = {"/dev/l10": "/dev/x2", "/dev/l9": "/dev/x2"}
    backwards = dict(reversed(links.items()))
    assert assemble([one, two], Tree(links, {})) == assemble([two, one], Tree(backwards, {}))
    assert assemble([two, one], Tree(links, {})).devices[0].links == ("/dev/l9", "/dev/l10")


def test_links_that_are_absolute_stay_inside_of_the_root(tmp_path: Path) -> None:
    write(tmp_path, machine())
    (tmp_path / "dev/zigbee").symlink_to("/dev/ttyUSB1")
    (tmp_path / "dev/up").symlink_to("../../../../dev/ttyUSB1")
    found = inventory.read(str(tmp_path)).of_path("/dev/ttyUSB1")
    assert found is not None
    assert {"/dev/zigbee", "/dev/up"} <= {*found.links}


def test_a_directory_of_dev_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path, machine())
    (tmp_path / "dev/again").symlink_to(".")
    assert inventory.walk(str(tmp_path)).links["/dev/again"] == "/dev"


# --- sysfs --------------------------------------------------------------------------------------


@pytest.fixture
def attributes(tmp_path: Path) -> Attributes:
    (tmp_path / "serial").write_text("A50285BI \n")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o400)
    (tmp_path / "link").symlink_to("serial")
    (tmp_path / "power").mkdir()
    (tmp_path / "long").write_text("x" * 5000)
    (tmp_path / "raw").write_bytes(b"\xff\n")
    os.mkfifo(tmp_path / "fifo")
    return Attributes(str(tmp_path))


def test_attributes_are_what_everybody_may_read(attributes: Attributes) -> None:
    assert dict(attributes) == {"serial": "A50285BI", "long": "x" * 4096, "raw": "\ufffd"}
    assert len(attributes) == 3
    for name in ("secret", "link", "power", "fifo", "none", "", ".", "..", "../serial", "a\0b"):
        assert name not in attributes


@pytest.mark.parametrize(
    "fake",
    [
        Fake(f"{PCI}/x", "tty", "../../etc/shadow", "1:1"),
        Fake(f"{PCI}/x", "tty", "/etc/shadow", "1:1"),
        Fake(f"{PCI}/x", "tty", "", "1:1"),
    ],
    ids=["climbs", "absolute", "none"],
)
def test_a_device_without_a_node_of_dev_is_none(tmp_path: Path, fake: Fake) -> None:
    directory = tmp_path / "sys" / fake.syspath[1:]
    directory.mkdir(parents=True)
    (directory / "uevent").write_text(f"MAJOR=1\nMINOR=1\nDEVNAME={fake.node}\nodd line\n")
    (tmp_path / "sys/dev/char").mkdir(parents=True)
    (tmp_path / "sys/dev/char/1:1").symlink_to(f"../..{fake.syspath}")
    assert inventory.of_number("c", 1, 1, str(tmp_path)) is None


def test_a_link_of_sysfs_that_leads_elsewhere_is_none(tmp_path: Path) -> None:
    directory = tmp_path / "sys/dev/char"
    directory.mkdir(parents=True)
    (directory / "1:1").symlink_to("../../devices/../../../etc")
    (directory / "1:2").symlink_to("/etc")
    (directory / "odd").symlink_to("/etc")
    assert sorted(Sysfs(str(tmp_path)).numbers()) == [("c", 1, 1), ("c", 1, 2)]
    assert inventory.read(str(tmp_path)) == Inventory()


def test_a_part_that_is_forgotten_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, machine())
    sysfs = Sysfs(str(tmp_path))

    def driver_and_id() -> tuple[str, str]:
        device = sysfs.device(("c", 188, 0))
        assert device is not None
        interface, stick = device.usb_interface(), device.usb_device()
        assert interface is not None
        assert stick is not None
        return interface.driver, stick.attributes["idVendor"]

    assert driver_and_id() == ("ch341", "1a86")
    (tmp_path / "sys" / HUB[1:] / "1-1.1/idVendor").write_text("ffff\n")
    assert driver_and_id() == ("ch341", "1a86")
    sysfs.forget(f"{USB}/1-1")
    assert driver_and_id() == ("ch341", "ffff")

"""A machine's devices, as values: written below a root of plain files, or for umockdev.

Two serial adapters of one kind that have no serial number, and one that has, behind a hub; a
webcam with several nodes; a GPU; an NVMe disk; RDMA; and what every host has. Nobody's serial
numbers are in here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

PCI = "/devices/pci0000:00"
USB = f"{PCI}/0000:00:14.0/usb1"
HUB = f"{USB}/1-1"


@dataclass(frozen=True)
class Fake:
    """A device; one without `number` has no node. `properties` are those that udev would add."""

    syspath: str
    subsystem: str
    node: str = ""
    number: str = ""
    devtype: str = ""
    driver: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


HUBS = (USB, HUB)


def usb_device(place: str, number: int, vendor: str, product: str, serial: str = "") -> Fake:
    ids = {"idVendor": vendor, "idProduct": product, "bcdDevice": "0264"}
    ids["bDeviceClass"] = "09" if place in HUBS else "00"
    return Fake(
        place,
        "usb",
        f"bus/usb/001/{number:03}",
        f"189:{number - 1}",
        "usb_device",
        "usb",
        {**ids, **({"serial": serial} if serial else {})},
        {"ID_VENDOR_ID": vendor, "ID_MODEL_ID": product},
    )


def usb_interface(place: str, name: str, number: str, driver: str) -> Fake:
    attributes = {"bInterfaceNumber": number}
    return Fake(f"{place}/{name}", "usb", "", "", "usb_interface", driver, attributes)


def adapter(port: str, minor: int, ids: tuple[str, str], serial: str = "") -> list[Fake]:
    """Return a serial adapter in a port of the hub, as the kernel's ttyUSB`minor`."""
    place = f"{HUB}/1-1.{port}"
    name = f"ttyUSB{minor}"
    interface = usb_interface(place, f"1-1.{port}:1.0", "00", "ch341")
    by_path = f"serial/by-path/pci-0000:00:14.0-usb-0:1.{port}:1.0-port0"
    by_id = f"serial/by-id/usb-{ids[0]}_{serial}-if00-port0"
    properties = {
        "ID_BUS": "usb",
        "ID_VENDOR_ID": ids[0],
        "ID_MODEL_ID": ids[1],
        "ID_PATH": f"pci-0000:00:14.0-usb-0:1.{port}:1.0",
        **({"ID_SERIAL_SHORT": serial} if serial else {}),
    }
    return [
        usb_device(place, 10 + int(port), *ids, serial),
        interface,
        Fake(f"{interface.syspath}/{name}", "usb-serial", driver="ch341-uart"),
        Fake(
            f"{interface.syspath}/{name}/tty/{name}",
            "tty",
            name,
            f"188:{minor}",
            properties=properties,
            links=(by_path, by_id) if serial else (by_path,),
            tags=("systemd",),
        ),
    ]


CH340 = ("1a86", "7523")
FTDI = ("0403", "6001")


def sticks(first: int = 0, second: int = 1, third: int = 2) -> list[Fake]:
    """Return the three adapters; the numbers are what the kernel happened to call them."""
    return [
        *adapter("1", first, CH340),
        *adapter("2", second, CH340),
        *adapter("3", third, FTDI, "A50285BI"),
    ]


def webcam() -> list[Fake]:
    place = f"{USB}/1-2"
    video = usb_interface(place, "1-2:1.0", "00", "uvcvideo")
    audio = usb_interface(place, "1-2:1.2", "02", "snd-usb-audio")
    card = f"{audio.syspath}/sound/card1"
    key = f"{video.syspath}/input/input7"
    at = f"{video.syspath}/video4linux"
    capture = {"ID_V4L_CAPABILITIES": ":capture:"}
    return [
        usb_device(place, 4, "046d", "0825", "C0FFEE42"),
        video,
        Fake(
            f"{at}/video0",
            "video4linux",
            "video0",
            "81:0",
            attributes={"index": "0", "name": "UVC Camera"},
            properties=capture,
            links=("v4l/by-id/usb-046d_0825_C0FFEE42-video-index0",),
        ),
        Fake(
            f"{at}/video1",
            "video4linux",
            "video1",
            "81:1",
            attributes={"index": "1", "name": "UVC Camera"},
            links=("v4l/by-id/usb-046d_0825_C0FFEE42-video-index1",),
        ),
        Fake(f"{video.syspath}/media0", "media", "media0", "237:0"),
        Fake(key, "input", attributes={"name": "UVC Camera"}),
        Fake(f"{key}/event7", "input", "input/event7", "13:71"),
        audio,
        Fake(card, "sound"),
        Fake(f"{card}/controlC1", "sound", "snd/controlC1", "116:9"),
        Fake(f"{card}/pcmC1D0c", "sound", "snd/pcmC1D0c", "116:8"),
    ]


def gpu() -> list[Fake]:
    place = f"{PCI}/0000:00:02.0"
    return [
        Fake(place, "pci", driver="i915", attributes={"vendor": "0x8086"}),
        Fake(
            f"{place}/drm/card0",
            "drm",
            "dri/card0",
            "226:0",
            "drm_minor",
            links=("dri/by-path/pci-0000:00:02.0-card",),
        ),
        Fake(
            f"{place}/drm/renderD128",
            "drm",
            "dri/renderD128",
            "226:128",
            "drm_minor",
            links=("dri/by-path/pci-0000:00:02.0-render",),
        ),
    ]


def disk() -> list[Fake]:
    place = f"{PCI}/0000:00:1d.0/nvme/nvme0"
    by_id = "disk/by-id/nvme-SAMPLE_DISK_S1"
    return [
        Fake(place, "nvme", "nvme0", "242:0", attributes={"serial": "S1"}),
        Fake(f"{place}/nvme0n1", "block", "nvme0n1", "b259:0", "disk", links=(by_id,)),
        Fake(
            f"{place}/nvme0n1/nvme0n1p1",
            "block",
            "nvme0n1p1",
            "b259:1",
            "partition",
            links=(f"{by_id}-part1",),
        ),
    ]


def rdma() -> list[Fake]:
    place = f"{PCI}/0000:03:00.0"
    return [
        Fake(place, "pci", driver="mlx5_core"),
        Fake(
            f"{place}/infiniband_verbs/uverbs0", "infiniband_verbs", "infiniband/uverbs0", "231:192"
        ),
        Fake(f"{place}/infiniband_mad/umad0", "infiniband_mad", "infiniband/umad0", "231:0"),
        Fake(f"{place}/infiniband_mad/issm0", "infiniband_mad", "infiniband/issm0", "231:64"),
        Fake("/devices/virtual/misc/rdma_cm", "misc", "infiniband/rdma_cm", "10:122"),
    ]


def usual() -> list[Fake]:
    """Return what every host has."""
    return [
        Fake("/devices/virtual/misc/fuse", "misc", "fuse", "10:229"),
        Fake("/devices/virtual/misc/tun", "misc", "net/tun", "10:200"),
        Fake("/devices/virtual/misc/kvm", "misc", "kvm", "10:232"),
        Fake("/devices/virtual/tty/tty1", "tty", "tty1", "4:1"),
        Fake("/devices/pnp0/00:01/tty/ttyS0", "tty", "ttyS0", "4:64", attributes={"type": "4"}),
        Fake(
            "/devices/platform/serial8250/tty/ttyS1",
            "tty",
            "ttyS1",
            "4:65",
            attributes={"type": "0"},
        ),
        Fake("/devices/platform/tpm/tpmrm/tpmrm0", "tpmrm", "tpmrm0", "253:65536"),
    ]


def machine(adapters: Iterable[Fake] | None = None) -> list[Fake]:
    """Return the whole machine."""
    return [
        Fake(f"{PCI}/0000:00:14.0", "pci", driver="xhci_hcd"),
        usb_device(USB, 1, "1d6b", "0002"),
        usb_device(HUB, 2, "05e3", "0608"),
        *(sticks() if adapters is None else adapters),
        *webcam(),
        *gpu(),
        *disk(),
        *rdma(),
        *usual(),
    ]


def many(count: int) -> list[Fake]:
    """Return a machine with at least so many nodes: USB serial adapters, 100 of them a hub."""
    base = adapter("1", 0, CH340)
    fakes = [Fake(f"{PCI}/0000:00:14.0", "pci"), usb_device(USB, 1, "1d6b", "0002")]
    for number in range(count // 2):
        hub = f"{USB}/1-{number // 100 + 1}"
        if number % 100 == 0:
            fakes.append(replace(usb_device(hub, 1, "05e3", "0608"), number=""))
        place = f"{hub}/{hub.rpartition('/')[2]}.{number % 100 + 1}"
        for fake in base:
            syspath = fake.syspath.replace(f"{HUB}/1-1.1", place)
            syspath = syspath.replace("ttyUSB0", f"ttyUSB{number}")
            more: dict[str, object] = {}
            if fake.subsystem == "tty":
                links = (f"serial/by-path/port-{number}",)
                more = {"node": f"ttyUSB{number}", "number": f"188:{number}", "links": links}
            elif fake.devtype == "usb_device":
                more = {"node": f"bus/usb/{number // 100:03}/{number % 100:03}"}
                more["number"] = f"189:{number}"
                more["attributes"] = {**fake.attributes, "serial": f"S{number}"}
            fakes.append(replace(fake, syspath=syspath, **more))  # type: ignore[arg-type] # by name
    return fakes


# --- writing ------------------------------------------------------------------------------------


def write(root: Path, fakes: Iterable[Fake]) -> Path:
    """Write devices below a root, as plain files: /sys as the kernel has it, /dev without types."""
    for fake in fakes:
        directory = root / "sys" / fake.syspath[1:]
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "uevent").write_text("".join(f"{k}={v}\n" for k, v in uevent(fake).items()))
        for name, value in fake.attributes.items():
            (directory / name).write_text(f"{value}\n")
        _link(directory / "subsystem", f"/sys/class/{fake.subsystem}")
        if fake.driver:
            _link(directory / "driver", f"/sys/bus/usb/drivers/{fake.driver}")
        if fake.number:
            _write_node(root, fake)
    return root


def _write_node(root: Path, fake: Fake) -> None:
    kind = "block" if fake.number.startswith("b") else "char"
    entry = root / "sys/dev" / kind / fake.number.removeprefix("b")
    entry.parent.mkdir(parents=True, exist_ok=True)
    _link(entry, f"../..{fake.syspath}")
    node = root / "dev" / fake.node
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    for link in fake.links:
        path = root / "dev" / link
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(path, f"{'../' * link.count('/')}{fake.node}")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def uevent(fake: Fake) -> dict[str, str]:
    """Return what the kernel says of a device in its `uevent` file."""
    facts = {"DRIVER": fake.driver, "DEVTYPE": fake.devtype}
    if fake.number:
        major, _, minor = fake.number.removeprefix("b").partition(":")
        facts = {"MAJOR": major, "MINOR": minor, "DEVNAME": fake.node, **facts}
    return {key: value for key, value in facts.items() if value}


def umockdev(fakes: Iterable[Fake]) -> str:
    """Return devices in the format of umockdev-record, with the properties that udev adds."""
    return "\n".join("\n".join(_umockdev_lines(fake)) + "\n" for fake in fakes)


def _umockdev_lines(fake: Fake) -> list[str]:
    facts = {**uevent(fake), "SUBSYSTEM": fake.subsystem, **fake.properties}
    if fake.node:
        facts["DEVNAME"] = f"/dev/{fake.node}"
    if fake.tags:
        facts["TAGS"] = f":{':'.join(fake.tags)}:"
    attributes = dict(fake.attributes)
    if fake.number:
        attributes["dev"] = fake.number.removeprefix("b")
    return [
        f"P: {fake.syspath}",
        *([f"N: {fake.node}"] if fake.node else []),
        *(f"S: {link}" for link in fake.links),
        *(f"E: {key}={value}" for key, value in facts.items()),
        *(f"A: {name}={value}" for name, value in attributes.items()),
    ]

"""Real libudev, by pyudev, on a machine that umockdev shows: properties, tags, messages."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.machine import machine, sticks, umockdev
from support.umockdev import Umockdev, open_umockdev

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
PROGRAM = BIN / "nri-inject"
PAGE = Path(__file__).parents[3] / "docs" / "find-a-device.md"


@pytest.fixture(scope="module")
def mocked(tmp_path_factory: pytest.TempPathFactory) -> Umockdev:
    return open_umockdev(tmp_path_factory.mktemp("umockdev"))


def listed(mocked: Umockdev, *selectors: str, order: tuple[int, int, int] = (0, 1, 2)) -> Any:
    arguments = ("devices", "list", "--format", "json", *selectors)
    return json.loads(mocked.run(machine(sticks(*order)), PROGRAM, *arguments))["devices"]


@pytest.mark.parametrize(
    ("selector", "paths"),
    [
        ("udev:ID_PATH=pci-0000:00:14.0-usb-0:1.2:1.0", ["/dev/ttyUSB1"]),
        ("udev:TAG=systemd,ID_VENDOR_ID=1a86", ["/dev/ttyUSB0", "/dev/ttyUSB1"]),
        ("udev:ID_V4L_CAPABILITIES=*capture*", ["/dev/video0"]),
        ("udev:ID_SERIAL_SHORT=A50285BI,SUBSYSTEM=tty", ["/dev/ttyUSB2"]),
        ("usb:046d:0825,CLASS=video,ATTR{index}=0", ["/dev/video0"]),
        ("class:render", ["/dev/dri/renderD128"]),
        ("/dev/serial/by-id/usb-0403_*", ["/dev/ttyUSB2"]),
    ],
)
def test_a_selector_means_these_devices(mocked: Umockdev, selector: str, paths: list[str]) -> None:
    assert [row["path"] for row in listed(mocked, selector)] == paths


def test_a_device_is_listed_with_numbers_mode_owner_and_stable_names(mocked: Umockdev) -> None:
    (row,) = listed(mocked, "usb:0403:6001")
    owner = {row.pop("uid"), row.pop("gid"), row.pop("mode")}
    assert None not in owner
    by_id = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
    assert row == {
        "path": "/dev/ttyUSB2",
        "type": "c",
        "major": 188,
        "minor": 2,
        "subsystem": "tty",
        "classes": ["serial", "tty-usb"],
        "links": [by_id, "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.3:1.0-port0"],
        "selector": by_id,
        "annotation": {"devices.noderesource.dev/container.NAME": f"- device: {by_id}\n"},
    }


def test_replugged_in_another_order_the_same_selector_gives_the_right_stick(
    mocked: Umockdev,
) -> None:
    for order in ((0, 1, 2), (2, 0, 1)):
        for selector, number in (
            ("usb:0403:6001:A50285BI", order[2]),
            ("udev:SUBSYSTEM=tty,ID_PATH=pci-0000:00:14.0-usb-0:1.1:1.0", order[0]),
            ("usb:1a86:7523,KERNELS=1-1.2", order[1]),
        ):
            (row,) = listed(mocked, selector, order=order)
            assert row["path"] == f"/dev/ttyUSB{number}"


def test_two_adapters_of_one_kind_are_explained(mocked: Umockdev) -> None:
    text = mocked.run(machine(), PROGRAM, "devices", "explain", "usb:1a86:7523")
    lines = [line for line in text.splitlines() if not line.startswith("/dev")]
    asks = "devices.noderesource.dev/container.NAME"
    by_path = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.{}:1.0-port0"
    expected = [
        "usb:1a86:7523 matches 2 devices; an annotation needs `count`, or a narrower selector"
    ]
    for port in (1, 2):
        expected += [
            f"  also {by_path.format(port)}",
            f'  ask  {asks}: "- device: {by_path.format(port)}"',
            "  for  USB idVendor 1a86 (it is 1a86)",
            "  for  USB idProduct 7523 (it is 7523)",
            "  for  not its bus node (it is subsystem tty)",
        ]
    assert lines == expected


def test_the_documentation_shows_what_is_printed(mocked: Umockdev) -> None:
    shown = re.findall(r"```console\n\$ nri-inject (devices .*)\n((?:.*\n)*?)```", PAGE.read_text())
    assert len(shown) == 3
    for command, text in shown:
        status = int("explain" in command)
        assert mocked.run(machine(), PROGRAM, *command.split(), status=status) == text


# Every device as our own reading has it, and as libudev does.
_BOTH = """
import json, pyudev
from nri_inject.host.devices import inventory
ours = {d.path: (d.subsystem, d.major, d.minor, dict(d.properties()),
                 [p.name for p in d.chain()][1:]) for d in inventory.read()}
theirs = {}
for d in pyudev.Context().list_devices():
    if d.device_node:
        n = d.device_number
        theirs[d.device_node] = (d.subsystem, n >> 8 & 0xfff, n & 0xff | n >> 12 & 0xfff00,
            dict(d.properties), [p.sys_name for p in d.ancestors])
print(json.dumps([ours, theirs]))
"""


def test_libudev_says_the_same_of_every_device(mocked: Umockdev) -> None:
    # umockdev has no /sys/dev/block, which every kernel has.
    fakes = [fake for fake in machine() if not fake.number.startswith("b")]
    ours, theirs = json.loads(mocked.run(fakes, sys.executable, "-c", _BOTH))
    assert ours.keys() == theirs.keys()
    assert len(ours) > 25
    for path, (subsystem, major, minor, properties, parents) in theirs.items():
        assert ours[path][:3] == [subsystem, major, minor]
        assert ours[path][4] == parents
        assert properties.items() <= ours[path][3].items()


# A machine whose devices come and go while we look; umockdev sends udev's messages.
_REPLUG = """
import ctypes, json, select, sys
from contextlib import closing
from nri_inject.host.devices.selectors import parse
from nri_inject.host.devices.source import HostInventory

before, gone, come = json.loads(sys.argv[1])
lib = ctypes.CDLL("libumockdev.so.0")
lib.umockdev_testbed_new.restype = ctypes.c_void_p
bed = ctypes.c_void_p(lib.umockdev_testbed_new())
assert lib.umockdev_testbed_add_from_string(bed, before.encode(), None)
with closing(HostInventory()) as source:
    def show():
        found = source.inventory()
        print([d.path for d in parse("usb:0403:6001:A50285BI").select(found)])
    def told():
        assert select.select([source.fileno()], [], [], 10)[0] == [source.fileno()]
        source.ready()
    show()
    for syspath in gone:
        lib.umockdev_testbed_uevent(bed, f"/sys{syspath}".encode(), b"remove")
        lib.umockdev_testbed_remove_device(bed, f"/sys{syspath}".encode())
        told()
    show()
    for device in come:
        assert lib.umockdev_testbed_add_from_string(bed, device.encode(), None)
        told()
    show()
"""


def test_messages_of_udev_keep_the_inventory_current(mocked: Umockdev, tmp_path: Path) -> None:
    (tmp_path / "replug.py").write_text(_REPLUG)
    gone = [fake.syspath for fake in reversed(sticks())]
    # umockdev has no second node or link of a name that once was there.
    come = [
        replace(fake, node="", number="") if fake.subsystem == "usb" else replace(fake, links=())
        for fake in sticks(5, 3, 4)
    ]
    given = json.dumps([umockdev(machine()), gone, [umockdev([fake]) for fake in come]])
    printed = mocked.run_testbed(sys.executable, tmp_path / "replug.py", given)
    assert printed.splitlines() == ["['/dev/ttyUSB2']", "[]", "['/dev/ttyUSB4']"]

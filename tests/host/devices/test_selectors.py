"""What selectors mean, on values; and what is said of those that match nothing."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device, Part, natural
from nri_inject.host.devices.selectors import MAX_SELECTOR, misses, parse
from nri_inject.text.fields import Fault

HUB = Part("1-1", "usb", "usb_device", "usb", {"idVendor": "05e3", "idProduct": "0608"})


def stick(number: int, serial: str = "", interface: str = "00", vendor: str = "1a86") -> Device:
    ids = {"idVendor": vendor, "idProduct": "7523", **({"serial": serial} if serial else {})}
    chain = (
        Part(f"ttyUSB{number}", "tty", attributes={"dev": f"188:{number}"}),
        Part("1-1.2:1.0", "usb", "usb_interface", "ch341", {"bInterfaceNumber": interface}),
        Part("1-1.2", "usb", "usb_device", "usb", ids),
        HUB,
    )
    return Device(
        f"/dev/ttyUSB{number}",
        "c",
        188,
        number,
        "tty",
        "",
        f"/devices/pci/usb1/1-1/1-1.2/1-1.2:1.0/tty/ttyUSB{number}",
        (f"/dev/serial/by-id/usb-{serial}",) if serial else (),
        lambda: {"ID_MODEL": f'a,b"{number}', "ID_BUS": "usb", "TAGS": ":systemd:uaccess:"},
        lambda: chain,
    )


ONE, TWO = stick(2, "AAA"), stick(10, "B:B,", interface="0a")
BUS_NODE = Device(
    "/dev/bus/usb/001/004", "c", 189, 3, "usb", "usb_device", "/devices/x", chain=lambda: (HUB,)
)
FUSE = Device("/dev/fuse", "c", 10, 229, "misc", "", "/devices/virtual/misc/fuse")
BARE = Device("/dev/mine", "c", 240, 0)
ALL = (TWO, BUS_NODE, ONE, FUSE, BARE)


def selected(text: str) -> list[str]:
    return [device.path for device in parse(text).select(ALL)]


BOTH = ["/dev/ttyUSB2", "/dev/ttyUSB10"]
MEANT: dict[str, list[str]] = {
    "/dev/fuse": ["/dev/fuse"],
    "//dev/./fuse/": ["/dev/fuse"],
    "/dev/serial/by-id/usb-AAA": BOTH[:1],
    "/dev/mine": ["/dev/mine"],
    "/dev/ttyUSB*": BOTH,
    "/dev/ttyUSB?": BOTH[:1],
    "/dev/ttyUSB[!2]*": BOTH[1:],
    "/dev/[[]x": [],
    "/dev/*/*/usb-*": BOTH,
    "/dev/*/*": [],
    "usb:1a86:7523": BOTH,
    "usb:1A86:7523": BOTH,
    "usb:1a86:*": BOTH,
    "usb:1a86:7524": [],
    "usb:05e3:0608": [],
    "usb:05e3:0608,SUBSYSTEM=usb": ["/dev/bus/usb/001/004"],
    "usb:05e3:0608,CLASS=usb": ["/dev/bus/usb/001/004"],
    "usb:1a86:7523:AAA": BOTH[:1],
    "usb:1a86:7523:A*": BOTH[:1],
    'usb:1a86:7523:"B:B,"': BOTH[1:],
    "usb:1a86:7523::0A": BOTH[1:],
    "usb:1a86:7523::0": BOTH[:1],
    "usb:1a86:7523:AAA:0a": [],
    "usb:1a86:7523,CLASS=tty-usb,KERNEL=ttyUSB1*": BOTH[1:],
    "udev:SUBSYSTEM=tty": BOTH,
    'udev:ID_MODEL="a,b\\"2"': BOTH[:1],
    "udev:ID_BUS=usb": BOTH,
    "udev:ID_BUS=us": [],
    "udev:ID_NONE=*": [],
    "udev:TAG=uacc*": BOTH,
    "udev:TAG=seat": [],
    "udev:ATTR{dev}=188:2": BOTH[:1],
    "udev:ATTR{idVendor}=1a86": [],
    "udev:ATTRS{idVendor}=1a86": BOTH,
    "udev:ATTRS{idVendor}=05e3,SUBSYSTEM=tty": BOTH,
    "udev:ATTRS{idVendor}=1a86,KERNELS=1-1.2": BOTH,
    "udev:ATTRS{idVendor}=05e3,KERNELS=1-1.2": [],
    "udev:DRIVERS=ch341,SUBSYSTEMS=usb": BOTH,
    "udev:SUBSYSTEM=misc": ["/dev/fuse"],
    "class:fuse": ["/dev/fuse"],
    "class:tty-usb": BOTH,
    "class:tty-usb,KERNEL=*0": BOTH[1:],
    "class:kvm": [],
}


@pytest.mark.parametrize("text", MEANT)
def test_a_selector_means_these_devices_in_the_order_of_people(text: str) -> None:
    assert selected(text) == MEANT[text]


WRONG: dict[str, str] = {
    "": "'' is not a selector; write a path, usb:VID:PID, udev:KEY=VALUE or class:NAME",
    "ttyUSB0": (
        "'ttyUSB0' is not a selector; write a path, usb:VID:PID, udev:KEY=VALUE or class:NAME"
    ),
    "USB:1a86:7523": "'USB:1a86:7523' is not a selector;"
    " write a path, usb:VID:PID, udev:KEY=VALUE or class:NAME",
    "/": "'/' is a directory",
    "/dev/": "'/dev/' is a directory",
    "/dev/../etc": "'/dev/../etc' contains '..'",
    "/dev/**/x": "'/dev/**/x': '**' is not known; '*' matches one name or a part of it",
    "/run/*": "'/run/*' does not begin with /dev/, where the host's nodes are",
    "usb:": "usb: is not of the form usb:VID:PID[:SERIAL][:INTERFACE]",
    "usb:1a86": "usb:1a86 is not of the form usb:VID:PID[:SERIAL][:INTERFACE]",
    "usb:1a86:7523:a:b:c": "usb:1a86:7523:a:b:c is not of the form"
    " usb:VID:PID[:SERIAL][:INTERFACE]",
    "usb:86:7523": "vendor '86' is not four hexadecimal digits, as in usb:1a86:7523",
    "usb:1a86:xyz0": "product 'xyz0' is not four hexadecimal digits, as in usb:1a86:7523",
    "usb:1a86:7523::100": "interface '100' is not one or two hexadecimal digits, as in 00",
    "usb:1a86:7523,": "'' is not of the form KEY=VALUE",
    "udev:": "'' is not of the form KEY=VALUE",
    "udev:tty": "'tty' is not of the form KEY=VALUE",
    "udev:SUBSYSTEM=": "'SUBSYSTEM' has no value; '*' matches any",
    "udev:SUBSYSTEM==tty": "'SUBSYSTEM==tty' contains two '='; write one, as in SUBSYSTEM=tty",
    "udev:Subsystem=tty": "unknown key 'Subsystem'; did you mean 'SUBSYSTEM'?",
    "udev:ID MODEL=x": "'ID MODEL' is not the name of a property, as in ID_SERIAL",
    "udev:ATTR{../../x}=1": "'../../x' is not the name of an attribute,"
    " a file of the device in /sys",
    "udev:ATTRS{power/control}=1": "'power/control' is not the name of an attribute,"
    " a file of the device in /sys",
    'udev:ID_MODEL="x': "'ID_MODEL=\"x' contains a quote that is not closed",
    'udev:ID_MODEL=x"y"': "'x\"y\"' contains a double quote; put the whole value in quotes",
    "class:vidio": "class 'vidio' is unknown; did you mean 'video'?",
    "udev:CLASS=": "'CLASS' has no value; '*' matches any",
    "/dev/" + "x" * MAX_SELECTOR: "",
    "udev:" + ",".join(["A=b"] * 9): "9 conditions, at most 8 allowed",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_selector_says_why(text: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(text)
    expected = (
        WRONG[text] or f"{('/dev/' + 'x' * 72)!r}"[:-1] + f"...' is longer than {MAX_SELECTOR}"
    )
    assert caught.value.sentences[0].startswith(expected)


def test_selectors_are_equal_if_their_texts_are() -> None:
    assert parse("class:fuse") == parse("class:fuse")
    assert parse("class:fuse") != parse("class:kvm")
    assert parse("/dev//fuse").path == "/dev/fuse"
    assert parse("/dev/fus*").path is None


@given(st.text(max_size=60) | st.text('/*?[]!-"\\,:={}udevUSBTATRclas0', max_size=60))
def test_any_text_is_a_selector_or_a_fault(text: str) -> None:
    for prefix in ("", "/dev/", "usb:1a86:7523:", "udev:ID=", "udev:ATTR{", "class:"):
        with suppress(Fault):
            assert {*parse(prefix + text).select(ALL)} <= {*ALL}


@given(st.permutations(ALL))
def test_the_order_of_the_inventory_does_not_matter(devices: list[Device]) -> None:
    assert [d.path for d in parse("/dev/ttyUSB*").select(devices)] == BOTH


@given(st.text(max_size=20), st.text(max_size=20))
def test_natural_order_is_a_total_one(one: str, two: str) -> None:
    assert (natural(one) == natural(two)) == (one == two)
    assert natural(one) <= natural(two) or natural(two) <= natural(one)


def near(text: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [(miss.device.path, miss.unmet) for miss in misses(parse(text), ALL, 3)]


def test_the_nearest_devices_and_what_they_lack() -> None:
    assert near("usb:1a86:7523:CCC") == [
        ("/dev/ttyUSB2", (("USB serial CCC", "AAA"),)),
        ("/dev/ttyUSB10", (("USB serial CCC", "B:B,"),)),
    ]
    assert near("usb:05e3:0608") == [
        ("/dev/bus/usb/001/004", (("not its bus node", "subsystem usb"),))
    ]
    assert near("/dev/ttyUSB20")[0] == ("/dev/ttyUSB2", (("/dev/ttyUSB20", ONE_PATHS),))
    assert near("udev:SUBSYSTEM=tty,TAG=seat")[0] == (
        "/dev/ttyUSB2",
        (("TAG=seat", "systemd uaccess"),),
    )
    assert near("class:kvm") == []


ONE_PATHS = "/dev/ttyUSB2 /dev/serial/by-id/usb-AAA"


def test_what_is_meant_is_no_miss() -> None:
    assert near("class:fuse") == []
    assert [path for path, _ in near("usb:1a86:7523:AAA")] == ["/dev/ttyUSB10"]


def test_every_class_says_what_it_is() -> None:
    assert all(kind.says and "\n" not in kind.says for kind in CLASSES.values())
    assert not CLASSES["block"].generated

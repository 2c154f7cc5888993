"""What a device item that is looked for becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.machine import machine, write

from nri_inject.api import Container
from nri_inject.capabilities import NEWEST, identify
from nri_inject.host.devices import inventory, selected
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.selectors import parse
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.text.fields import Fault, Field, integer, read_line


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return inventory.read(str(write(tmp_path_factory.mktemp("host"), machine())))


class Nodes(dict[str, DeviceNode]):
    """The nodes of an inventory, under all of their paths."""

    def __missing__(self, path: str) -> DeviceNode:
        if path == "/dev/dangling":
            raise NotADevice(path, "is a dangling link to gone")
        if path == "/dev/directory":
            raise NotADevice(path, "is a directory")
        raise KeyError(path)


@pytest.fixture
def nodes(found: Inventory) -> Nodes:
    made = {
        path: DeviceNode(path, device.type, device.major, device.minor, 0o660, 0, 20)
        for device in found
        for path in device.paths
    }
    return Nodes(made, **{"/dev/pipe": DeviceNode("/dev/pipe", "p", 0, 0, 0o600, 0, 0)})


Find = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def find(found: Inventory, nodes: Nodes) -> Find:
    def find(selector: str, **keys: Any) -> list[dict[str, Any]]:
        return selected.find({"device": parse(selector), **keys}, nodes, lambda: found)

    return find


BY_ID = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
BY_PATH = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.{}:1.0-port0"
STICK = {"type": "c", "major": 188, "minor": 2, "file_mode": 0o660, "uid": 0, "gid": 20}


def paths(devices: list[dict[str, Any]]) -> list[str]:
    return [device["path"] for device in devices]


def test_one_device_has_path_numbers_mode_and_owner_of_the_host(find: Find) -> None:
    assert find("usb:0403:6001:A50285BI") == [{**STICK, "path": "/dev/ttyUSB2"}]
    assert find(BY_ID) == [{**STICK, "path": BY_ID}]


def test_the_path_in_the_container_may_be_another(find: Find) -> None:
    assert find(BY_ID, **{"as": "/dev/zigbee"}) == [{**STICK, "path": "/dev/zigbee"}]
    several = {"count": "all", "as": "/dev/cam{index}-{name}"}
    assert paths(find("class:video", **several)) == ["/dev/cam0-video0", "/dev/cam1-video1"]


def test_stable_links_become_further_nodes(find: Find) -> None:
    links = [BY_ID, BY_PATH.format(3)]
    assert paths(find("usb:0403:6001", links=True)) == ["/dev/ttyUSB2", *links]
    assert paths(find("usb:0403:6001", links=True, **{"as": "/dev/z"})) == ["/dev/z", *links]
    assert paths(find(BY_ID, links=True)) == [BY_ID, "/dev/ttyUSB2", links[1]]
    assert find("/dev/fuse", links=True)[0]["path"] == "/dev/fuse"


def test_mode_and_owner_that_are_given_win(find: Find) -> None:
    (device,) = find("class:fuse", file_mode=0o666, uid=0, gid=7)
    assert (device["file_mode"], device["uid"], device["gid"]) == (0o666, 0, 7)


def test_a_path_needs_no_inventory(nodes: Nodes) -> None:
    def never() -> Inventory:
        raise AssertionError

    item = {"device": parse("/dev/fuse")}
    assert paths(selected.find(item, nodes, never)) == ["/dev/fuse"]


def test_what_is_optional_may_be_missing(find: Find) -> None:
    for selector in ("/dev/none", "/dev/dangling", "class:hidraw", "usb:ffff:ffff", "/dev/x*"):
        assert find(selector, optional=True) == []
    assert paths(find("class:fuse", optional=True)) == ["/dev/fuse"]


def test_as_many_as_wanted(find: Find) -> None:
    three = ["/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyUSB2"]
    assert paths(find("class:tty-usb", count="all")) == three
    assert paths(find("class:tty-usb", count=3)) == three
    assert paths(find("class:fuse", count="all")) == ["/dev/fuse"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "usb:ffff:0000": (
        {},
        (
            "'usb:ffff:0000' matches no device; run `nri-inject devices"
            " explain` on the node for near matches"
        ),
    ),
    "/dev/none": ({}, "'/dev/none' does not exist on the host"),
    "/dev/dangling": ({}, "'/dev/dangling' is a dangling link to gone"),
    "/dev/directory": ({"optional": True}, "'/dev/directory' is a directory"),
    "/dev/pipe": ({}, "'/dev/pipe' is a fifo; mount it instead"),
    "usb:1a86:7523": (
        {},
        (
            "'usb:1a86:7523' matches 2 devices, 1 requested; use one of these, or `count`: "
            f"{BY_PATH.format(1)}; {BY_PATH.format(2)}"
        ),
    ),
    "class:tty-usb": (
        {"count": 4},
        "'class:tty-usb' matches 3 devices, 4 requested: /dev/ttyUSB0, /dev/ttyUSB1, /dev/ttyUSB2",
    ),
    "class:fuse": ({"count": 2}, "'class:fuse' matches 1 device, 2 requested: /dev/fuse"),
    "usb:046d:0825": (
        {"optional": True},
        (
            "'usb:046d:0825' matches 6 devices, 1 requested; use one of these, or `count`: "
            "usb:046d:0825:C0FFEE42,SUBSYSTEM=input; usb:046d:0825:C0FFEE42,SUBSYSTEM=media; "
            "usb:046d:0825:C0FFEE42,SUBSYSTEM=sound,ATTRS{bInterfaceNumber}=02,KERNEL=controlC*; "
            "usb:046d:0825:C0FFEE42,SUBSYSTEM=sound,ATTRS{bInterfaceNumber}=02,KERNEL=pcmC*D0c; "
            "and 2 more"
        ),
    ),
}


@pytest.mark.parametrize("selector", WRONG)
def test_what_cannot_be_had_says_why_and_how_to_ask(find: Find, selector: str) -> None:
    keys, sentence = WRONG[selector]
    with pytest.raises(Fault) as caught:
        find(selector, **keys)
    assert caught.value.sentences == (sentence,)


def test_a_device_that_is_replaced_between_two_looks_is_not_given(find: Find, nodes: Nodes) -> None:
    nodes["/dev/ttyUSB2"] = nodes["/dev/fuse"]
    with pytest.raises(Fault, match="'/dev/ttyUSB2' is being replaced by another device"):
        find("usb:0403:6001")


# --- keys ---------------------------------------------------------------------------------------

OTHERS = [Field(name, read_line) for name in ("as", "path", "type")]
OTHERS += [Field(name, integer(0, 9999)) for name in ("major", "minor", "file_mode", "uid", "gid")]
READ_ITEM = selected.reader(OTHERS)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (
            {"as": "/dev/x", "count": "all"},
            "as: '/dev/x' needs {name} or {index} for more than one device",
        ),
        ({"as": "/dev/{number}"}, "as: {number} is unknown; known: {name}, {index}"),
        (
            {"owner": "container", "uid": 1000},
            "owner: container and uid or gid are mutually exclusive",
        ),
        ({"owner": "host", "gid": 1}, "owner: host and uid or gid are mutually exclusive"),
        (
            {"path": "/dev/x", "device": "class:fuse"},
            "device and path are mutually exclusive; `as` is the device's path in the container",
        ),
        ({"path": "/dev/x", "as": "/dev/y"}, "as is allowed with device only, not with path"),
        ({"minor": 1}, "minor is allowed with path only; a selected device has its own"),
    ],
)
def test_keys_that_do_not_go_together(item: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        READ_ITEM({"device": "class:fuse", **item} if "path" not in item else item)
    assert caught.value.sentences == (sentence,)


def test_one_of_device_and_path_must_be_given() -> None:
    with pytest.raises(Fault, match="device or path is missing"):
        READ_ITEM({"optional": True})


def test_keys_that_do() -> None:
    item: dict[str, Any] = {
        "device": "class:fuse",
        "as": "/dev/{index}",
        "count": 2,
        "owner": "container",
    }
    assert READ_ITEM(item) == {**item, "device": parse("class:fuse")}
    item = {"path": "/dev/x", "optional": True, "owner": "host", "type": "c", "major": 1}
    assert READ_ITEM(item) == item


READ: dict[str, list[tuple[Any, Any]]] = {
    "device": [("class:fuse", parse("class:fuse")), (7, None), ("fuse", None)],
    "links": [(True, True), ("yes", None)],
    "optional": [(False, False), (1, None)],
    "count": [("all", "all"), (256, 256), (0, None), (257, None), ("some", None)],
    "owner": [("host", "host"), ("container", "container"), ("pod", None)],
}


@pytest.mark.parametrize("name", READ)
def test_the_values_that_a_key_may_have(name: str) -> None:
    for value, expected in READ[name]:
        item = {"device": "class:fuse", name: value}
        if expected is not None:
            assert READ_ITEM(item)[name] == expected
            continue
        with pytest.raises(Fault, match=f"^{name}: "):
            READ_ITEM(item)


# --- owner --------------------------------------------------------------------------------------


def test_the_owner_is_the_user_that_the_container_runs_as() -> None:
    container = Container(user={"uid": 1000, "gid": 100})
    device = {**STICK, "owner": "container", "optional": True}
    assert selected.with_owner(device, container, NEWEST) == {**STICK, "uid": 1000, "gid": 100}
    root = Container(user={})
    assert selected.with_owner(device, root, NEWEST) == {**STICK, "uid": 0, "gid": 0}


def test_the_owner_of_the_host_stays() -> None:
    for device in ({**STICK, "owner": "host"}, STICK):
        assert selected.with_owner(device, Container(), NEWEST) == STICK


def test_a_runtime_that_does_not_tell_the_user_is_named() -> None:
    runtime = identify("containerd", "2.1.9")
    with pytest.raises(Fault) as caught:
        selected.with_owner({**STICK, "owner": "container"}, Container(), runtime)
    assert caught.value.sentences == (
        (
            "owner: containerd 2.1.9 does not report the container's user (containerd 2.3.0"
            " and CRI-O 1.36.0 do); set uid and gid instead"
        ),
    )

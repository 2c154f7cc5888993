"""Labels for a node by its devices: which there are, and that a device cannot write others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.machine import HUB, machine, usb_device, write

from nri_inject.host.devices import inventory
from nri_inject.host.devices.features import labels

PREFIX = "devices.noderesource.dev"


def found(root: Path, *, serials: bool = False) -> list[str]:
    """Return the labels without their prefix."""
    made = labels(inventory.read(str(root)), serials=serials)
    assert all(label.startswith(f"{PREFIX}/") for label in made)
    return [label.removeprefix(f"{PREFIX}/") for label in made]


def test_a_node_has_a_label_for_each_class_and_each_usb_device(tmp_path: Path) -> None:
    write(tmp_path, machine())
    said = found(tmp_path)
    assert [label for label in said if label.startswith("usb.")] == [
        "usb.0403.6001",
        "usb.046d.0825",
        "usb.1a86.7523",
    ]
    classes = {label.removeprefix("class.") for label in said if label.startswith("class.")}
    assert {"kvm", "fuse", "tun", "tty-usb", "serial", "video", "render"} <= classes
    assert len(said) == 3 + len(classes)


def test_serial_numbers_have_labels_on_request(tmp_path: Path) -> None:
    write(tmp_path, machine())
    more = set(found(tmp_path, serials=True)) - set(found(tmp_path))
    assert more == {"usb.0403.6001.A50285BI", "usb.046d.0825.C0FFEE42"}


@pytest.mark.parametrize(
    "serial",
    ["A\nevil.example/x=true", "a b", "x=y", "#", "-a", "a-", ".", "ü", "a" * 49, "a/b"],
)
def test_a_serial_number_that_is_no_part_of_a_label_has_none(tmp_path: Path, serial: str) -> None:
    stick = usb_device(f"{HUB}/1-1.9", 9, "dead", "beef", serial)
    write(tmp_path, [*machine(), stick])
    assert [label for label in found(tmp_path, serials=True) if "dead" in label] == [
        "usb.dead.beef"
    ]


def test_a_label_is_one_for_kubernetes_however_long_a_serial_number_is(tmp_path: Path) -> None:
    write(tmp_path, [*machine(), usb_device(f"{HUB}/1-1.9", 9, "dead", "beef", "a" * 48)])
    assert max(map(len, found(tmp_path, serials=True))) == 62  # of 63


def test_hubs_and_ids_that_are_none_have_no_label(tmp_path: Path) -> None:
    hub = usb_device(f"{HUB}/1-1.8", 8, "aaaa", "0001")
    hub = replace(hub, attributes={**hub.attributes, "bDeviceClass": "09"})
    odd = usb_device(f"{HUB}/1-1.9", 9, "1\n=2", "0001")
    write(tmp_path, [*machine(), hub, odd])
    assert not [label for label in found(tmp_path) if label.endswith(".0001")]

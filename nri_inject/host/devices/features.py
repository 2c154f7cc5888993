"""Labels for a node by its devices, so that the scheduler finds a node that has one.

A label is the name of a selector. Its value is `true`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device, Part

DOMAIN: Final = "devices.noderesource.dev"
"""The prefix of each label, which is that of the annotations for devices."""

# Kubernetes' names of labels have at most 63 characters. A serial number is the device's own text:
# one with other characters would write lines of its own.
_SERIAL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,46}[A-Za-z0-9])?")
_ID: Final = re.compile("[0-9a-f]{4}")
_HUB: Final = "09"  # bDeviceClass of hubs (USB 2.0, 11.23.1)


def labels(devices: Iterable[Device], *, serials: bool) -> list[str]:
    """Return the labels of a node with these devices, in order.

    With `serials` there is one for each serial number of a USB device.
    """
    found = {label for device in devices for label in _labels(device, serials=serials)}
    return sorted(found)


def _labels(device: Device, *, serials: bool) -> Iterator[str]:
    for name, kind in CLASSES.items():
        if kind.holds(device):
            yield f"{DOMAIN}/class.{name}"
    usb = device.usb_device()
    if usb is not None and usb.attributes.get("bDeviceClass") != _HUB:
        yield from _usb_labels(usb, serials=serials)


def _usb_labels(usb: Part, *, serials: bool) -> Iterator[str]:
    ids = [usb.attributes.get(name, "") for name in ("idVendor", "idProduct")]
    if not all(map(_ID.fullmatch, ids)):
        return
    label = f"{DOMAIN}/usb.{'.'.join(ids)}"
    yield label
    serial = usb.attributes.get("serial", "")
    if serials and _SERIAL.fullmatch(serial):
        yield f"{label}.{serial}"

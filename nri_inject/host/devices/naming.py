"""The stable selector of a device: the name under which it is found again tomorrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.device import Device, Part
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.selectors import parse
from nri_inject.text.fields import Fault

_CARD: Final = re.compile("(?<=[a-z])C[0-9]+")


def stable_selector(device: Device, inventory: Inventory) -> str:
    """Return a selector that means this device alone, by the most lasting thing about it.

    That is what is written into the device itself, then where it is plugged in, then the path.
    """
    return next(
        text for text in (*_candidates(device), device.path) if _means(text, device, inventory)
    )


def classes(device: Device) -> list[str]:
    """Return the names of the classes that a device belongs to."""
    return [name for name, kind in CLASSES.items() if kind.holds(device)]


def stable_name(device: Device, inventory: Inventory) -> str:
    """Return the same as a name of letters, digits and `_-.:`, which begins with a letter."""
    selector = stable_selector(device, inventory)
    if selector in device.links:
        return _plain(selector.rpartition("/")[2])
    if selector.startswith("/"):
        return _plain(selector.removeprefix("/dev/"))
    return _plain(_KEY.sub("", selector).replace(":", "-"))


_KEY: Final = re.compile(r"(?<=,)[A-Z]+(\{\w+\})?=")
_NOT_PLAIN: Final = re.compile("[^A-Za-z0-9_.:]+")


def _plain(text: str) -> str:
    """Remove the characters that a CDI name may not contain (CDI 0.3.0)."""
    text = _NOT_PLAIN.sub("-", text).strip("-_.:")
    return text if text[:1].isalpha() else f"device-{text}".rstrip("-")


def _means(text: str, device: Device, inventory: Inventory) -> bool:
    try:
        selector = parse(text)
    except Fault:  # a glob's characters in a name
        return text == device.path
    if selector.path is not None:
        return inventory.of_path(selector.path) == device
    return [found.number for found in selector.select(inventory)] == [device.number]


def _candidates(device: Device) -> Iterator[str]:
    usb = device.usb_device()
    # A by-id link without a serial number in it is that of whichever equal device came last.
    if usb is None or "serial" in usb.attributes:
        yield from _links(device, "by-id")
        yield from _links(device, "by-uuid")
    if usb is not None and "serial" in usb.attributes:
        yield from _usb(device, usb, f":{_value(usb.attributes['serial'])}")
    yield from _links(device, "by-path")
    if usb is not None:
        yield from (f"{text},KERNELS={usb.name}" for text in _usb(device, usb, ""))


def _links(device: Device, directory: str) -> Iterator[str]:
    return (link for link in device.links if f"/{directory}/" in link)


def _usb(device: Device, usb: Part, serial: str) -> Iterator[str]:
    """Yield selectors of a USB device's node, each narrower than the one before."""
    text = f"usb:{usb.attributes.get('idVendor')}:{usb.attributes.get('idProduct')}{serial}"
    yield text
    text = f"{text},SUBSYSTEM={device.subsystem}"
    yield text
    interface = device.usb_interface()
    if interface is not None:
        text = f"{text},ATTRS{{bInterfaceNumber}}={interface.attributes.get('bInterfaceNumber')}"
        yield text
    index = device.attribute("index")
    if index is not None:
        yield f"{text},ATTR{{index}}={index}"
    # ALSA's names begin with the number of the card, which is another after a restart.
    yield f"{text},KERNEL={_CARD.sub('C*', device.name)}"


def _value(text: str) -> str:
    """Write a value so that it means itself."""
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in text)
    if not any(c in ',:"' for c in literal):
        return literal
    escaped = literal.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

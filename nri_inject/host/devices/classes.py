"""The classes of devices that have a name of their own: what people call a kind of hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nri_inject.host.devices.device import Device


@dataclass(frozen=True, slots=True)
class Class:
    """A class: what belongs to it, in words and as a function.

    `generated` means that `nri-inject cdi generate` writes it unless told which to write.
    """

    says: str
    holds: Callable[[Device], bool]
    generated: bool = False


def _of(subsystem: str) -> Callable[[Device], bool]:
    return lambda device: device.subsystem == subsystem


def _misc(*names: str) -> Callable[[Device], bool]:
    return lambda device: device.subsystem == "misc" and device.name in names


def _drm(*prefixes: str) -> Callable[[Device], bool]:
    return lambda device: device.subsystem == "drm" and device.name.startswith(prefixes)


def _is_serial(device: Device) -> bool:
    """Tell a hardware port from a software terminal.

    The driver of PC serial ports makes nodes for ports that do not exist: type 0 (PORT_UNKNOWN in
    Linux's serial_core.h).
    """
    return (
        device.subsystem == "tty"
        and bool(device.syspath)
        and not device.syspath.startswith("/devices/virtual/")
        and device.attribute("type") != "0"
    )


def _is_usb_serial(device: Device) -> bool:
    return device.subsystem == "tty" and device.usb_device() is not None


def _is_verbs(device: Device) -> bool:
    """Tell whether a device is a node that user programs need for RDMA.

    issm and umad are not: a program that opens those can reconfigure the fabric (subsystem
    infiniband_mad).
    """
    return device.subsystem == "infiniband_verbs" or _misc("rdma_cm")(device)


CLASSES: Final[Mapping[str, Class]] = {
    "serial": Class("serial ports of hardware", _is_serial, generated=True),
    "tty-usb": Class("serial ports of USB devices", _is_usb_serial),
    "video": Class("cameras, capture and codecs (V4L)", _of("video4linux"), generated=True),
    "input": Class("keyboards, mice, touch, joysticks", _of("input"), generated=True),
    "sound": Class("sound cards (ALSA)", _of("sound"), generated=True),
    "render": Class("GPUs for computing and rendering", _drm("renderD"), generated=True),
    "dri": Class("GPUs with their display side", _drm("renderD", "card")),
    "kvm": Class("virtual machines", _misc("kvm"), generated=True),
    "fuse": Class("file systems of user space", _misc("fuse"), generated=True),
    "tun": Class("virtual network interfaces", _misc("tun"), generated=True),
    "tpm": Class(
        "trusted platform modules",
        lambda device: device.subsystem in ("tpm", "tpmrm") or _misc("tpm0")(device),
        generated=True,
    ),
    "infiniband": Class("RDMA verbs, no management", _is_verbs, generated=True),
    "hidraw": Class("HID devices without a driver between", _of("hidraw")),
    "uinput": Class("making input devices", _misc("uinput")),
    "gpio": Class("GPIO chips", _of("gpio")),
    "i2c": Class("I2C buses", _of("i2c-dev")),
    "spi": Class("SPI devices", _of("spidev")),
    "usb": Class("whole USB devices, by their bus nodes", _of("usb")),
    "block": Class("block devices", _of("block")),
}

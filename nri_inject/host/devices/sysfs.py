"""Devices, read from /sys, which has them without udev.

Only small files of the kernel are read: directory entries, `uevent` files, the links `subsystem`
and `driver`, and attributes that every user may read. sysfs(5) and Linux's
Documentation/admin-guide/sysfs-rules.rst define which of it is stable. libudev, too, takes the next
directory upwards with a `uevent` file for the parent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Final

from nri_inject.host.devices import udev
from nri_inject.host.devices.device import Device, Part, SysfsNumber, Type
from nri_inject.text.paths import is_below

_KINDS: Final[Mapping[Type, str]] = {"c": "char", "b": "block"}
_MAX_BYTES: Final = 4096  # bytes of one file; an attribute has a page at most
_MAX_PARTS: Final = 64  # of a path in sysfs


class Sysfs:
    """The devices of a host whose file tree is below `root`.

    A part that several devices have in common, such as a hub, is made once; `forget` it when the
    kernel says that it has changed.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._parts: dict[str, Part | None] = {}

    def numbers(self) -> Iterator[SysfsNumber]:
        """Yield what has a number: all that can have a node."""
        for kind, directory in _KINDS.items():
            try:
                names = os.listdir(f"{self._root}/sys/dev/{directory}")
            except OSError:
                continue
            for name in names:
                major, _, minor = name.partition(":")
                if major.isdecimal() and minor.isdecimal():
                    yield kind, int(major), int(minor)

    def device(self, number: SysfsNumber) -> Device | None:
        """Return the device that the kernel has under a number now; None without a node."""
        kind, major, minor = number
        link = f"/sys/dev/{_KINDS[kind]}/{major}:{minor}"
        syspath = self._syspath(link)
        if syspath is None:
            return None
        uevent = self._uevent(syspath)
        path = _node_path(uevent.get("DEVNAME", ""))
        if path is None:
            return None
        device = Device(
            path=path,
            type=kind,
            major=major,
            minor=minor,
            subsystem=self._link_name(syspath, "subsystem"),
            devtype=uevent.get("DEVTYPE", ""),
            syspath=syspath,
            chain=cache(partial(self._chain, syspath)),
        )
        return self.renewed(device)

    def renewed(self, device: Device) -> Device:
        """Return the device with its udev properties unread, so that the next lookup reads them."""
        return replace(device, properties=cache(partial(self._properties, device)))

    def forget(self, syspath: str) -> None:
        """Drop a part, and what is below it, from the cache."""
        for known in [path for path in self._parts if is_below(path, syspath)]:
            del self._parts[known]

    def _syspath(self, link: str) -> str | None:
        try:
            target = os.readlink(self._root + link)  # the exact text
        except OSError:
            return None
        # ../../devices/..., as the kernel writes it.
        syspath = "/" + target.removeprefix("../../")
        return syspath if is_syspath(syspath) else None

    def _chain(self, syspath: str) -> tuple[Part, ...]:
        parts: list[Part] = []
        while syspath != "/devices" and syspath:
            if syspath not in self._parts:
                self._parts[syspath] = self._part(syspath)
            part = self._parts[syspath]
            if part is not None:
                parts.append(part)
            syspath = syspath.rpartition("/")[0]
        return tuple(parts)

    def _part(self, syspath: str) -> Part | None:
        directory = f"{self._root}/sys{syspath}"
        if not os.path.exists(f"{directory}/uevent"):  # noqa: PTH110 - for each of 5,000
            return None
        subsystem = self._link_name(syspath, "subsystem")
        return Part(
            name=syspath.rpartition("/")[2],
            subsystem=subsystem,
            # Only USB has parents of several types.
            devtype=self._uevent(syspath).get("DEVTYPE", "") if subsystem == "usb" else "",
            driver=self._link_name(syspath, "driver"),
            attributes=Attributes(directory),
        )

    def _properties(self, device: Device) -> Mapping[str, str]:
        own = {
            **_usb_ids(device.chain()),
            **self._uevent(device.syspath),
            "DEVNAME": device.path,
            "DEVPATH": device.syspath,
            "SUBSYSTEM": device.subsystem,
        }
        return own if self._root else {**own, **udev.properties(device.syspath)}

    def _uevent(self, syspath: str) -> dict[str, str]:
        text = _read(f"{self._root}/sys{syspath}/uevent")
        if text is None:
            return {}
        pairs = (line.partition("=") for line in text.splitlines())
        return {key: value for key, equals, value in pairs if equals}

    def _link_name(self, syspath: str, name: str) -> str:
        try:
            target = os.readlink(f"{self._root}/sys{syspath}/{name}")
        except OSError:
            return ""
        return target.rpartition("/")[2]


class Attributes(Mapping[str, str]):
    """The attributes of a device in sysfs, by file name, read at the first lookup and then cached.

    Only regular files that every user may read count, without trailing white space and up to 4096
    bytes: otherwise a pod could find out root's secrets by trying selectors. Links are not
    followed. Names that do not exist are not cached, so lookups cannot make the cache grow.
    """

    __slots__ = ("_directory", "_known")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            if "/" in name or name in ("", ".", ".."):
                raise KeyError(name)
            value = _read(f"{self._directory}/{name}")
            if value is None:
                raise KeyError(name)
            self._known[name] = value.rstrip()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names of what can be read."""
        return (name for name in sorted(_names(self._directory)) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def is_syspath(path: str) -> bool:
    """Tell whether a path is a device's in sysfs, and leads nowhere else."""
    parts = path.split("/")
    return path.startswith("/devices/") and ".." not in parts and len(parts) <= _MAX_PARTS


def _node_path(name: str) -> str | None:
    name = name.removeprefix("/dev/")
    if not name or name.startswith("/") or ".." in name.split("/"):
        return None
    return f"/dev/{name}"


def _usb_ids(chain: tuple[Part, ...]) -> dict[str, str]:
    """Return what udev's usb_id would find, as far as it needs no table."""
    ids: dict[str, str] = {}
    for part in chain:
        if part.subsystem == "usb" and part.devtype in _USB_IDS:
            for name, attribute in _USB_IDS[part.devtype].items():
                if attribute in part.attributes:
                    ids[name] = part.attributes[attribute]
            if part.devtype == "usb_device":
                return {**ids, "ID_BUS": "usb"}
    return {}


_USB_IDS: Final[Mapping[str, Mapping[str, str]]] = {
    "usb_interface": {"ID_USB_INTERFACE_NUM": "bInterfaceNumber"},
    "usb_device": {
        "ID_VENDOR_ID": "idVendor",
        "ID_MODEL_ID": "idProduct",
        "ID_REVISION": "bcdDevice",
        "ID_SERIAL_SHORT": "serial",
    },
}


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(path: str) -> str | None:
    """Return what a small file says that everybody may read; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) or not mode & stat.S_IROTH:
            return None
        return os.read(descriptor, _MAX_BYTES).decode(errors="replace")
    except OSError:  # the device has gone, or has no such thing to tell
        return None
    finally:
        os.close(descriptor)

"""The devices of a host at one moment, and which of them has a number.

`read` looks at a host once; `source` keeps an inventory current.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from nri_inject.host.devices.device import Device, SysfsNumber, Type, natural
from nri_inject.host.devices.sysfs import Sysfs
from nri_inject.host.walk import MAX_LINKS
from nri_inject.text.paths import clean


@dataclass(frozen=True)
class Inventory:
    """Devices in the natural order of their paths. Only `inventory` functions make one."""

    devices: tuple[Device, ...] = ()

    def __iter__(self) -> Iterator[Device]:
        """Yield the devices in order."""
        return iter(self.devices)

    def of_number(self, kind: str, major: int, minor: int) -> Device | None:
        """Return the device that a node with these numbers opens, whatever the node is called."""
        return self._by_number.get((kind, major, minor))

    def of_path(self, path: str) -> Device | None:
        """Return the device that has this path."""
        return self._by_path.get(path)

    @cached_property
    def _by_number(self) -> Mapping[tuple[str, int, int], Device]:
        return {device.number: device for device in self.devices}

    @cached_property
    def _by_path(self) -> Mapping[str, Device]:
        return {path: device for device in self.devices for path in device.paths}


def read(root: str = "/") -> Inventory:
    """Look at a host's devices, its file tree being below `root`."""
    sysfs = Sysfs(root)
    found = (sysfs.device(number) for number in sysfs.numbers())
    return assemble([device for device in found if device is not None], walk(root))


@dataclass(frozen=True, slots=True)
class Tree:
    """What there is below /dev: links with their targets, and nodes with their numbers."""

    links: Mapping[str, str]
    nodes: Mapping[str, SysfsNumber]


def assemble(devices: Iterable[Device], tree: Tree) -> Inventory:
    """Make an inventory of what sysfs and what /dev has.

    A second node of a known number is one more path of the device, as a link is. A node whose
    number sysfs does not know is a device without a driver.
    """
    by_number = {device.number: device for device in devices}
    by_path = {device.path: device.number for device in by_number.values()}
    others: dict[SysfsNumber, list[str]] = {}
    for path, number in tree.nodes.items():
        if number not in by_number:
            by_number[number] = Device(path, *number)
            by_path[path] = number
        elif by_path.setdefault(path, number) == number and by_number[number].path != path:
            others.setdefault(number, []).append(path)
    for link in tree.links:
        end = behind(link, tree.links, by_path)
        if end is not None and by_number[end].path != link:
            others.setdefault(end, []).append(link)
    linked = (
        replace(device, links=links) if device.links != links else device
        for device in by_number.values()
        for links in [tuple(sorted(others.get(device.number, ()), key=natural))]
    )
    return Inventory(tuple(sorted(linked, key=lambda device: natural(device.path))))


def behind(
    path: str, links: Mapping[str, str], known: Mapping[str, SysfsNumber]
) -> SysfsNumber | None:
    """Return the number of the device that a link of `Tree.links` leads to, None if it does not."""
    for _ in range(MAX_LINKS):
        if path in known or path not in links:
            break
        path = links[path]
    return known.get(path)


# --- /dev ---------------------------------------------------------------------------------------

_MAX_ENTRIES: Final = 100_000
_MAX_DEPTH: Final = 8
_TYPES: Final[Mapping[int, Type]] = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def walk(root: str = "/") -> Tree:
    """List all that is below /dev, without opening any of it.

    Other file systems that are mounted there, such as /dev/shm, are not entered: any user can write
    to them.
    """
    root = root.rstrip("/")
    links: dict[str, str] = {}
    nodes: dict[str, SysfsNumber] = {}
    try:
        home = os.stat(f"{root}/dev/.").st_dev
    except OSError:
        return Tree(links, nodes)
    pending = ["/dev"]
    left = _MAX_ENTRIES
    while pending and left > 0:
        directory = pending.pop()
        for entry in _entries(root + directory):
            left -= 1
            path = f"{directory}/{entry.name}"
            if entry.is_symlink():
                links.update(_link(entry, path))
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            if stat.S_ISDIR(status.st_mode):
                if status.st_dev == home and path.count("/") < _MAX_DEPTH:
                    pending.append(path)
            elif kind := _TYPES.get(stat.S_IFMT(status.st_mode)):
                nodes[path] = (kind, os.major(status.st_rdev), os.minor(status.st_rdev))
    return Tree(links, nodes)


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _link(entry: os.DirEntry[str], path: str) -> dict[str, str]:
    try:
        target = os.readlink(entry.path)  # the exact text
    except OSError:
        return {}
    # By its text: what directories in /dev are links to others, udev's links do not lead through.
    return {path: clean(posixpath.join(posixpath.dirname(path), target))}

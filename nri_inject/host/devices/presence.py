"""Whether the host still has a device of a number, and whether it is the same one."""

from __future__ import annotations

import os
from collections.abc import Iterable

from nri_inject.host.model import Number
from nri_inject.host.nodes import HostNumbers


def registration(number: Number, root: str = "/") -> int:
    """Return what the kernel's entry of a number is known by, 0 if there is none.

    It is the inode number of the link in sysfs. The kernel gives these numbers in turn, so it is
    another one after a device was unplugged, also if the next device has the same number. `root` is
    where the host's file tree is.
    """
    kind, major, minor = number
    directory = "block" if kind == "b" else "char"
    try:
        return os.lstat(f"{root.rstrip('/')}/sys/dev/{directory}/{major}:{minor}").st_ino
    except OSError:
        return 0


def gone(numbers: Iterable[Number], root: str = "/") -> frozenset[Number]:
    """Return the numbers that neither the kernel nor a node below /dev has.

    Some drivers, such as NVIDIA's, have nodes and no entry in sysfs. Where /dev has no node at all,
    it cannot be seen, and nothing is known to be gone. `root` is where the host's file tree is.
    """
    known = HostNumbers(root)
    unknown = frozenset(number for number in numbers if number not in known)
    if not unknown:
        return unknown
    from nri_inject.host.devices.inventory import walk  # seldom needed, and it lists /dev

    nodes = frozenset(walk(root).nodes.values())
    return unknown - nodes if nodes else frozenset()

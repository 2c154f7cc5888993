"""Which numbers of devices the host has no device for."""

from __future__ import annotations

from collections.abc import Iterable

from nri_inject.host.model import Number
from nri_inject.host.nodes import HostNumbers


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

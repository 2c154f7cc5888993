"""The links to a device where udev's database is not to be had: looked for in /dev itself.

udev lists in its database which links it made to a device. It is missing in a container that does
not have the host's /run/udev, and on hosts without udev.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final

from nri_inject.host.model import DeviceNode, NotADevice, Number
from nri_inject.text.budget import Lookup

DATABASE: Final = "/run/udev/data"

# udev's rules put links into these (udev 257, rules.d), whatever is plugged in at the moment.
_LINKED: Final = ("/by-", "/dev/disk/", "/dev/mapper/")


def has_database(root: str = "/") -> bool:
    """Tell whether there is a database of udev below `root`; an empty one is none."""
    try:
        with os.scandir(f"{root.rstrip('/')}{DATABASE}") as records:
            return next(records, None) is not None
    except OSError:
        return False


class LinkedNumbers(Lookup[Number, tuple[str, ...]]):
    """The names of `numbers`, and those in /dev where udev's database is missing; for one request.

    /dev is listed once, when the first device is requested. A link counts if it leads to the
    device, inside `root` and by `nodes`, and only root could have put it there.
    """

    def __init__(
        self,
        numbers: Mapping[Number, tuple[str, ...]],
        nodes: Mapping[str, DeviceNode],
        root: str = "/",
    ) -> None:
        self._numbers = numbers
        self._nodes = nodes
        self._root = root
        self._found: Mapping[Number, list[str]] | None = None

    def __getitem__(self, number: Number) -> tuple[str, ...]:
        names = self._numbers[number]
        if self._found is None:
            self._found = {} if has_database(self._root) else _by_number(self._root)
        found = self._found.get(number, ())
        return (*names, *(path for path in found if path not in names and self._is(path, number)))

    def _is(self, path: str, number: Number) -> bool:
        try:
            node = self._nodes[path]
        except (KeyError, NotADevice):  # gone meanwhile
            return False
        return node.number == number and node.doubt is None


def _by_number(root: str) -> Mapping[Number, list[str]]:
    """Return what in /dev is a device or leads to one."""
    from nri_inject.host.devices.inventory import behind, walk  # most nodes have udev

    tree = walk(root)
    found: dict[Number, list[str]] = {}
    for path, number in tree.nodes.items():
        found.setdefault(number, []).append(path)
    for link in tree.links:
        number_behind = behind(link, tree.links, tree.nodes)
        if number_behind is not None:
            found.setdefault(number_behind, []).append(link)
    return found


def first_link(paths: Iterable[str], root: str = "/") -> str | None:
    """Return the first path that names a link to a device, None if none does."""
    root = root.rstrip("/")
    for path in paths:
        if path.startswith("/dev/") and (
            any(part in path for part in _LINKED) or _is_link(root + path)
        ):
            return path
    return None


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False

"""An inventory that is kept current by what kernel and udev say, once somebody has asked for it.

Nothing is looked at, and nothing is loaded for it, before: most nodes have no pod that asks.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nri_inject.devices import udev, uevents
from nri_inject.devices.device import Device, Number
from nri_inject.devices.inventory import Inventory, Tree, assemble, walk
from nri_inject.devices.sysfs import Sysfs
from nri_inject.devices.uevents import Uevent, Uevents
from nri_inject.watch import Watch

log = logging.getLogger(__name__)


class HostInventory:
    """The host's devices at the moment when they are asked for: a source of `command`.

    Every message that has come is taken before an answer, and /dev is listed for its links, so
    what had happened before is in it. `root` is where the host's file tree is seen.
    """

    def __init__(self, root: str = "/", listen: Callable[[], Uevents] = uevents.listen) -> None:
        self._root = root
        self._listen = listen
        self._readable = select.epoll()
        self._live: _Live | None = None

    def current(self) -> Callable[[], Inventory]:
        """Return the function that looks: an injector calls it if it must."""
        return self.inventory

    def inventory(self) -> Inventory:
        """Return the devices as they are now."""
        if self._live is None:
            self._live = _open(self._root, self._listen)
            for descriptor in self._live.descriptors():
                self._readable.register(descriptor, select.EPOLLIN)
        self._live.refresh()
        return self._live.inventory()

    def fileno(self) -> int:
        """Return a descriptor that can be read when something has happened to a device."""
        return self._readable.fileno()

    def ready(self) -> None:
        """Look at the devices that something has happened to."""
        if self._live is not None:
            self._live.refresh()

    def close(self) -> None:
        """Give the descriptors back. Closing it again does nothing."""
        self._readable.close()
        if self._live is not None:
            self._live.close()
            self._live = None


def _open(root: str, listen: Callable[[], Uevents]) -> _Live:
    try:
        events = listen()
    except OSError as error:
        log.warning("no events of the kernel (%s): each look is at all devices", error.strerror)
        events = None
    # The database of udev is only read where libudev looks for it. In a network namespace of our
    # own, where udev's messages are not heard, a change of it is what tells that rules have run.
    database = Watch([udev.DATABASE]) if root == "/" else None
    return _Live(root, Sysfs(root), events, database)


@dataclass(slots=True)
class _Live:
    """What is remembered of the devices; `_scan` and `_look` read them."""

    root: str
    sysfs: Sysfs
    events: Uevents | None
    database: Watch | None
    devices: dict[Number, Device] = field(default_factory=dict)
    tree: Tree | None = None
    known: Inventory | None = None

    def __post_init__(self) -> None:
        self._scan()

    def descriptors(self) -> Iterator[int]:
        if self.events is not None:
            yield self.events.fileno()
        if self.database is not None:
            yield self.database.fileno()

    def close(self) -> None:
        for source in (self.events, self.database):
            if source is not None:
                source.close()

    def refresh(self) -> None:
        """Take what has come, and look at the devices that it is about; at all if some is lost."""
        events = None if self.events is None else self.events.take()
        renewed = self.database is not None and self.database.changed()
        if events is None:
            self._scan()
        elif events:
            self._look(events)
        if renewed:
            self.devices = {n: self.sysfs.renewed(d) for n, d in self.devices.items()}
            self.known = None

    def inventory(self) -> Inventory:
        tree = walk(self.root)
        if self.known is None or tree != self.tree:
            self.tree = tree
            self.known = assemble(self.devices.values(), tree)
        return self.known

    def _scan(self) -> None:
        self.sysfs = Sysfs(self.root)
        self.devices = {}
        self._read(self.sysfs.numbers())

    def _look(self, events: Iterable[Uevent]) -> None:
        paths = {event.syspath for event in events}
        for path in paths:
            self.sysfs.forget(path)
        # What is below has a chain that leads through it.
        below = [n for n, device in self.devices.items() if _touched(device, paths)]
        self._read({*below, *(event.number for event in events if event.number is not None)})

    def _read(self, numbers: Iterable[Number]) -> None:
        for number in numbers:
            device = self.sysfs.device(number)
            if device is None:
                self.devices.pop(number, None)
            else:
                self.devices[number] = device
        self.known = None


def _touched(device: Device, paths: set[str]) -> bool:
    path = device.syspath
    while path:
        if path in paths:
            return True
        path = path.rpartition("/")[0]
    return False

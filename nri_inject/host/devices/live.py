"""A cache of the host's devices, and the updates of it from the kernel's and udev's messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nri_inject.host.devices import udev, uevents
from nri_inject.host.devices.device import Device, SysfsNumber
from nri_inject.host.devices.inventory import Inventory, Tree, assemble, walk
from nri_inject.host.devices.sysfs import Sysfs
from nri_inject.host.devices.uevents import Uevent, Uevents
from nri_inject.host.watch import FileWatch

log = logging.getLogger(__name__)


def open_host(root: str, listen: Callable[[], Uevents] | None = None) -> Live:
    """Look at all devices, and listen for news before that; `listen` gives the messages."""
    try:
        events = (listen or uevents.listen)()
    except OSError as error:
        log.warning("no kernel events (%s): each request reads all devices", error.strerror)
        events = None
    # The database of udev is only read where libudev looks for it. In a network namespace of our
    # own, where udev's messages do not arrive, a change of it shows that rules have run.
    database = FileWatch([udev.DATABASE]) if root == "/" else None
    return Live(root, Sysfs(root), events, database)


# From here on a look at all devices takes less time than one at each that is named.
_MANY: Final = 100


@dataclass(slots=True)
class Live:
    """The devices as they were when news were last taken."""

    root: str
    sysfs: Sysfs
    events: Uevents | None
    database: FileWatch | None
    devices: dict[SysfsNumber, Device] = field(default_factory=dict)
    tree: Tree | None = None
    known: Inventory | None = None

    def __post_init__(self) -> None:
        """Look at all devices for the first time."""
        self._scan()

    def descriptors(self) -> Iterator[int]:
        """Yield what can be read when there are news."""
        if self.events is not None:
            yield self.events.fileno()
        if self.database is not None:
            yield self.database.fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        for source in (self.events, self.database):
            if source is not None:
                source.close()

    def refresh(self) -> None:
        """Take what has come, and look at the devices that it is about; at all if some is lost."""
        events = None if self.events is None else self.events.take()
        renewed = self.database is not None and self.database.changed()
        if events is None or len(events) > _MANY:
            self._scan()
        elif events:
            self._look(events)
        if renewed:
            self.devices = {n: self.sysfs.renewed(d) for n, d in self.devices.items()}
            self.known = None

    def inventory(self) -> Inventory:
        """Return the devices; the same value as before if nothing has changed."""
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

    def _read(self, numbers: Iterable[SysfsNumber]) -> None:
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

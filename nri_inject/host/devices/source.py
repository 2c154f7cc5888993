"""An inventory that kernel and udev messages keep current, from the first request for it on.

Before that, it reads and loads nothing: on most nodes no pod needs it.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nri_inject.host.devices.inventory import Inventory
    from nri_inject.host.devices.live import Live
    from nri_inject.host.devices.uevents import Uevents


class HostInventory:
    """The host's devices at the moment of a request: a `Source` of a service.

    All messages that have arrived are read before an answer, and /dev is listed for its links, so
    an answer includes every event before it. `root` is the directory of the host's file tree.
    """

    def __init__(self, root: str = "/", listen: Callable[[], Uevents] | None = None) -> None:
        self._root = root
        self._listen = listen
        self._readable = select.epoll()
        self._live: Live | None = None  # and its modules are not loaded

    def current(self) -> Callable[[], Inventory]:
        """Return the function that looks: an injector calls it if it must.

        It looks once. Each request gets a function of its own.
        """
        return cache(self.inventory)

    def inventory(self) -> Inventory:
        """Return the devices as they are now."""
        if self._live is None:
            from nri_inject.host.devices import live

            self._live = live.open_host(self._root, self._listen)
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

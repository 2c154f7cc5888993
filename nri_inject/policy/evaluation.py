"""What an adjustment is judged by: the host, the container, and where the host may be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nri_inject.api import Container
from nri_inject.host.model import DeviceNode, HostPath, Number
from nri_inject.host.views import Look
from nri_inject.text.budget import Budget

if TYPE_CHECKING:
    from nri_inject.host.devices.inventory import Inventory

MayLook = Callable[[str], bool]
"""Tell whether a path of the host may be looked at: not before some rule could allow it."""


class HostView(Protocol):
    """The part of a host that the policy looks at."""

    @property
    def devices(self) -> Mapping[str, DeviceNode]:
        """The device nodes by path."""

    @property
    def numbers(self) -> Mapping[Number, tuple[str, ...]]:
        """The host's own names of a device, by its number."""

    @property
    def files(self) -> Mapping[str, HostPath]:
        """The files and directories by path."""

    @property
    def inventory(self) -> Callable[[], Inventory] | None:
        """Looks at all devices of the host, if that is possible."""

    @property
    def views(self) -> Look:
        """Looks at the mounts of the host."""

    @property
    def budget(self) -> Budget:
        """Bounds what the request may cost."""


class Guarded(NamedTuple):
    """A view of the host with doubts about what containers could have written."""

    devices: Mapping[str, DeviceNode]
    numbers: Mapping[Number, tuple[str, ...]]
    files: Mapping[str, HostPath]
    inventory: Callable[[], Inventory] | None
    views: Look
    budget: Budget


class Evaluation(NamedTuple):
    """What is known of host and container, and where the host may be looked at."""

    host: HostView
    container: Container
    reaches_device: MayLook
    reaches_source: MayLook

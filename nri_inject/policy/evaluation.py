"""What an adjustment is judged by: the host, the container, and where the host may be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nri_inject.api import Container
from nri_inject.host.model import DeviceNode, HostPath, Number
from nri_inject.host.views import Look, nothing_elsewhere
from nri_inject.text.budget import UNLIMITED, Budget

if TYPE_CHECKING:
    from nri_inject.host.devices.inventory import Inventory

MayLook = Callable[[str], bool]
"""Tell whether a path of the host may be looked at: not before some rule could allow it."""


@dataclass(frozen=True, slots=True)
class HostView:
    """The part of a host that the policy reads.

    `numbers` has the host's own names of a device, `files` the files by path. `inventory` lists all
    devices of the host, for selectors. `views` reads the mounts, to find the other paths of a file.
    `budget` bounds the cost of the request.
    """

    devices: Mapping[str, DeviceNode]
    numbers: Mapping[Number, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    files: Mapping[str, HostPath] = field(default_factory=dict, kw_only=True)
    inventory: Callable[[], Inventory] | None = field(default=None, kw_only=True)
    views: Look = field(default=nothing_elsewhere, kw_only=True)
    budget: Budget = field(default=UNLIMITED, kw_only=True)


class Evaluation(NamedTuple):
    """What is known of host and container, and where the host may be looked at."""

    host: HostView
    container: Container
    reaches_device: MayLook
    reaches_source: MayLook

"""The world that an injector sees, as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi.registry import Snapshot
from nri_inject.hooks import Definition
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.model import DeviceNode, HostPath, Number
from nri_inject.host.nodes import HostDevices, HostFiles, HostNumbers
from nri_inject.host.views import Look, look, nothing_elsewhere
from nri_inject.policy.permit import Permit
from nri_inject.text.budget import UNLIMITED, Budget


def ignore_warning(_sentence: str) -> None:
    """Ignore a warning."""


@dataclass(frozen=True, slots=True)
class Host:
    """The world that an injector sees.

    `cdi` and `hooks` are what the node's spec and hook directories held when the container
    asked; a plugin that reads none of them has None and nothing. `numbers` has the host's own
    names of a device, `files` what is at a path. `inventory` looks at all devices of the host, for
    who asks for one by what it is, and `views` at the mounts, for who asks where else a file is.
    `permit` is what the policy grants the container that asks; None grants all of it. `budget`
    bounds what the request costs. `warn` is told, without the container's name, what somebody
    should look at.
    """

    devices: Mapping[str, DeviceNode]
    runtime: Runtime = NEWEST
    cdi: Snapshot | None = None
    hooks: Sequence[Definition] = ()
    numbers: Mapping[Number, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, HostPath] = field(default_factory=dict)
    permit: Permit | None = None
    budget: Budget = UNLIMITED
    inventory: Callable[[], Inventory] | None = None
    views: Look = nothing_elsewhere
    warn: Callable[[str], object] = ignore_warning


def real_host(runtime: Runtime = NEWEST, root: str = "/") -> Host:
    """Return the host whose file tree is below `root`, read at each lookup."""
    return Host(
        HostDevices(root),
        runtime,
        numbers=HostNumbers(root),
        files=HostFiles(root),
        views=partial(look, root),
    )

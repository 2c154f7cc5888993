"""The world that an injector sees, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi.registry import Snapshot
from nri_inject.hooks.definition import Definition
from nri_inject.host.nodes import HostDevices, HostFiles, HostNumbers
from nri_inject.host.views import look
from nri_inject.policy.evaluation import HostView
from nri_inject.policy.permit import Permit


def ignore_warning(_sentence: str) -> None:
    """Ignore a warning."""


@dataclass(frozen=True, slots=True)
class Host(HostView):
    """The world that an injector sees.

    `cdi` and `hooks` are what the node's spec and hook directories held when the container
    asked; a plugin that reads none of them has None and nothing. `permit` is what the policy
    grants the container that asks; None grants all of it. `warn` is told, without the container's
    name, what somebody should look at. `on_change` is told the path of each device at whose change
    the container is to be restarted.
    """

    runtime: Runtime = NEWEST
    cdi: Snapshot | None = None
    hooks: Sequence[Definition] = ()
    permit: Permit | None = None
    warn: Callable[[str], object] = ignore_warning
    on_change: Callable[[str], object] = ignore_warning


def real_host(runtime: Runtime = NEWEST, root: str = "/") -> Host:
    """Return the host whose file tree is below `root`, read at each lookup."""
    return Host(
        HostDevices(root),
        runtime,
        numbers=HostNumbers(root),
        files=HostFiles(root),
        views=partial(look, root),
    )

"""Inject the devices, mounts, limits and other things that a pod's annotations request.

The annotations and their meaning are those of NRI's device-injector and ulimit-adjuster (NRI 0.12).
Some values that those accept by accident are errors here: docs/differences.md lists all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from nri_inject import capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.device.devices import read_devices
from nri_inject.injectors.device.linux import (
    read_io_priority,
    read_memory_policy,
    read_net_devices,
    read_scheduler,
    read_sysctl,
    read_ulimits,
)
from nri_inject.injectors.device.mounts import read_mounts
from nri_inject.injectors.device.wish import Wish
from nri_inject.injectors.host import Host
from nri_inject.injectors.texts import read_text
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.fields import (
    Fault,
    Reader,
)
from nri_inject.text.words import plain


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationKind:
    """A kind of annotation.

    `name` is what a policy calls it. `read` makes a wish of the value, or None of one that asks
    for nothing; it raises Fault. `field` is the runtime's part that it needs, a key of
    runtimes.FIELDS if not every runtime has it.
    """

    name: str
    prefix: str
    old_prefix: str
    read: Reader[Wish | None]
    field: str


def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
    """Return what the pod's annotations request for it, and the policy allows.

    RequestError has the faults of every annotation; OverBudget comes alone.
    """
    found = _asked(pod, container)
    adjustment = Adjustment()
    faults: list[str] = []
    for kind, key, text in found:
        faults += _add(adjustment, kind, key, text, host, container)
    if faults:
        raise RequestError(faults, where=where(pod, container))
    if host.permit is None or not adjustment.ByteSize():
        return adjustment
    origins = {kind.name: key for kind, key, _ in found}
    return host.permit.filter(adjustment, host, origins)


def _asked(pod: Pod, container: Container) -> list[tuple[AnnotationKind, str, str]]:
    """Return the annotations that count for a container: kind, key and text."""
    annotations = pod.annotations
    # Most containers request nothing, and this runs for each of them.
    prefixes = {key.partition("/")[0] for key in annotations}
    if prefixes.isdisjoint(_PREFIXES):
        return []
    name = container_name(container)
    found = [
        (kind, find(annotations, kind.prefix, kind.old_prefix, name))
        for kind in KINDS
        if kind.prefix in prefixes or kind.old_prefix in prefixes
    ]
    return [(kind, *one) for kind, one in found if one is not None]


def _add(
    adjustment: Adjustment,
    kind: AnnotationKind,
    key: str,
    text: str,
    host: Host,
    container: Container,
) -> list[str]:
    """Add what one annotation requests, and return its faults."""
    spend = partial(host.budget.spend, f"annotation {plain(key)}: reading it")
    wish = read_text(kind.read, text, spend)
    if wish is None:
        return []
    faults = [*wish.sentences] if isinstance(wish, Fault) else []
    loss = capabilities.unsupported(kind.field, host.runtime)
    if loss is not None:
        faults.append(capabilities.sentence(loss, host.runtime))
    if not isinstance(wish, Fault):
        try:
            # Each kind has a field of its own, so there is nothing in the way.
            adjustment.MergeFrom(wish(host, container))
        except Fault as fault:
            faults += fault.sentences
    return [f"annotation {plain(key)}: {fault}" for fault in faults]


# --- the table ----------------------------------------------------------------------------------


def _kind(
    name: str, read: Reader[Wish | None], field: str = "", old_prefix: str | None = None
) -> AnnotationKind:
    """Return a kind; its prefixes are made of its name, and its field is called so, too."""
    word = name.replace("_", "-")
    old = f"{word}.nri.io" if old_prefix is None else old_prefix
    return AnnotationKind(name, f"{word}.noderesource.dev", old, read, field or name)


KINDS: Final = (
    _kind("devices", read_devices),
    _kind("mounts", read_mounts),
    _kind("io_priority", read_io_priority),
    _kind("scheduling_policy", read_scheduler, "scheduler"),
    _kind("network_devices", read_net_devices, "net_devices"),
    _kind("sysctl", read_sysctl, old_prefix=""),
    _kind("memory_policy", read_memory_policy),
    _kind("ulimits", read_ulimits, "rlimits", "ulimits.nri.containerd.io"),
)

_PREFIXES: Final = frozenset(
    prefix for kind in KINDS for prefix in (kind.prefix, kind.old_prefix) if prefix
)

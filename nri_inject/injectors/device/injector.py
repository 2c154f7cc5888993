"""Inject the devices, mounts, limits and other things that a pod's annotations request.

The annotations and their meaning are those of NRI's device-injector and ulimit-adjuster (NRI 0.12).
Some values that those accept by accident are errors here: docs/differences.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from nri_inject import capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors import keys
from nri_inject.injectors.compose import Injector, compose
from nri_inject.injectors.device.devices import read_devices
from nri_inject.injectors.device.linux import (
    read_io_priority,
    read_memory_policy,
    read_net_devices,
    read_scheduler,
    read_sysctl,
    read_ulimits,
    shared_sysctls,
)
from nri_inject.injectors.device.mounts import read_mounts
from nri_inject.injectors.device.wish import Wish
from nri_inject.injectors.elsewhere import at_key
from nri_inject.injectors.host import Host
from nri_inject.injectors.keys import Adopted, Other
from nri_inject.injectors.texts import read_text
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.fields import Fault, Problem, Reader
from nri_inject.text.words import plain
from nri_inject.text.yamltext import Value


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationKind:
    """A kind of annotation.

    `name` is what a policy calls it. `read` makes a wish of the value, or None of one that asks
    for nothing; it raises Fault. `field` is the runtime's part that it needs, a key of
    capabilities.FIELDS if not every runtime has it.
    """

    name: str
    prefix: str
    old_prefix: str
    read: Reader[Wish | None]
    field: str


def injecting(adopted: Adopted) -> Injector:
    """Return the injector for our annotations, and for those of the others that are adopted."""
    others = [
        partial(_inject, partial(_asked_as, other, kind))
        for other, kind in _OF_OTHERS
        if other.word in adopted
    ]
    return compose(inject, *others)


def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
    """Return what the pod's annotations request for it, and the policy allows.

    RequestError has the faults of every annotation; OverBudget comes alone.
    """
    # Most containers ask for nothing, and this runs for each of them.
    if {key.partition("/")[0] for key in pod.annotations}.isdisjoint(_PREFIXES):
        return Adjustment()
    return _inject(_asked, pod, container, host)


Effective: TypeAlias = Sequence[tuple["AnnotationKind", str, str]]
"""Annotations that count for a container: kind, key and text."""


def _inject(
    asked: Callable[[Pod, Container], Effective], pod: Pod, container: Container, host: Host
) -> Adjustment:
    found = asked(pod, container)
    adjustment = Adjustment()
    faults = keys.faults(pod.annotations, _PREFIXES) if asked is _asked else []
    for kind, key, text in found:
        faults += _add(adjustment, kind, key, text, host, container)
    faults += _unusable(adjustment, found, pod)
    if faults:
        raise RequestError(faults, where=where(pod, container))
    if host.permit is None or not adjustment.ByteSize():
        return adjustment
    origins = {kind.name: key for kind, key, _ in found}
    return host.permit.filter(adjustment, host, origins)


def _asked_as(other: Other, kind: AnnotationKind, pod: Pod, container: Container) -> Effective:
    """Return the annotation of another injector that counts for a container."""
    found = other.find(pod.annotations, container_name(container))
    return [] if found is None else [(kind, *found)]


def _unusable(adjustment: Adjustment, found: Effective, pod: Pod) -> list[str]:
    """Return what the container cannot have for itself."""
    wrong = shared_sysctls(adjustment, pod)
    keys = [key for kind, key, _ in found if kind.name == "sysctl"]
    return [f"annotation {plain(keys[0])}: {sentence}" for sentence in wrong]


def _asked(pod: Pod, container: Container) -> list[tuple[AnnotationKind, str, str]]:
    """Return the annotations that count for a container: kind, key and text."""
    annotations = pod.annotations
    prefixes = {key.partition("/")[0] for key in annotations}
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
    faults = [*wish.problems] if isinstance(wish, Fault) else []
    loss = capabilities.unsupported(kind.field, host.runtime)
    if loss is not None:
        faults.append(Problem("", (), capabilities.sentence(loss, host.runtime)))
    if not isinstance(wish, Fault):
        try:
            # Each kind has a field of its own, so there is nothing in the way.
            adjustment.MergeFrom(wish(_naming(host, key), container))
        except Fault as fault:
            faults += fault.problems
    return [at_key(key, fault) for fault in faults]


def _naming(host: Host, key: str) -> Host:
    """Return the host with warnings that name the annotation."""
    return replace(host, warn=lambda sentence: host.warn(f"annotation {plain(key)}: {sentence}"))


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


def _read_crio(value: Value) -> Wish | None:
    """Read CRI-O's list of devices: HOST:CONTAINER:LETTERS with commas between."""
    return read_devices([*keys.crio_items(value)] if isinstance(value, str) else value)


_OF_OTHERS: Final = (
    (keys.CRIO, AnnotationKind("devices", "", "", _read_crio, "devices")),
    (keys.GKE, AnnotationKind("devices", "", "", read_devices, "devices")),
)

_PREFIXES: Final = frozenset(
    prefix for kind in KINDS for prefix in (kind.prefix, kind.old_prefix) if prefix
)

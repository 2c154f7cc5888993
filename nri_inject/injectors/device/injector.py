"""Inject the devices, mounts, limits and other things that a pod's annotations request.

The annotations and their meaning are those of NRI's device-injector and ulimit-adjuster (NRI 0.12).
Some values that those accept by accident are errors here: docs/differences.md lists all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias

from nri_inject import capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.host import Host
from nri_inject.text import yamltext
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.budget import Budget, Spend
from nri_inject.text.fields import (
    Fault,
    Reader,
)
from nri_inject.text.words import plain

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    pass

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
    wish, sentences = _reading(kind, key, text, host.budget)
    if wish is None and not sentences:
        return []
    faults = list(sentences)
    loss = capabilities.unsupported(kind.field, host.runtime)
    if loss is not None:
        faults.append(capabilities.sentence(loss, host.runtime))
    if wish is not None:
        try:
            # Each kind has a field of its own, so there is nothing in the way.
            adjustment.MergeFrom(wish(host, container))
        except Fault as fault:
            faults += fault.sentences
    return [f"annotation {plain(key)}: {fault}" for fault in faults]


# --- reading texts ------------------------------------------------------------------------------

# Pods come in replicas, with the same few texts. What is made of a text can be many times as long
# only by aliases. A text with the mark of one is read again each time, and so is a long one, so
# that even the worst texts together take no more than some 4 MiB.
_LONGEST_REMEMBERED: Final = 4096
_MOST_REMEMBERED: Final = 32

# A wrong word is compared with all known ones, to say which of them was meant.
_STEPS_PER_FAULT: Final = 50


# What a text requests, None if nothing or if something is wrong with it; and what is wrong.
Reading: TypeAlias = tuple[Wish | None, tuple[str, ...]]


def _reading(kind: AnnotationKind, key: str, text: str, budget: Budget) -> Reading:
    spend = partial(budget.spend, f"annotation {plain(key)}: reading it")
    if len(text) > _LONGEST_REMEMBERED or "*" in text:
        return _read(kind, text, spend)
    reading, steps = _remembered(kind, text)
    spend(steps)
    return reading


def _read(kind: AnnotationKind, text: str, spend: Spend) -> Reading:
    try:
        value = yamltext.load(text, spend=spend)
        return (None if value is None else kind.read(value)), ()
    except yamltext.YamlError as error:
        return None, (str(error),)
    except Fault as fault:
        spend(len(fault.sentences) * _STEPS_PER_FAULT)
        return None, fault.sentences


@lru_cache(maxsize=_MOST_REMEMBERED)
def _remembered(kind: AnnotationKind, text: str) -> tuple[Reading, int]:
    """Return a reading, and the steps that it costs each container, cached or not."""
    steps: list[int] = []
    return _read(kind, text, steps.append), sum(steps)


# --- the table ----------------------------------------------------------------------------------

_NEW: Final = "noderesource.dev"
_OLD: Final = "nri.io"

KINDS: Final = (
    AnnotationKind("devices", f"devices.{_NEW}", f"devices.{_OLD}", read_devices, "devices"),
    AnnotationKind("mounts", f"mounts.{_NEW}", f"mounts.{_OLD}", read_mounts, "mounts"),
    AnnotationKind(
        "io_priority",
        f"io-priority.{_NEW}",
        f"io-priority.{_OLD}",
        read_io_priority,
        "io_priority",
    ),
    AnnotationKind(
        "scheduling_policy",
        f"scheduling-policy.{_NEW}",
        f"scheduling-policy.{_OLD}",
        read_scheduler,
        "scheduler",
    ),
    AnnotationKind(
        "network_devices",
        f"network-devices.{_NEW}",
        f"network-devices.{_OLD}",
        read_net_devices,
        "net_devices",
    ),
    AnnotationKind("sysctl", f"sysctl.{_NEW}", "", read_sysctl, "sysctl"),
    AnnotationKind(
        "memory_policy",
        f"memory-policy.{_NEW}",
        f"memory-policy.{_OLD}",
        read_memory_policy,
        "memory_policy",
    ),
    AnnotationKind(
        "ulimits", f"ulimits.{_NEW}", "ulimits.nri.containerd.io", read_ulimits, "rlimits"
    ),
)

_PREFIXES: Final = frozenset(
    prefix for kind in KINDS for prefix in (kind.prefix, kind.old_prefix) if prefix
)

"""The mark on a container that a plugin has served: an annotation with the container's id.

A runtime reports the annotation with the container, also to a plugin that has been restarted. The
id is random and chosen by the runtime, so that no pod's author can write the mark beforehand. After
the id the mark has the devices that the plugin gave, as they were then: type, numbers, and what the
kernel's entry of the device was known by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from nri_inject.api import Adjustment, Container
from nri_inject.host.model import Number

PREFIX: Final = "served.noderesource.dev/"
"""Begins the annotation's key; the plugin's name follows, so that each plugin has its own mark."""

MAX_DEVICES: Final = 64
"""How many devices a mark has; what became of further ones is not found."""

MAX_PATH: Final = 256
"""How many characters the path of such a device may have."""

_TYPES: Final = frozenset({"b", "c"})


class GivenDevice(NamedTuple):
    """A device that a container was given; `registration` is 0 if the kernel has no entry of it."""

    type: str
    major: int
    minor: int
    registration: int

    @property
    def number(self) -> Number:
        """The key of a device: type, major and minor."""
        return self[:3]


def put(
    adjustment: Adjustment,
    container: Container,
    plugin: str,
    registration: Callable[[Number], int] = lambda _: 0,
) -> None:
    """Add a plugin's mark to what it gives to a container."""
    if container.id:
        given = {
            path: GivenDevice(*number, registration(number)) for path, number in _given(adjustment)
        }
        devices = f" {json.dumps(given, separators=(',', ':'))}" if given else ""
        adjustment.annotations[PREFIX + plugin] = container.id + devices


def is_on(container: Container, plugin: str) -> bool:
    """Tell whether a container has the mark of a plugin."""
    return _is_mark(container.annotations, PREFIX + plugin, container.id)


def is_on_by_any(container: Container) -> bool:
    """Tell whether a container has the mark of any plugin."""
    annotations = container.annotations
    return any(
        key.startswith(PREFIX) and _is_mark(annotations, key, container.id) for key in annotations
    )


def is_alone(adjustment: Adjustment) -> bool:
    """Tell whether an adjustment has marks and nothing else."""
    fields = {descriptor.name for descriptor, _ in adjustment.ListFields()}
    return (
        "annotations" in fields <= {"annotations", "linux"}
        and not adjustment.linux.ListFields()
        and all(key.startswith(PREFIX) for key in adjustment.annotations)
    )


def devices(container: Container, plugin: str) -> Mapping[str, GivenDevice]:
    """Return the devices that a plugin gave to a container, by their paths in it."""
    if not is_on(container, plugin):
        return {}
    text = container.annotations[PREFIX + plugin].partition(" ")[2]
    try:
        given = json.loads(text) if text else {}
        return {path: GivenDevice(*device) for path, device in given.items()}
    except (AttributeError, TypeError, ValueError):  # of another version
        return {}


def _given(adjustment: Adjustment) -> Iterator[tuple[str, Number]]:
    """Yield the first devices of an adjustment; a path with a dash removes one."""
    for device in adjustment.linux.devices[:MAX_DEVICES]:
        if device.type in _TYPES and device.path.startswith("/") and len(device.path) <= MAX_PATH:
            yield device.path, (device.type, device.major, device.minor)


def _is_mark(annotations: Mapping[str, str], key: str, container_id: str) -> bool:
    return container_id != "" and annotations.get(key, "").partition(" ")[0] == container_id

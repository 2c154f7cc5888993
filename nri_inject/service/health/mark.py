"""The mark on a container that a plugin has served: an annotation with the container's id.

A runtime reports the annotation with the container, also to a plugin that has been restarted. The
id is random and chosen by the runtime, so that no pod's author can write the mark beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject.api import Adjustment, Container

PREFIX: Final = "served.noderesource.dev/"
"""Begins the annotation's key; the plugin's name follows, so that each plugin has its own mark."""


def put(adjustment: Adjustment, container: Container, plugin: str) -> None:
    """Add a plugin's mark to what it gives to a container."""
    if container.id:
        adjustment.annotations[PREFIX + plugin] = container.id


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


def _is_mark(annotations: Mapping[str, str], key: str, container_id: str) -> bool:
    return container_id != "" and annotations.get(key) == container_id

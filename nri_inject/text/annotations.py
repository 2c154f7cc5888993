"""Which annotation counts for a container, and how errors name the container.

The keys and their order are those of NRI's sample plugins (device-injector of NRI 0.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject.api import Container, Pod
from nri_inject.text.words import plain

_NAME_LABEL: Final = "io.kubernetes.container.name"


def candidates(prefix: str, old_prefix: str, container: str) -> tuple[str, ...]:
    """Return the keys that may hold a container's annotation, the one that counts first.

    `old_prefix` is the deprecated one; it may be empty.
    """
    prefixes = (prefix, old_prefix) if old_prefix else (prefix,)
    scopes = (f"/container.{container}", "/pod", "")
    return tuple(f"{name}{scope}" for scope in scopes for name in prefixes)


def find(
    annotations: Mapping[str, str], prefix: str, old_prefix: str, container: str
) -> tuple[str, str] | None:
    """Return key and text of the annotation that counts.

    It is the first that exists, even if there is nothing in it; others are not looked at.
    """
    for key in candidates(prefix, old_prefix, container):
        if key in annotations:
            return key, annotations[key]
    return None


def effective_annotation(pod: Pod, container: Container, key: str) -> str | None:
    """Return the text of the pod's annotation `key` that counts for a container; None without one.

    `key/container.NAME` counts before `key/pod`, and that before `key`, as in NRI's own plugins
    (GetEffectiveAnnotation in pkg/plugin of NRI 0.12). An annotation may be empty.
    """
    found = find(pod.annotations, key, "", container_name(container))
    return None if found is None else found[1]


def container_name(container: Container) -> str:
    """Return the name that annotations call the container by."""
    return container.name or container.labels.get(_NAME_LABEL, "")


def image_name(container: Container) -> str:
    """Return the name of a container's image, empty if the runtime does not report it.

    NRI has a field from 0.12.2 on (containerd 2.4). Older runtimes have an annotation of their own
    on the container.
    """
    if container.image.name:
        return container.image.name
    annotations = container.annotations
    key = next((key for key in _IMAGE_KEYS if key in annotations), "")
    return annotations[key] if key else ""


IMAGE_KEY: Final = "io.kubernetes.cri.image-name"
"""The annotation in which containerd names a container's image."""
_IMAGE_KEYS: Final = (IMAGE_KEY, "io.kubernetes.cri-o.ImageName")


def where(pod: Pod, container: Container) -> str:
    """Name the container for the beginning of an error."""
    name = container_name(container)
    return f"pod {plain(pod.namespace)}/{plain(pod.name)}, container {plain(name)}"

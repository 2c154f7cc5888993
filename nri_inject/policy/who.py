"""The containers that a rule applies to, by the facts that a runtime reports of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from nri_inject.policy.labels import LabelSelector
from nri_inject.text.glob import Pattern


class Subject(NamedTuple):
    """The container, and the plugin that requests for it; an empty plugin is any plugin.

    The cluster decides about namespace and handler. The pod's author chooses the labels, the names
    and the image.
    """

    namespace: str
    labels: Mapping[str, str]
    runtime_handler: str
    container: str
    plugin: str
    pod: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Who:
    """The containers that a rule applies to; None means all.

    With `any_namespace` a rule without namespaces may give by facts that the pod's author chooses.
    """

    namespaces: tuple[Pattern, ...] | None = None
    pods: LabelSelector | None = None
    runtime_handlers: tuple[Pattern, ...] | None = None
    containers: tuple[Pattern, ...] | None = None
    plugins: tuple[Pattern, ...] | None = None
    pod_names: tuple[Pattern, ...] | None = None
    images: tuple[Pattern, ...] | None = None
    any_namespace: bool = field(default=False, compare=False)

    def applies_to(self, subject: Subject) -> bool:
        """Tell whether the rule speaks of a container."""
        return _one_matches(self.namespaces, subject.namespace) and self.includes(subject)

    def includes(self, subject: Subject) -> bool:
        """Tell whether the rule speaks of a container, whose namespace is one of its own."""
        return (
            _one_matches(self.runtime_handlers, subject.runtime_handler)
            and _one_matches(self.containers, subject.container)
            and (not subject.plugin or _one_matches(self.plugins, subject.plugin))
            and _one_matches(self.pod_names, subject.pod)
            and (self.pods is None or self.pods.matches(subject.labels))
            and (self.images is None or self._has_image(subject.image))
        )

    def differs(self, subject: Subject) -> str:
        """Say why the rule does not speak of a container in one of its namespaces."""
        if self.pods is not None and not self.pods.matches(subject.labels):
            return "it is for pods with other labels"
        if not _one_matches(self.pod_names, subject.pod):
            return "it is for pods with other names"
        if not _one_matches(self.containers, subject.container):
            return "it is for other containers"
        if not _one_matches(self.runtime_handlers, subject.runtime_handler):
            return "it is for another runtime handler"
        if self.images is not None and not self._has_image(subject.image):
            return "it is for other images"
        return "it is for other plugins"

    def _has_image(self, image: str) -> bool:
        return any(_one_matches(self.images, name) for name in image_names(image))


def _one_matches(patterns: tuple[Pattern, ...] | None, text: str) -> bool:
    return patterns is None or any(pattern.matches(text) for pattern in patterns)


@lru_cache(maxsize=64)
def image_names(image: str) -> tuple[str, ...]:
    """Return all names of an image: with and without its tag or digest, and Docker's short forms.

    `docker.io/library/nginx:1.29` is also `nginx:1.29` and `nginx`, as in distribution/reference.
    """
    if not image:
        return ()
    first, slash, rest = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", image
    if first == "docker.io":
        rest = rest.removeprefix("library/")
    shorts = [rest] if first == "docker.io" else []
    library = "library/" if first == "docker.io" and "/" not in rest else ""
    found = [f"{first}/{library}{rest}", *shorts]
    tagged = [name.partition("@")[0] for name in found]
    bare = [_without_tag(name) for name in tagged]
    return tuple(dict.fromkeys([*found, *tagged, *bare]))


def _without_tag(name: str) -> str:
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"

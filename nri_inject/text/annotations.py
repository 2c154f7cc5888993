"""Which annotation counts for a container, and how errors name the container.

The keys and their order are those of NRI's sample plugins (device-injector of NRI 0.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject.api import Container, Pod
from nri_inject.text.fields import Fault, Problem
from nri_inject.text.flow import advice, annotation
from nri_inject.text.words import plain, quoted

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


def container_name(container: Container) -> str:
    """Return the name that annotations call the container by."""
    return container.name or container.labels.get(_NAME_LABEL, "")


def where(pod: Pod, container: Container) -> str:
    """Name the container for the beginning of an error."""
    name = container_name(container)
    return f"pod {plain(pod.namespace)}/{plain(pod.name)}, container {plain(name)}"


# --- what another annotation requests -----------------------------------------------------------

_ELSEWHERE: Final = "other-annotation"


def elsewhere(text: str, what: str, prefix: str, value: object) -> Problem:
    """Return the problem of a text that is `what`, which the annotation `prefix` requests."""
    sentence = f"{quoted(text)} is {what}, which the annotation {prefix} requests"
    return Problem(_ELSEWHERE, (), sentence, {"prefix": prefix, "value": advice(value)})


def at_key(key: str, problem: Problem) -> str:
    """Return the sentence of what is wrong in an annotation, with the annotation to write."""
    (sentence,) = Fault(problem).sentences
    hint = ""
    if problem.code == _ELSEWHERE:
        scope = key[len(key.partition("/")[0]) :]
        prefix, value = problem.details["prefix"], problem.details["value"]
        hint = f"; write {annotation(f'{prefix}{plain(scope)}', value)}"
    return f"annotation {plain(key)}: {sentence}{hint}"

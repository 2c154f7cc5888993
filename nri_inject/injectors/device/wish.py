"""The request of an annotation after its text has been read, and the common parts of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

from nri_inject.api import Adjustment, Container
from nri_inject.injectors.host import Host
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    read_short_line,
)
from nri_inject.text.glob import MAX_PARTS
from nri_inject.text.paths import RELATIVE, container_path_fault
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

T = TypeVar("T")

# What a text requests, once it has been read. It stays unsaid until a host is there, because a
# device may be looked up, and a container, who may be its owner. Raises Fault. The result belongs
# to the wish: never hand it out.
Wish: TypeAlias = Callable[[Host, Container], Adjustment]


def constant(adjustment: Adjustment, _host: Host, _container: Container) -> Adjustment:
    """Return the adjustment, which is the same on every host."""
    return adjustment


def warned(
    adjustment: Adjustment, warnings: Sequence[str], host: Host, _container: Container
) -> Adjustment:
    """Return the adjustment, and warn of what was left open in it."""
    for warning in warnings:
        host.warn(warning)
    return adjustment


def unique(items: Iterable[tuple[str, object, T]]) -> list[T]:
    """Keep one of the items that mean the same.

    An item is what the runtime tells it by, what it means, and itself. NRI refuses a key that
    comes twice in one answer, equal or not.
    """
    meanings: dict[str, object] = {}
    kept: list[T] = []
    twice: dict[str, None] = {}
    for key, meaning, item in items:
        if key not in meanings:
            meanings[key] = meaning
            kept.append(item)
        elif meanings[key] != meaning:
            twice[key] = None
            if len(twice) >= MAX_FAULTS:
                break
    if twice:
        raise Fault(*(f"{quoted(key)} is requested twice with different values" for key in twice))
    return kept


# --- paths --------------------------------------------------------------------------------------


def container_path(value: Value) -> str:
    """Read a path for the container. One with a leading dash would remove something instead."""
    path = read_short_line(value)
    if path.count("/") > MAX_PARTS:
        raise Fault(f"{quoted(path)} contains more than {MAX_PARTS} slashes")
    if why := container_path_fault(path):
        raise Fault(f"{quoted(path)} {why}")
    return path


def check_absolute(path: str) -> None:
    """Raise Fault for a path that is not absolute."""
    if not path.startswith("/"):
        raise Fault(f"{quoted(path)} {RELATIVE}")

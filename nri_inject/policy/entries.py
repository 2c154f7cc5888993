"""How the entries of a rule are read: a text, or a map of what must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    map_of,
    read_line,
    wrong_type,
)
from nri_inject.text.glob import Pattern, pattern
from nri_inject.text.paths import clean
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

E = TypeVar("E")


def read_pattern(value: Value) -> Pattern:
    """Read a pattern of names."""
    return pattern(read_line(value))


def read_path_pattern(value: Value) -> Pattern:
    """Read a pattern of absolute paths."""
    found = read_pattern(value)
    text = found.text
    if not text.startswith("/") or text != clean(text):
        raise Fault(f"{quoted(text)} is not an absolute path without '.', '..' and doubled slashes")
    return found


def entries(
    record: Callable[..., E], name: str, *more: Field, read: Reader[Pattern] = read_pattern
) -> Reader[E]:
    """Return a reader of entries that are a text, or a map with the text under `name`."""
    read_map = map_of((Field(name, read, to="pattern"), *more), strict=True)
    keys = ", ".join((name, *(field.name for field in more)))

    def read_entry(value: Value) -> E:
        if value is None:
            raise wrong_type(value, f"a text or a map with {keys}")
        if not isinstance(value, dict):
            return record(read(value))
        given = read_map(value)
        if not given:
            raise Fault(f"{name} is missing")
        return record(**given)

    return read_entry

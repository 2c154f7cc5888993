"""Read the maps of a policy: nothing in them is left open by a value that was forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from nri_inject.text.annotations import Fault, Field, Reader, Values, map_of, plain
from nri_inject.text.yamltext import Value


def strict_map(fields: Sequence[Field]) -> Reader[Values]:
    """Return a reader of maps that takes no key without a value.

    A key that is left out widens a rule on purpose; one whose value was deleted by mistake must
    not do the same.
    """
    read = map_of(fields)

    def read_strictly(value: Value) -> Values:
        if isinstance(value, dict):
            empty = [key for key, item in value.items() if item is None]
            if empty:
                raise Fault(*(f"{plain(key)}: nothing instead of a value" for key in empty))
        return read(value)

    return read_strictly

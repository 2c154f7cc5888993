"""The plugins that have set the fields of containers, as NRI's adaptation remembers them.

A plugin owns what it has set: a field, or one key of a field that has keys. A second claim is a
conflict, also with an equal value, also by the same plugin. What a plugin cleared before is its
to set.
"""

from __future__ import annotations

from typing import Any, Final

from nri_inject import api
from nri_inject.errors import NriError

MARK: Final = "-"
"""What a key begins with when a plugin wants the entry removed."""


class Conflict(NriError):
    """Two plugins want to set the same thing; or one of them does so twice.

    `plugin` came later. `other` owns the field, its name has a leading `-` when it cleared the
    field. `field` is a name of enum Field, `key` is empty for a field without keys.
    """

    def __init__(self, plugin: str, other: str, field: str, key: str) -> None:
        self.plugin = plugin
        self.other = other
        self.field = field
        self.key = key
        what = f"{field} {key}".rstrip()
        removed, owner = unmarked(other)
        super().__init__(
            f'plugin "{plugin}" tried to set {what}, which plugin "{owner}" removed'
            if removed
            else f'plugins "{plugin}" and "{owner}" both tried to set {what}'
        )


def unmarked(key: str) -> tuple[bool, str]:
    """Tell whether a key has the removal mark, and give the key without it."""
    return key.startswith(MARK), key.removeprefix(MARK)


class Owners:
    """The owner of each field, by container; a cleared one is its clearer's, or free."""

    def __init__(self, *, remembers_removals: bool = True) -> None:
        self.message = api.OwningPlugins()
        self._remembers_removals = remembers_removals

    def claim(self, container: str, plugin: str, field: int, key: str | None = None) -> None:
        """Make the plugin the owner, or raise Conflict; `key` is None for a simple field."""
        owner = self._get(container, field, key)
        if owner not in {"", MARK + plugin}:
            raise Conflict(plugin, owner, api.Field.Name(field), key or "")
        self._set(container, field, key, plugin)

    def clear(self, container: str, plugin: str, field: int, key: str | None = None) -> None:
        """Give the field to this plugin, whatever its owner."""
        self._set(container, field, key, MARK + plugin if self._remembers_removals else "")

    def join(self, container: str, plugin: str, field: int) -> None:
        """Add the plugin to a field's owners."""
        owner = self._get(container, field, None)
        self._set(container, field, None, f"{owner},{plugin}".lstrip(","))

    def _get(self, container: str, field: int, key: str | None) -> str:
        table, entry = self._place(container, field, key)
        return str(table.get(entry, ""))

    def _set(self, container: str, field: int, key: str | None, owner: str) -> None:
        table, entry = self._place(container, field, key)
        table[entry] = owner

    def _place(self, container: str, field: int, key: str | None) -> tuple[Any, int | str]:
        owners = self.message.owners[container]
        return (owners.simple, field) if key is None else (owners.compound[field].owners, key)

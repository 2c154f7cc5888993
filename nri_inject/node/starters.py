"""What starts a plugin of ours on a node: an entry of the runtime's directory, or a systemd unit.

Two starters of one plugin make two plugins, which both inject a device, and the runtime then fails
every container that requests one. The suite has the single injectors in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from nri_inject.errors import ConfigError
from nri_inject.node import files, texts
from nri_inject.node.install import Program
from nri_inject.node.record import UNITS, InstalledPath, is_unchanged
from nri_inject.node.runtime import Node
from nri_inject.plugins.programs import PROGRAMS, SUITE
from nri_inject.text.names import split_plugin

SINGLE_INJECTORS: Final = frozenset({"device-injector", "cdi-injector", "hook-injector"})
"""The plugins that the suite has in it."""

_UNIT_DIRECTORIES: Final = (UNITS, "/usr/lib/systemd/system", "/lib/systemd/system")


def starters(node: Node) -> Iterator[tuple[str, str]]:
    """Yield the path of each starter, and the name of its plugin."""
    for name in files.names(node.root, node.nri.plugins):
        plugin = _plugin_of(split_plugin(name)[1])
        if plugin:
            yield f"{node.nri.plugins}/{name}", plugin
    seen: set[str] = set()
    for directory in _UNIT_DIRECTORIES:
        for script in PROGRAMS:
            unit = f"{directory}/{script}.service"
            where = files.resolve(node.root, unit)
            if where.exists() and str(where) not in seen:
                seen.add(str(where))
                yield unit, _plugin_of(script)


def is_same(one: str, other: str) -> bool:
    """Tell whether two plugins inject the same things, so that one of them is too many."""
    return one == other or (SUITE in (one, other) and not {one, other}.isdisjoint(SINGLE_INJECTORS))


def replaced(
    node: Node,
    recorded: Sequence[InstalledPath],
    programs: Sequence[Program],
    planned: Sequence[str],
) -> list[InstalledPath]:
    """Return what an installation of programs takes the place of, with the configuration.

    `planned` are the paths of the new installation. ConfigError for a starter that is not ours to
    remove.
    """
    known = {entry.path: entry for entry in recorded}
    gone: list[InstalledPath] = []
    for path, plugin in starters(node):
        if path in planned or not any(is_same(plugin, program.name) for program in programs):
            continue
        entry = known.get(path)
        if entry is None or not is_unchanged(node.root, entry):
            raise ConfigError(
                f"{path} starts the plugin {plugin} already, and this program did not write it:"
                " with two plugins every container that requests a device fails; remove it first"
            )
        gone.append(entry)
    configurations = [_configuration_of(node, entry.path) for entry in gone]
    return [*gone, *(known[path] for path in configurations if path in known.keys() - {*planned})]


def _configuration_of(node: Node, path: str) -> str:
    """Return the configuration that only this starter uses; of units that is one file."""
    directory, _, name = path.rpartition("/")
    if directory == node.nri.plugins:
        return f"{node.nri.configurations}/{name}.conf"
    return texts.CONFIG_FILE


def _plugin_of(name: str) -> str:
    """Return the plugin of a program's or a plugin's name; empty text if it is none of ours."""
    script = name if name in PROGRAMS else f"nri-{name}"
    if script not in PROGRAMS:
        return ""
    return script if script == SUITE else script.removeprefix("nri-")

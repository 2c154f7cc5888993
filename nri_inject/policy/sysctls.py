"""The names of sysctls: one way of writing each, and the other names of the same setting. Pure.

From Linux 6.12: net/ipv4/devinet.c and sysctl_net_ipv4.c, net/ipv6/addrconf.c,
net/core/neighbour.c, net/netfilter/nf_conntrack_standalone.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from nri_inject.text.glob import Pattern

_SAME: Final = (
    ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"),
    ("net.ipv4.route.gc_min_interval", "net.ipv4.route.gc_min_interval_ms"),
    ("net.ipv6.route.gc_min_interval", "net.ipv6.route.gc_min_interval_ms"),
    ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max"),
)
# Directories that have one directory for each network interface, and the interfaces `all` and
# `default`, which stand for all there are and for those to come.
_PER_INTERFACE: Final = ("net.ipv4.conf", "net.ipv6.conf", "net.ipv4.neigh", "net.ipv6.neigh")
_EVERY_INTERFACE: Final = ("all", "default")
# Settings of neighbours that can be written in two units.
_UNITS: Final = ("base_reachable_time", "retrans_time")
_MAX_SETTING: Final = 255  # characters; NAME_MAX of Linux


def normal(key: str) -> str:
    """Return a sysctl's name with single dots, whichever way it was written.

    runc and crun take net/core/x, and net..core.x too, for net.core.x.
    """
    return ".".join(part for part in re.split("[./]", key) if part)


class Setting(NamedTuple):
    """What one name sets: names that set it, too, or a part of it.

    `families` are beginnings and ends of more of them, with any interface's name between.
    """

    names: tuple[str, ...]
    families: tuple[tuple[str, str], ...]


def touches(pattern: Pattern, name: str) -> bool:
    """Tell whether what a name sets is also set by a name that the pattern stands for."""
    setting = setting_of(name)
    return any(map(pattern.matches, setting.names)) or any(
        pattern.meets(head, tail) for head, tail in setting.families
    )


@lru_cache(maxsize=8)
def setting_of(name: str) -> Setting:
    """Return what a normal name sets.

    `all` and `default` set it for every interface, and the other way round a setting of one
    interface is a part of theirs. A setting of another interface is another one.
    """
    names: dict[str, None] = {}
    families: list[tuple[str, str]] = []
    for one in _synonyms(name):
        names[one] = None
        directory, interface, setting = _of_interface(one)
        if not interface:
            continue
        for every in _EVERY_INTERFACE:
            names |= dict.fromkeys(_synonyms(f"{directory}.{every}.{setting}"))
        if interface in _EVERY_INTERFACE:
            families.append((f"{directory}.", f".{setting}"))
    return Setting(tuple(names), tuple(families))


def _of_interface(name: str) -> tuple[str, str, str]:
    """Return directory, interface and setting of a name, three empty texts if it has none."""
    for directory in _PER_INTERFACE:
        if name.startswith(f"{directory}."):
            interface, _, setting = name[len(directory) + 1 :].rpartition(".")
            if len(setting) <= _MAX_SETTING:
                return directory, interface, setting
    return "", "", ""


def _synonyms(name: str) -> Iterator[str]:
    """Yield a name and those that set exactly the same."""
    yield name
    for group in _SAME:
        if name in group:
            yield from (other for other in group if other != name)
    directory, interface, setting = _of_interface(name)
    plain = setting.removesuffix("_ms")
    if plain in _UNITS:
        other = plain if setting.endswith("_ms") else f"{plain}_ms"
        yield f"{directory}.{interface}.{other}"

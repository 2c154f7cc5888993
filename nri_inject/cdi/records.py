"""The records of a CDI spec: what a sound file says, and the versions that it can have.

Keys and their meaning are those of CDI 0.3.0 to 1.1.0. Texts that are absent are empty, numbers
are None. Named tuples, because a node may have ten thousand devices, and a frozen dataclass takes
three times as long to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

VERSIONS: Final = (
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.4.0",
    "0.5.0",
    "0.6.0",
    "0.7.0",
    "0.8.0",
    "1.0.0",
    "1.1.0",
)
"""The versions that CDI has released; the first two are known, but no file can have them."""


class SpecNode(NamedTuple):
    """An entry of deviceNodes; `host_path` empty means `path`."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class NetDevice(NamedTuple):
    """An entry of netDevices (CDI 1.1.0)."""

    host_interface_name: str
    name: str


class Mount(NamedTuple):
    """An entry of mounts."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(NamedTuple):
    """An entry of hooks; `timeout` in seconds."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class IntelRdt(NamedTuple):
    """The object intelRdt (CDI 0.7.0); `schemata` of None differs from an empty list."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] | None = None
    enable_monitoring: bool = False


class Edits(NamedTuple):
    """What a device, or a whole file, changes in a container; `env` has `NAME=value`."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[SpecNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    intel_rdt: IntelRdt | None = None
    additional_gids: tuple[int, ...] = ()


NO_EDITS: Final = Edits()
NO_ANNOTATIONS: Final[Mapping[str, str]] = {}


class SpecDevice(NamedTuple):
    """An entry of devices; `name` is the part after the equals sign."""

    name: str
    edits: Edits
    annotations: Mapping[str, str] = NO_ANNOTATIONS


class Spec(NamedTuple):
    """A sound spec. `minimum` is the lowest version that has all that it uses."""

    version: str
    kind: str
    devices: tuple[SpecDevice, ...]
    edits: Edits
    annotations: Mapping[str, str]
    minimum: str

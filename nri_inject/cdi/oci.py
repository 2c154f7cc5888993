"""Edit an OCI runtime specification as CDI does, for `nri-inject cdi inject`.

The result is what the Go library (tags.cncf.io/container-device-interface, main branch after
1.1.0) makes of it; docs/differences-cdi.md lists where it is not.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from nri_inject.cdi.lookup import CdiError, collect, look_up
from nri_inject.cdi.nodes import Completed, NodeFault, complete
from nri_inject.cdi.records import Edits, IntelRdt, Mount
from nri_inject.cdi.records import SpecNode as SpecNode
from nri_inject.cdi.registry import Snapshot
from nri_inject.host.hook_environment import environment
from nri_inject.host.model import DeviceNode
from nri_inject.text.fields import wrong_type

Oci: TypeAlias = dict[str, Any]
T = TypeVar("T")


def inject(
    oci: Mapping[str, Any],
    wanted: Iterable[str],
    snapshot: Snapshot,
    devices: Mapping[str, DeviceNode],
) -> Oci:
    """Return the specification with the edits of these devices in it; `oci` is not changed.

    CdiError has all unknown names, or all nodes that cannot be made, or names the part of the
    specification that is not valid in OCI.
    """
    found = look_up(wanted, snapshot)
    result = copy.deepcopy({**oci})
    if not found:
        return result
    edits = collect(found)
    nodes = _completed(edits.device_nodes, devices)
    for edit in (_env, _net_devices, _mounts, _hooks, _rdt, _gids):
        edit(result, edits)
    for node in nodes:
        _node(result, node)
    return result


def _completed(given: Sequence[SpecNode], devices: Mapping[str, DeviceNode]) -> list[Completed]:
    nodes = [complete(node, devices) for node in given]
    faults = [node for node in nodes if isinstance(node, NodeFault)]
    if faults:
        raise CdiError([fault.sentence for fault in faults], nodes=faults)
    return [node for node in nodes if isinstance(node, Completed)]


_WORDS: Final = {dict: "a map", list: "a list", str: "text", int: "a number"}


def _checked(value: object, kind: type[T], place: str) -> T:
    if not isinstance(value, kind):
        raise CdiError([f"OCI spec: {place}: {wrong_type(value, _WORDS[kind])}"])
    return value


def _section(oci: Oci, *keys: str) -> Oci:
    """Return a section, made if it is missing or null."""
    for number, key in enumerate(keys, 1):
        if oci.get(key) is None:
            oci[key] = {}
        oci = _checked(oci[key], dict, ".".join(keys[:number]))
    return oci


def _known(oci: Oci, kind: type[T], *keys: str) -> T:
    """Return the value at a place, or an empty one if there is none; nothing is created."""
    found: object = oci
    for number, key in enumerate(keys):
        found = _checked(found, dict, ".".join(keys[:number])).get(key)
        if found is None:
            return kind()
    return _checked(found, kind, ".".join(keys))


def _items(oci: Oci, kind: type[T], *keys: str) -> list[T]:
    """Return a list of things of one kind, made if it is missing or null."""
    section = _section(oci, *keys[:-1])
    if section.get(keys[-1]) is None:
        section[keys[-1]] = []
    place = ".".join(keys)
    items: list[T] = _checked(section[keys[-1]], list, place)
    for index, item in enumerate(items):
        _checked(item, kind, f"{place}[{index}]")
    return items


def _env(oci: Oci, edits: Edits) -> None:
    """Replace variables in their places, and append the others; of a doubled one, the last."""
    if not edits.env:
        return
    env = _items(oci, str, "process", "env")
    places = {entry.partition("=")[0]: place for place, entry in enumerate(env)}
    for entry in edits.env:
        name = entry.partition("=")[0]
        if name in places:
            env[places[name]] = entry
        else:
            places[name] = len(env)
            env.append(entry)


def _node(oci: Oci, node: Completed) -> None:
    devices = _items(oci, dict, "linux", "devices")
    devices[:] = [device for device in devices if device.get("path") != node.path]
    owners = {
        name: given if given is not None else _known(oci, int, "process", "user", name) or None
        for name, given in (("uid", node.uid), ("gid", node.gid))
    }
    # runc makes no node of type `u`; to Linux it is a character device like others.
    kind = node.type.replace("u", "c")
    numbers = {"major": node.major, "minor": node.minor}
    if kind == "p":  # which has none; what the spec says of them all the same stays
        numbers = {name: number for name, number in numbers.items() if number}
    given = {"path": node.path, "type": kind, **numbers, "fileMode": node.file_mode, **owners}
    devices.append({key: value for key, value in given.items() if value is not None})
    # runc refuses a rule without access, and one for any other type.
    if kind in ("b", "c") and node.access:
        rules = _items(oci, dict, "linux", "resources", "devices")
        rules.append({"allow": True, "type": kind, **numbers, "access": node.access})


def _net_devices(oci: Oci, edits: Edits) -> None:
    for device in edits.net_devices:
        section = _section(oci, "linux", "netDevices")
        section[device.host_interface_name] = {"name": device.name}


def _mounts(oci: Oci, edits: Edits) -> None:
    if not edits.mounts:
        return
    mounts = _items(oci, dict, "mounts")
    spaces = _known(oci, list, "linux", "namespaces")
    mapped = any(
        _checked(space, dict, "linux.namespaces").get("type") == "user" for space in spaces
    )
    for mount in edits.mounts:
        for place, old in enumerate(mounts):
            if old.get("destination") == mount.container_path:
                del mounts[place]
                break
        mounts.append(_mount(mount, mapped))
    mounts.sort(key=_depth)


def _mount(mount: Mount, mapped: bool) -> Oci:
    options = [*mount.options]
    if mapped and not {"idmap", "ridmap"} & {*options}:
        kind = "bind" if mount.type == "bind" else ""
        for option in options:
            kind = option if option in ("bind", "rbind") else kind
        if kind:
            options.append("ridmap" if kind == "rbind" else "idmap")
    given = {
        "destination": mount.container_path,
        "type": mount.type,
        "source": mount.host_path,
        "options": options,
    }
    return {key: value for key, value in given.items() if value}


def _depth(mount: Oci) -> int:
    """Count the slashes of a destination, cleaned as Go's filepath.Clean does it."""
    destination = _known(mount, str, "destination")
    if destination.startswith("/"):
        destination = f"/{destination.lstrip('/')}"  # Python leaves two, as POSIX has it
    return posixpath.normpath(destination).count("/")


def _hooks(oci: Oci, edits: Edits) -> None:
    for hook in edits.hooks:
        given = {
            "path": hook.path,
            "args": [*hook.args] or None,
            "env": [*environment(hook.env)],
            "timeout": hook.timeout,
        }
        entry = {key: value for key, value in given.items() if value is not None}
        _items(oci, dict, "hooks", hook.hook_name).append(entry)


def _rdt(oci: Oci, edits: Edits) -> None:
    if edits.intel_rdt is not None:
        _section(oci, "linux")["intelRdt"] = _rdt_object(edits.intel_rdt)


def _rdt_object(rdt: IntelRdt) -> Oci:
    given = {
        "closID": rdt.clos_id,
        "schemata": [*rdt.schemata] if rdt.schemata else None,
        "l3CacheSchema": rdt.l3_cache_schema,
        "memBwSchema": rdt.mem_bw_schema,
        "enableMonitoring": rdt.enable_monitoring,
    }
    return {key: value for key, value in given.items() if value}


def _gids(oci: Oci, edits: Edits) -> None:
    for gid in edits.additional_gids:
        if not gid:
            continue
        gids = _items(oci, int, "process", "user", "additionalGids")
        if gid not in gids:
            gids.append(gid)

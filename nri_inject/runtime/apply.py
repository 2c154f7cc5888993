"""An adjustment applied to an OCI runtime spec, and NRI messages in the words of that spec.

It does what runtimes do, so that a dry run shows what a container would get, with what gets
lost on the way. In one point it differs: where an annotation, a sysctl or a network device is
both removed and set, which is how a plugin takes one over, the value wins here. A runtime walks
these in random order and so loses the value now and then.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.runtime.owners import unmarked
from nri_inject.text.names import NAMESPACES

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

OciSpec = dict[str, Any]
"""An OCI runtime spec, or a part of one, as `json.load` gives it."""

# Most fields have the name in the OCI spec that they have in protobuf JSON; these have not.
_SPELLED_OTHERWISE = {
    "clos_id": "closID",
    "default_errno": "defaultErrnoRet",
    "disable_oom_killer": "disableOOMKiller",
    "kernel_tcp": "kernelTCP",
}

# The OCI spec writes these even when they are zero, protobuf does not list them then.
_WRITTEN_AT_ZERO: dict[str, OciSpec] = {
    "HugepageLimit": {"pageSize": "", "limit": 0},
    "LinuxDevice": {"path": "", "type": "", "major": 0, "minor": 0},
    "LinuxDeviceCgroup": {"allow": False},
    "LinuxIOPriority": {"class": "IOPRIO_CLASS_NONE", "priority": 0},
    "LinuxMemoryPolicy": {"mode": "MPOL_DEFAULT", "nodes": ""},
    "LinuxNamespace": {"type": ""},
    "LinuxPids": {"limit": 0},
    "LinuxScheduler": {"policy": "SCHED_NONE"},
    "LinuxSeccomp": {"defaultAction": ""},
    "LinuxSeccompArg": {"index": 0, "value": 0, "op": ""},
    "LinuxSyscall": {"names": [], "action": ""},
    "Mount": {"destination": ""},
    "POSIXRlimit": {"type": "", "hard": 0, "soft": 0},
    "User": {"uid": 0, "gid": 0},
}


def in_oci(message: Message) -> OciSpec:
    """Write one message in the words of the OCI runtime spec; wrappers become their value."""
    spec = dict(_WRITTEN_AT_ZERO.get(message.DESCRIPTOR.name, {}))
    for field, value in message.ListFields():
        name = _SPELLED_OTHERWISE.get(field.name, field.json_name)
        spec[name] = _value(field, value)
    return spec


def _value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return _unwrapped(value)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _value(entry, value[key]) for key in sorted(value)}
    if isinstance(value, str | bytes | int | float):
        return _scalar(field, value)
    return [in_oci(one) if isinstance(one, Message) else _scalar(field, one) for one in value]


def _unwrapped(message: Message) -> Any:
    if message.DESCRIPTOR.name.startswith("Optional"):
        value = message.value  # type: ignore[attr-defined]  # every wrapper has this one field
        return list(value) if message.DESCRIPTOR.name == "OptionalRepeatedString" else value
    return in_oci(message)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is None:
        return value
    known = field.enum_type.values_by_number.get(value)
    return known.name if known is not None else ""  # what the reference makes of unknown numbers


@dataclass(frozen=True, slots=True)
class Resolvers:
    """How a runtime resolves classes: into `linux.resources.blockIO`, into `linux.intelRdt`.

    A function raises an NriError for a class that it does not know.
    """

    blockio: Callable[[str], OciSpec]
    rdt: Callable[[str], OciSpec]


CdiInjector = Callable[[OciSpec, Sequence[str]], OciSpec]
"""Give a spec with the CDI devices of these names; raise an NriError for unknown names."""


@dataclass(frozen=True, slots=True)
class _RuntimeHost:
    """What the runtime brings along."""

    propagation: Mapping[str, str] | None
    cdi: CdiInjector | None
    resolvers: Resolvers | None


def apply(
    oci_spec: OciSpec,
    adjustment: api.Adjustment,
    *,
    propagation: Mapping[str, str] | None = None,
    cdi: CdiInjector | None = None,
    resolvers: Resolvers | None = None,
) -> OciSpec:
    """Give the spec with the adjustment applied, or raise NriError as creation would fail.

    `propagation` has the host's mount points with `rshared`, `rslave` or an empty text; None
    means that the host is not looked at and nothing is refused for it. CDI names and classes
    are passed over without `cdi` and `resolvers`, as runtimes without them do.
    """
    spec = copy.deepcopy(oci_spec)
    host = _RuntimeHost(propagation, cdi, resolvers)
    for part in _PARTS:
        spec = part(spec, adjustment, host) or spec
    return spec


def _annotations(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    _change_mapping(spec, "annotations", dict(adjustment.annotations))


def _change_mapping(parent: OciSpec, name: str, changes: Mapping[str, Any]) -> None:
    if not changes:
        return
    entries = parent.setdefault(name, {})
    for key in changes:
        marked, key_without = unmarked(key)
        if marked:
            entries.pop(key_without, None)
    entries.update({key: value for key, value in changes.items() if not unmarked(key)[0]})
    _drop_empty(parent, name)


def _env(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    """Set and remove variables; what is no variable gets lost when there is anything to do."""
    if not adjustment.env:
        return
    entries = (entry.partition("=") for entry in _process(spec).get("env", ()))
    values = {name: value for name, equals, value in entries if name and equals}
    for variable in {unmarked(each.key)[1]: each for each in adjustment.env}.values():
        marked, name = unmarked(variable.key)
        if marked:
            values.pop(name, None)
        elif name:
            values[name] = variable.value
    _process(spec)["env"] = [f"{name}={value}" for name, value in values.items()]
    _drop_empty(_process(spec), "env")


def _args(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    if adjustment.args:
        _process(spec)["args"] = list(adjustment.args)


def _hooks(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    for stage, hooks in in_oci(adjustment.hooks).items():
        spec.setdefault("hooks", {}).setdefault(stage, []).extend(hooks)


def _cdi(spec: OciSpec, adjustment: api.Adjustment, host: _RuntimeHost) -> OciSpec | None:
    # The injector comes here and not last, so CDI's variables follow the plugin's, and the
    # plugin's devices and mounts replace CDI's.
    names = [device.name for device in adjustment.CDI_devices]
    return host.cdi(spec, names) if host.cdi and names else None


def _devices(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    for device in adjustment.linux.devices:
        marked, path = unmarked(device.path)
        devices = _linux(spec).setdefault("devices", [])
        devices[:] = [each for each in devices if each.get("path") != path]
        if not marked:
            devices.append(in_oci(device))
            # Runtimes never take a rule back, so that of a replaced device stays.
            _rules(spec).append(_allow(device))
        _drop_empty(_linux(spec), "devices")


def _allow(device: api.LinuxDevice) -> OciSpec:
    # Without m the container cannot make the node itself: it has it already.
    return {
        "allow": True,
        "type": device.type,
        "major": device.major,
        "minor": device.minor,
        "access": "rwm" if device.type == "b" else "rw",
    }


def _cgroup(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    linux = adjustment.linux
    if linux.cgroups_path:
        _linux(spec)["cgroupsPath"] = linux.cgroups_path
    if linux.HasField("oom_score_adj"):
        _process(spec)["oomScoreAdj"] = linux.oom_score_adj.value


def _scheduling(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    linux = adjustment.linux
    if linux.HasField("io_priority"):
        priority = in_oci(linux.io_priority)
        clears = priority["class"] in {"", "IOPRIO_CLASS_NONE"}
        _set_or_clear(_process(spec), "ioPriority", None if clears else priority)
    if linux.HasField("scheduler"):
        scheduler = in_oci(linux.scheduler)
        clears = scheduler["policy"] == "SCHED_NONE"
        _set_or_clear(_process(spec), "scheduler", None if clears else scheduler)


def _seccomp(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    if adjustment.linux.HasField("seccomp_policy"):
        policy = in_oci(adjustment.linux.seccomp_policy)
        policy.pop("defaultErrnoRet", None)  # runtimes do not hand it on
        _linux(spec)["seccomp"] = policy


def _namespaces(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    for asked in adjustment.linux.namespaces:
        marked, kind = unmarked(asked.type)
        if kind not in NAMESPACES:
            raise NriError(f"unrecognized namespace '{kind}'; known: {', '.join(NAMESPACES)}")
        namespaces = _linux(spec).setdefault("namespaces", [])
        if marked:
            namespaces[:] = [each for each in namespaces if each["type"] != kind]
        else:
            _replace_or_append(namespaces, "type", in_oci(asked))
        _drop_empty(_linux(spec), "namespaces")


def _kernel_settings(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    linux = in_oci(adjustment.linux)
    for name in ("sysctl", "netDevices"):
        if name in linux:
            _change_mapping(_linux(spec), name, linux[name])


def _memory_policy(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    if adjustment.linux.HasField("memory_policy"):
        policy = in_oci(adjustment.linux.memory_policy)
        _set_or_clear(_linux(spec), "memoryPolicy", policy if policy["mode"] else None)


def _resources(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    asked = adjustment.linux.resources
    for name, change in _RESOURCES.items():
        if change_with := in_oci(asked).get(name):
            change(_linux(spec).setdefault("resources", {}), name, change_with)


def _update_mapping(resources: OciSpec, name: str, values: OciSpec) -> None:
    resources.setdefault(name, {}).update(values)


def _limit_memory(resources: OciSpec, name: str, values: OciSpec) -> None:
    """Set the limit, and swap to the same; runtimes leave out the other fields at creation."""
    if limit := values.get("limit"):
        _update_mapping(resources, name, {"limit": limit, "swap": limit})


def _limit_hugepages(resources: OciSpec, name: str, limits: list[OciSpec]) -> None:
    for limit in limits:
        _replace_or_append(resources.setdefault(name, []), "pageSize", limit)


def _limit_pids(resources: OciSpec, name: str, values: OciSpec) -> None:
    if values["limit"] != _NO_LIMIT:  # which does not lift a limit that is there
        _update_mapping(resources, name, values)


def _append_rules(resources: OciSpec, name: str, rules: list[OciSpec]) -> None:
    resources.setdefault(name, []).extend(rules)


def _classes(spec: OciSpec, adjustment: api.Adjustment, host: _RuntimeHost) -> None:
    asked, resolvers = adjustment.linux.resources, host.resolvers
    if resolvers and asked.HasField("blockio_class"):
        name = asked.blockio_class.value
        resources = _linux(spec).setdefault("resources", {})
        _set_or_clear(resources, "blockIO", resolvers.blockio(name) if name else None)
    if resolvers and asked.HasField("rdt_class"):
        name = asked.rdt_class.value
        _set_or_clear(_linux(spec), "intelRdt", resolvers.rdt(name) if name else None)


def _rdt(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    fields = in_oci(adjustment.linux.rdt)
    if fields.pop("remove", False):
        _linux(spec).pop("intelRdt", None)
    if fields:
        rdt = _linux(spec).setdefault("intelRdt", {}) | fields
        _linux(spec)["intelRdt"] = {name: value for name, value in rdt.items() if value}


def _mounts(spec: OciSpec, adjustment: api.Adjustment, host: _RuntimeHost) -> None:
    if not adjustment.mounts:
        return
    mounts = spec.setdefault("mounts", [])
    propagation = ""
    for asked in adjustment.mounts:
        marked, destination = unmarked(asked.destination)
        _remove_first(mounts, "destination", destination)
        if not marked:
            # What one mount says holds for the next ones that say nothing: so do runtimes.
            propagation = _propagation(asked.options) or propagation
            _propagate(spec, asked.source, propagation, host)
            mounts.append(in_oci(asked))
    mounts.sort(key=lambda mount: (_depth(mount["destination"]), mount["destination"]))
    _drop_empty(spec, "mounts")


def _propagation(options: Iterable[str]) -> str:
    words = [option for option in options if option in {"rprivate", "rshared", "rslave"}]
    return words[-1] if words else ""


def _propagate(spec: OciSpec, source: str, propagation: str, host: _RuntimeHost) -> None:
    """Check that the host can propagate mounts as asked, and make the root do it as well."""
    accepted = _PROPAGATES.get(propagation)
    if accepted is None:
        return
    if host.propagation is not None:
        found = _propagation_of(source, host.propagation)
        if found not in accepted:
            wanted = " or ".join(accepted)
            raise NriError(f"path '{source}' has mount propagation '{found}', not '{wanted}'")
    root = _linux(spec).get("rootfsPropagation")
    if propagation == "rshared" or root not in _PROPAGATES:
        _linux(spec)["rootfsPropagation"] = propagation


def _propagation_of(path: str, points: Mapping[str, str]) -> str:
    parents = [point for point in points if f"{path}/".startswith(f"{point.rstrip('/')}/")]
    return points[max(parents, key=len)] if parents else ""


def _depth(destination: str) -> int:
    return posixpath.normpath(destination).replace("//", "/").count("/")


def _rlimits(spec: OciSpec, adjustment: api.Adjustment, _: _RuntimeHost) -> None:
    if adjustment.rlimits:  # two of one type are possible then, though OCI forbids it
        limits = [in_oci(limit) for limit in adjustment.rlimits]
        _process(spec).setdefault("rlimits", []).extend(limits)


def _process(spec: OciSpec) -> OciSpec:
    process: OciSpec = spec.setdefault("process", {})
    return process


def _linux(spec: OciSpec) -> OciSpec:
    linux: OciSpec = spec.setdefault("linux", {})
    return linux


def _rules(spec: OciSpec) -> list[OciSpec]:
    rules: list[OciSpec] = _linux(spec).setdefault("resources", {}).setdefault("devices", [])
    return rules


def _set_or_clear(parent: OciSpec, name: str, value: OciSpec | None) -> None:
    if value is None:
        parent.pop(name, None)
    else:
        parent[name] = value


def _drop_empty(parent: OciSpec, name: str) -> None:
    """Leave out a list or mapping that became empty, as a runtime writes its spec."""
    if not parent[name]:
        del parent[name]


def _replace_or_append(entries: list[OciSpec], key: str, entry: OciSpec) -> None:
    for number, each in enumerate(entries):
        if each.get(key) == entry[key]:
            entries[number] = entry
            return
    entries.append(entry)


def _remove_first(entries: list[OciSpec], key: str, value: str) -> None:
    for number, each in enumerate(entries):
        if each.get(key) == value:
            del entries[number]
            return


_NO_LIMIT = -1
_PROPAGATES = {"rshared": ("rshared",), "rslave": ("rshared", "rslave")}

_RESOURCES: dict[str, Callable[[OciSpec, str, Any], None]] = {
    "cpu": _update_mapping,
    "memory": _limit_memory,
    "hugepageLimits": _limit_hugepages,
    "unified": _update_mapping,
    "pids": _limit_pids,
    "devices": _append_rules,
}

_PARTS: tuple[Callable[[OciSpec, api.Adjustment, _RuntimeHost], OciSpec | None], ...] = (
    _annotations,
    _env,
    _args,
    _hooks,
    _cdi,
    _devices,
    _cgroup,
    _scheduling,
    _seccomp,
    _namespaces,
    _kernel_settings,
    _memory_policy,
    _resources,
    _classes,
    _rdt,
    _mounts,
    _rlimits,
)
"""The parts of an adjustment in the order in which runtimes apply them."""

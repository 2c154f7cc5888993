"""The contents of an adjustment, item by item, as each is on the host.

An item is identified as the kernel will see it, and not by its name in the request: a device by its
number and the host's own names for that, a mount by its source with all links followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.policy import sysctls
from nri_inject.policy.device_items import devices_of
from nri_inject.policy.evaluation import Evaluation
from nri_inject.policy.kinds import Removal, Scheduling
from nri_inject.policy.mount_items import mounts_of
from nri_inject.policy.naming import named
from nri_inject.policy.rules import Item
from nri_inject.text.paths import clean

_STEPS_PER_ITEM: Final = 30


def items_of(adjustment: Adjustment, evaluation: Evaluation) -> list[Item[object]]:
    """Return everything in an adjustment that a policy has a say in.

    Variables, arguments and annotations are the container's own affair and are not among it.
    """
    items: list[Item[object]] = []
    for kind in _KINDS:
        for item in kind(adjustment, evaluation):
            evaluation.host.budget.spend("listing what it requests", _STEPS_PER_ITEM)
            items.append(item)
    return items


def _cdi_devices(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    for device in adjustment.CDI_devices:
        yield named("cdi_devices", device.name, "CDI device")


def _net_devices(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    for name in adjustment.linux.net_devices:
        if not name.startswith("-"):
            yield named("network_devices", name, "network device")


def _sysctl(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    for key in adjustment.linux.sysctl:
        if not key.startswith("-"):
            yield named("sysctl", sysctls.normal(key), "sysctl", key=key)


def _scheduler(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[Scheduling]]:
    if not adjustment.linux.HasField("scheduler"):
        return
    scheduler = adjustment.linux.scheduler
    name = _enum(api.LinuxSchedulerPolicy, scheduler.policy)
    facts = Scheduling(scheduler.nice, scheduler.priority)
    entry = [f"policy: {name}"]
    entry += [f"min_nice: {scheduler.nice}"] if scheduler.nice < 0 else []
    entry += [f"max_priority: {scheduler.priority}"] if scheduler.priority > 0 else []
    shown = f"{name} nice {scheduler.nice} priority {scheduler.priority}"
    asked = f"scheduling policy {name}"
    suggestion = f"{{{', '.join(entry)}}}"
    yield Item("scheduling_policy", name, asked, (name,), facts, shown, "", suggestion)


def _io_priority(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[int]]:
    if not adjustment.linux.HasField("io_priority"):
        return
    priority = adjustment.linux.io_priority
    name = _enum(api.IOPrioClass, getattr(priority, "class"))
    asked = f"I/O priority {name} {priority.priority}"
    suggestion = f"{{class: {name}, priority: {priority.priority}}}"
    yield Item("io_priority", name, asked, (name,), priority.priority, asked[13:], "", suggestion)


def _memory_policy(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    if adjustment.linux.HasField("memory_policy"):
        yield named(
            "memory_policy",
            _enum(api.MpolMode, adjustment.linux.memory_policy.mode),
            "memory policy",
        )


def _enum(wrapper: type, number: int) -> str:
    """Return a value's name, or its number if this version of NRI has no name for it."""
    names = {value: name for name, value in wrapper.items()}  # type: ignore[attr-defined]  # an enum's wrapper
    return str(names.get(number, number))


def _limits(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item[int]]:
    own = {limit.type: limit for limit in evaluation.container.rlimits}
    for limit in adjustment.rlimits:
        before = own.get(limit.type)
        if before and limit.hard <= before.hard and limit.soft <= before.hard:
            continue
        hard = max(limit.hard, limit.soft)
        shown = "unlimited" if hard == _UNLIMITED else str(hard)
        name = limit.type.removeprefix("RLIMIT_")
        yield Item(
            "ulimits",
            limit.type,
            f"limit {name} of {shown}",
            (limit.type,),
            hard,
            f"{limit.type} {shown}",
            "",
            f"{{type: {name}, hard: {shown}}}",
        )


_UNLIMITED: Final = 2**64 - 1  # RLIM_INFINITY


def _hooks(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item[object]]:
    for descriptor, hooks in adjustment.hooks.ListFields():
        for hook in hooks:
            # Another command line makes another hook of it.
            facts, noun = hook.SerializeToString(), f"{descriptor.name} hook"
            item = named("hooks", hook.path, noun, key=descriptor.name, facts=facts)
            if descriptor.name != "start_container":  # which runs in the container's file tree
                names, trouble = _program(hook.path, evaluation)
                item = dataclasses.replace(item, names=names, trouble=item.trouble or trouble)
            yield item


def _program(path: str, evaluation: Evaluation) -> tuple[tuple[str, ...], str]:
    """Return the names of a program that another plugin wants to run on the host, or a fault.

    It runs as root, so nobody else may be able to write it. A path that the plugin does not see
    may be one that the runtime does.
    """
    climbs = ".." in path.split("/")
    try:
        place = evaluation.host.files[path]
    except KeyError as error:
        return (clean(path),), f"{error.args[0]}, and it contains '..'" if climbs else ""
    if place.writable_by is not None:
        return (), f"others can change it: {place.writable_by}"
    return ((place.real,) if climbs else tuple(dict.fromkeys((clean(path), place.real)))), ""


# Fields of NRI that reach for the host or for what containers share, and that no kind above is
# about. Those of resources follow from the messages' own fields.
_FIELDS: Final[Mapping[str, str]] = {
    "cgroups_path": "CgroupsPath",
    "oom_score_adj": "OomScoreAdj",
    "seccomp_policy": "SeccompPolicy",
    "namespaces": "Namespace",
}
_RESOURCES: Final[Mapping[str, str]] = {
    "hugepage_limits": "HugepageLimits",
    "blockio_class": "BlockioClass",
    "rdt_class": "RdtClass",
    "unified": "CgroupsUnified",
    "pids": "PidsLimit",
}
_MEMORY: Final[Mapping[str, str]] = {
    "limit": "MemLimit",
    "reservation": "MemReservation",
    "swap": "MemSwapLimit",
    "kernel": "MemKernelLimit",
    "kernel_tcp": "MemTCPLimit",
    "swappiness": "MemSwappiness",
    "disable_oom_killer": "MemDisableOomKiller",
    "use_hierarchy": "MemUseHierarchy",
}
_CPU: Final[Mapping[str, str]] = {
    "shares": "CPUShares",
    "quota": "CPUQuota",
    "period": "CPUPeriod",
    "realtime_runtime": "CPURealtimeRuntime",
    "realtime_period": "CPURealtimePeriod",
    "cpus": "CPUSetCPUs",
    "mems": "CPUSetMems",
}
_RDT: Final[Mapping[str, str]] = {
    "clos_id": "RdtClosID",
    "schemata": "RdtSchemata",
    "enable_monitoring": "RdtEnableMonitoring",
    "remove": "RdtClosID",
}


def _fields(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    linux = adjustment.linux
    resources = linux.resources
    for message, known in (
        (linux, _FIELDS),
        (resources, _RESOURCES),
        (resources.memory, _MEMORY),
        (resources.cpu, _CPU),
        (linux.rdt, _RDT),
    ):
        for descriptor, _value in message.ListFields():
            if descriptor.name in known:
                yield named("fields", known[descriptor.name], "field")


def _removals(adjustment: Adjustment, _: Evaluation) -> Iterator[Item[object]]:
    """Yield what is taken away from the container, by a mark in front of its key.

    Another mount may have lain below a removed one, and a removed sysctl may have been a limit.
    """
    linux = adjustment.linux
    for noun, field, keys in (
        ("mount at", api.Field.Mounts, [mount.destination for mount in adjustment.mounts]),
        ("device", api.Field.Devices, [device.path for device in linux.devices]),
        ("sysctl", api.Field.Sysctl, [*linux.sysctl]),
        ("network device", api.Field.LinuxNetDevices, [*linux.net_devices]),
    ):
        for entry in (key[1:] for key in keys if key.startswith("-")):
            name = sysctls.normal(entry) if noun == "sysctl" else entry
            name = clean(entry) if entry.startswith("/") and noun != "sysctl" else name
            facts = Removal(field, entry)
            yield named("removals", name, f"removal of {noun}", key=f"{noun} -{entry}", facts=facts)


_KINDS: Final = (
    devices_of,
    _cdi_devices,
    mounts_of,
    _net_devices,
    _sysctl,
    _scheduler,
    _io_priority,
    _memory_policy,
    _limits,
    _hooks,
    _fields,
    _removals,
)

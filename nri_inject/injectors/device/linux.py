"""The annotations for network devices, sysctls, scheduling, I/O and memory policies, and limits."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.policy.kinds import LIMITS
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    check_count,
    check_length,
    choice,
    described,
    integer,
    list_of,
    map_of,
    not_one_of,
    read_line,
    read_short_line,
    read_tabbed_line,
    read_text,
    wrong_type,
)
from nri_inject.text.names import interface_fault
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    pass

from nri_inject.injectors.device.wish import Wish, constant, unique

_UINT64: Final = integer(0, 2**64 - 1)

# --- network devices ----------------------------------------------------------------------------


def _interface(value: Value) -> str:
    """Read the name of a network interface. One with a leading dash would remove something."""
    name = read_line(value)
    if name.startswith("-"):
        raise Fault(f"{quoted(name)} begins with '-', which NRI reads as a removal")
    if why := interface_fault(name):
        raise Fault(f"{quoted(name)} {why}")
    return name


def _interface_or_none(value: Value) -> str:
    return "" if value == "" else _interface(value)


_NET_DEVICE: Final = map_of(
    (
        Field("hostIf", _interface, required=True),
        Field("name", _interface_or_none),
    )
)


def _net_device(value: Value) -> tuple[str, object, tuple[str, str]]:
    device = _NET_DEVICE(value)
    pair = (device["hostIf"], device.get("name", ""))
    return pair[0], pair[1], pair


def read_net_devices(value: Value) -> Wish | None:
    """Read a list of network devices."""
    pairs = unique(list_of(_net_device)(value))
    if not pairs:
        return None
    hosts: dict[str, str] = {}
    faults: list[str] = []
    for host, name in pairs:
        inside = name or host  # the interface keeps its name
        if inside in hosts:
            both = f"{quoted(hosts[inside])} and {quoted(host)}"
            faults.append(f"{both} would both be {quoted(inside)} in the container")
        hosts[inside] = host
    if faults:
        raise Fault(*faults)
    adjustment = Adjustment()
    for host, name in pairs:
        adjustment.linux.net_devices[host].name = name
    return partial(constant, adjustment)


# --- sysctl -------------------------------------------------------------------------------------

_SYSCTL_KEY: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.\-/]*")


def _sysctl_value(value: Value) -> str:
    if value is None:
        raise Fault("null where text is expected; write '' for empty text")
    return read_tabbed_line(value)


def _check_sysctl_key(key: str) -> None:
    if key.startswith("-"):
        raise Fault(f"{quoted(key)} begins with '-', which NRI reads as a removal")
    check_length(key)
    if not _SYSCTL_KEY.fullmatch(key) or ".." in key:
        raise Fault(f"{quoted(key)} is not a name that a sysctl can have")


def read_sysctl(value: Value) -> Wish | None:
    """Read a map of sysctls."""
    if not isinstance(value, dict):
        raise wrong_type(value, "a map of text to text")
    if not value:
        return None
    check_count(len(value), "keys")
    adjustment = Adjustment()
    faults: list[str] = []
    for key, item in value.items():
        try:
            _check_sysctl_key(key)
            adjustment.linux.sysctl[key] = _sysctl_item(key, item)
        except Fault as fault:
            faults += fault.sentences
            if len(faults) >= MAX_FAULTS:
                break
    if faults:
        raise Fault(*faults)
    return partial(constant, adjustment)


def _sysctl_item(key: str, item: Value) -> str:
    try:
        return _sysctl_value(item)
    except Fault as fault:
        raise Fault(*fault.at(plain(key))) from fault


# --- one message --------------------------------------------------------------------------------

_FLAG: Final = choice(dict(api.LinuxSchedulerFlag.items()))

_SCHEDULER: Final = map_of(
    (
        Field("policy", choice(dict(api.LinuxSchedulerPolicy.items())), required=True),
        Field("nice", integer(-20, 19)),
        Field("priority", integer(0, 99)),
        Field("flags", list_of(_FLAG)),
        Field("runtime", _UINT64),
        Field("deadline", _UINT64),
        Field("period", _UINT64),
    )
)

_IO_PRIORITY: Final = map_of(
    (
        Field("class", choice(dict(api.IOPrioClass.items())), required=True),
        Field("priority", integer(0, 7)),
    )
)

# Four digits are enough for each node of Linux (MAX_NUMNODES is 1024).
_NODE_LIST: Final = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


def _nodes(value: Value) -> str:
    nodes = read_short_line(value)
    if nodes and not _is_node_list(nodes):
        raise Fault(f"{quoted(nodes)} is not a list of nodes such as 0-3,7")
    return nodes


def _is_node_list(text: str) -> bool:
    if not _NODE_LIST.fullmatch(text):
        return False
    ranges = (part.partition("-") for part in text.split(","))
    return all(int(first) <= int(last or first) for first, _, last in ranges)


_MEMORY_POLICY: Final = map_of(
    (
        Field("mode", choice(dict(api.MpolMode.items())), required=True),
        Field("nodes", _nodes),
        Field("flags", list_of(choice(dict(api.MpolFlag.items())))),
    )
)


def read_scheduler(value: Value) -> Wish:
    """Read a scheduling policy."""
    scheduler = api.LinuxScheduler(**_SCHEDULER(value))
    return _linux(api.LinuxContainerAdjustment(scheduler=scheduler))


def read_io_priority(value: Value) -> Wish:
    """Read an I/O priority."""
    priority = api.LinuxIOPriority(**_IO_PRIORITY(value))
    return _linux(api.LinuxContainerAdjustment(io_priority=priority))


def read_memory_policy(value: Value) -> Wish:
    """Read a memory policy."""
    policy = api.LinuxMemoryPolicy(**_MEMORY_POLICY(value))
    return _linux(api.LinuxContainerAdjustment(memory_policy=policy))


def _linux(linux: api.LinuxContainerAdjustment) -> Wish:
    return partial(constant, Adjustment(linux=linux))


# --- ulimits ------------------------------------------------------------------------------------

_UNLIMITED: Final = 2**64 - 1  # RLIM_INFINITY
_WORDS_FOR_UNLIMITED: Final = frozenset({"unlimited", "infinity", "-1"})


def _limit_type(value: Value) -> str:
    text = read_text(value)
    # Not all letters whose capitals are ASCII are: the dotless i has I.
    name = text.upper().removeprefix("RLIMIT_")
    if name not in LIMITS or not text.isascii():
        raise Fault(not_one_of(text, [f"RLIMIT_{limit}" for limit in LIMITS]))
    return f"RLIMIT_{name}"


def _limit(value: Value) -> int:
    if value == -1 or (isinstance(value, str) and value.lower() in _WORDS_FOR_UNLIMITED):
        raise Fault(f"{described(value)} is not a limit; write {_UNLIMITED} for unlimited")
    return _UINT64(value)


_ULIMIT: Final = map_of(
    (
        Field("type", _limit_type, required=True),
        Field("hard", _limit),
        Field("soft", _limit),
    )
)


def _ulimit(value: Value) -> tuple[str, object, api.POSIXRlimit]:
    limit = api.POSIXRlimit(**_ULIMIT(value))
    if limit.soft > limit.hard:
        raise Fault(f"soft limit {limit.soft} is above hard limit {limit.hard}")
    return limit.type, (limit.hard, limit.soft), limit


def read_ulimits(value: Value) -> Wish | None:
    """Read a list of limits."""
    limits = unique(list_of(_ulimit)(value))
    return partial(constant, Adjustment(rlimits=limits)) if limits else None

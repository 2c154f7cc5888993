"""The annotations for network devices, sysctls, scheduling, I/O and memory policies, and limits."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from nri_inject import api
from nri_inject.api import Adjustment, Pod
from nri_inject.injectors.device.wish import Wish, constant, unique, warned
from nri_inject.policy.sysctls import normal
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    check_count,
    check_length,
    choice,
    described,
    folded,
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
from nri_inject.text.flow import advice
from nri_inject.text.names import (
    LIMITS,
    REMOVES,
    UNLIMITED,
    interface_fault,
    is_number_list,
    limit_type,
    sysctl_fault,
)
from nri_inject.text.words import MAX_EXCERPT, plain, quoted
from nri_inject.text.yamltext import Value

_UINT64: Final = integer(0, 2**64 - 1)

# --- network devices ----------------------------------------------------------------------------


def _interface(value: Value) -> str:
    """Read the name of a network interface. One with a leading dash would remove something."""
    name = read_line(value)
    if why := REMOVES if name.startswith("-") else interface_fault(name):
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


def _sysctl_value(value: Value) -> str:
    if value is None:
        raise Fault("null where text is expected; write '' for empty text")
    return read_tabbed_line(value)


def _check_sysctl_key(key: str) -> None:
    check_length(key)
    if why := sysctl_fault(key):
        raise Fault(f"{quoted(key)} {why}")


def read_sysctl(value: Value) -> Wish | None:
    """Read a map of sysctls."""
    if not isinstance(value, dict):
        meant = _sysctl_map(value)
        hint = f"; write {advice(meant)}" if meant else ""
        raise Fault(
            *(f"{one}{hint}" for one in wrong_type(value, "a map of text to text").sentences)
        )
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


def _sysctl_map(value: Value) -> dict[str, str]:
    """Return the map that a list or text of other tools means: Kubernetes' items, `name=value`."""
    if isinstance(value, str) and len(value) > MAX_EXCERPT:
        return {}
    items = value if isinstance(value, list) else str(value).split(",")
    meant: dict[str, str] = {}
    for item in items[:MAX_FAULTS]:
        if isinstance(item, dict) and item.keys() == {"name", "value"}:
            meant[str(item["name"])] = str(item["value"])
        elif isinstance(item, str) and "=" in item:
            name, _, text = item.removeprefix("--sysctl").partition("=")
            meant[name.strip()] = text.strip()
        else:
            return {}
    return meant


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


def _nodes(value: Value) -> str:
    nodes = read_short_line(value)
    if nodes and not is_number_list(nodes):
        raise Fault(f"{quoted(nodes)} is not a list of nodes such as 0-3,7")
    return nodes


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

_WORDS_FOR_UNLIMITED: Final = frozenset({"unlimited", "infinity", "-1"})


def _limit_type(value: Value) -> str:
    text = read_text(value)
    if not (found := limit_type(text)):
        raise Fault(not_one_of(text, [f"RLIMIT_{limit}" for limit in LIMITS]))
    return found


def _limit(value: Value) -> int:
    if value == -1 or (isinstance(value, str) and value.lower() in _WORDS_FOR_UNLIMITED):
        raise Fault(f"{described(value)} is not a limit; write {UNLIMITED} for unlimited")
    return _UINT64(value)


_ULIMIT: Final = map_of(
    (
        Field("type", _limit_type, required=True),
        Field("hard", _limit),
        Field("soft", _limit),
    )
)
_WORDS: Final = {"name": "type", "rlimit": "type", "ulimit": "type", "max": "hard", "min": "soft"}


def _ulimit(value: Value) -> tuple[str, object, api.POSIXRlimit]:
    if (meant := _limit_item(value)) is not None:
        raise Fault(f"{described(value)} is how other tools write a limit; write {advice(meant)}")
    given = _ULIMIT(value)
    if "hard" not in given:  # which NRI's own plugin takes for 0, and no program runs with
        raise Fault("hard is missing; soft is what holds at first, hard the most of it")
    limit = api.POSIXRlimit(**given)
    if limit.soft > limit.hard:
        raise Fault(f"soft limit {limit.soft} is above hard limit {limit.hard}")
    return limit.type, (limit.hard, limit.soft), limit


def read_ulimits(value: Value) -> Wish | None:
    """Read a list of limits."""
    meant = _limit_items(value)
    if meant:
        raise Fault(f"{described(value)} is not a list; write {advice(meant)}")
    limits = unique(list_of(_ulimit)(value))
    if not limits:
        return None
    items = value if isinstance(value, list) else []
    warnings = [
        f"item {number}: soft is missing, and 0 is taken; write soft"
        for number, item in enumerate(items, 1)
        if isinstance(item, dict) and "soft" not in map(folded, item)
    ]
    return partial(warned, Adjustment(rlimits=limits), warnings[:MAX_FAULTS])


# Of docker: nofile=1024:2048, where the one number of nofile=1024 is both.
_OPTION: Final = re.compile(
    r"(?:--ulimit[= ])?(\w+)[=:](-?[0-9]+|unlimited)(?::(-?[0-9]+|unlimited))?"
)


def _limit_item(value: Value) -> object | None:
    """Return the item that docker's spelling of a limit means, None for an item of ours."""
    if isinstance(value, dict):
        if len(value) > MAX_FAULTS:
            return None
        renamed = {_WORDS.get(key.lower(), key.lower()): item for key, item in value.items()}
        is_other = {key.lower() for key in value} & _WORDS.keys() and "type" in renamed
        return renamed if is_other and renamed.keys() <= {"type", "hard", "soft"} else None
    match = _OPTION.fullmatch(value) if isinstance(value, str) and len(value) < 80 else None
    if match is None:
        return None
    soft = _limit_number(match[2])
    return {"type": match[1].upper(), "soft": soft, "hard": _limit_number(match[3] or match[2])}


def _limit_items(value: Value) -> list[object]:
    """Return the items of what is no list: docker's option, Compose's map, one item by itself."""
    if isinstance(value, str):
        item = _limit_item(value)
        return [] if item is None else [item]
    if not isinstance(value, dict) or len(value) > len(LIMITS):
        return []
    if not {key.lower() for key in value}.isdisjoint(("type", "hard", "soft", *_WORDS)):
        return [_limit_item(value) or value]
    found = [_composed(name, limit) for name, limit in value.items()]
    return [] if None in found else [*found]


def _composed(name: str, limit: Value) -> object | None:
    if isinstance(limit, int) and not isinstance(limit, bool):
        return {"type": name.upper(), "soft": _unlimited(limit), "hard": _unlimited(limit)}
    if not isinstance(limit, dict) or not limit.keys() <= {"soft", "hard"}:
        return None
    return {"type": name.upper(), **{key: _unlimited(each) for key, each in limit.items()}}


def _limit_number(text: str) -> int:
    return UNLIMITED if text in _WORDS_FOR_UNLIMITED else int(text)


def _unlimited(value: Value) -> Value:
    return UNLIMITED if value in (-1, *_WORDS_FOR_UNLIMITED) else value


# --- which sysctls a container has for itself ---------------------------------------------------

# What Linux keeps for each IPC namespace (ipc_namespaces(7)); runc and crun take these and no other
# of kernel.*, but for the name of the NIS domain, which a UTS namespace has.
_OWN: Final = frozenset(
    f"kernel.{name}"
    for name in (
        *("domainname", "msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni"),
        "shm_rmid_forced",
    )
)
_OWN_TREES: Final = ("fs.mqueue.", "net.")
_SHARED_TREES: Final = tuple(
    f"{tree}." for tree in ("abi", "crypto", "debug", "dev", "fs", "kernel", "sunrpc", "vm", "xen")
)


def _not_own(key: str) -> str:
    """Say that a sysctl is one of the whole node, with which no container starts; empty if not."""
    name = normal(key)
    if name in _OWN or name.startswith(_OWN_TREES):
        return ""
    if name == "kernel.hostname":
        return f"{quoted(key)}: the pod's spec.hostname sets it"
    if inside := [one for one in _SHORT if one.endswith(f".{name}")]:
        return f"{quoted(key)} is not the whole name; write {inside[0]}"
    if not name.startswith(_SHARED_TREES):
        return ""
    return (
        f"{quoted(key)} is a setting of the whole node, and no container has its own: the admin"
        " sets it on the node, as in /etc/sysctl.d; a container has its own net.*, fs.mqueue.* and"
        f" {', '.join(sorted(_OWN))}"
    )


_SHORT: Final = (*_OWN, "net.core.somaxconn", "net.ipv4.ip_forward", "net.ipv4.ip_local_port_range")


# A container of Kata Containers has a kernel of its own.
_OWN_KERNEL: Final = "kata"


def shared_sysctls(adjustment: Adjustment, pod: Pod) -> list[str]:
    """Return what is wrong with sysctls that the pod shares with the node.

    Where a runtime tells no namespaces of the pod, its network is taken for its own.
    """
    if pod.runtime_handler.startswith(_OWN_KERNEL):
        return []
    kinds = {namespace.type for namespace in pod.linux.namespaces}
    faults = [fault for key in adjustment.linux.sysctl if (fault := _not_own(key))]
    if kinds and "network" not in kinds:
        faults += (
            f"{quoted(key)} is a setting of the node's network, which the pod uses (hostNetwork:"
            " true): the admin sets it on the node"
            for key in adjustment.linux.sysctl
            if normal(key).startswith("net.")
        )
    return faults[:MAX_FAULTS]

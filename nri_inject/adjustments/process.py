"""The process of a container: variables, command line, limits and priorities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nri_inject import api
from nri_inject.adjustments.checks import (
    add,
    check,
    check_range,
    check_zero,
    key_fault,
    member,
    put,
    variable_fault,
    words,
)
from nri_inject.api import Adjustment
from nri_inject.errors import RequestError
from nri_inject.text.names import LIMITS, UNLIMITED, is_number_list, limit_type
from nri_inject.text.words import quoted, suggestion


def add_env(adjustment: Adjustment, name: str, value: str) -> None:
    """Set a variable of the container's process, in place of one of the pod."""
    check("variable", name, variable_fault(name))
    check_zero("variable", name, value)
    add(adjustment.env, "key", api.KeyValue(key=name, value=value), "variable")


def remove_env(adjustment: Adjustment, name: str) -> None:
    """Take back a variable of an earlier plugin; one of the pod stays."""
    check("variable", name, key_fault(name))
    add(adjustment.env, "key", api.KeyValue(key=f"-{name}"), "variable")


def set_args(adjustment: Adjustment, args: Sequence[str]) -> None:
    """Set the command line, the program first.

    It needs NRI 0.10.0 (containerd 2.2.0, CRI-O 1.34).
    """
    given = words("args", args)
    if not given or not given[0]:
        raise RequestError([f"args {given}: the program must be the first of them"])
    adjustment.args[:] = given


def set_rlimit(adjustment: Adjustment, name: str, *, soft: int, hard: int) -> None:
    """Set a limit of the process (getrlimit(2)): NOFILE, say, or RLIMIT_NOFILE.

    `soft` holds at first, and the process may raise it to `hard`. UNLIMITED is no limit. It needs
    NRI 0.4.0 (containerd 1.7.7, CRI-O 1.31).
    """
    kind = limit_type(name)
    if not kind:
        check("limit", name, f"is not known; {suggestion(name.upper(), LIMITS)}")
    for number in (soft, hard):
        check_range(f"limit {kind}", number, 0, UNLIMITED)
    if soft > hard:
        raise RequestError([f"limit {kind}: soft limit {soft} is above hard limit {hard}"])
    put(adjustment.rlimits, "type", api.POSIXRlimit(type=kind, soft=soft, hard=hard))


def set_oom_score_adj(adjustment: Adjustment, score: int) -> None:
    """Set how likely the kernel kills the process when memory is short, from -1000, never, to 1000.

    It needs NRI 0.7.0 (containerd 1.7.26, CRI-O 1.32).
    """
    check_range("oom_score_adj", score, -1000, 1000)
    adjustment.linux.oom_score_adj.CopyFrom(api.OptionalInt(value=score))


def set_io_priority(adjustment: Adjustment, io_class: str, priority: int = 0) -> None:
    """Set the I/O class (IOPRIO_CLASS_BE, say) and a priority from 0, the first, to 7.

    IOPRIO_CLASS_NONE removes what was set. It needs NRI 0.10.0 (containerd 2.2.0, CRI-O 1.34).
    """
    number = member("I/O class", io_class, dict(api.IOPrioClass.items()))
    check_range("I/O priority", priority, 0, 7)
    wanted: dict[str, Any] = {"class": number}  # a word of Python
    adjustment.linux.io_priority.CopyFrom(api.LinuxIOPriority(priority=priority, **wanted))


def set_scheduler(
    adjustment: Adjustment,
    policy: str,
    *,
    nice: int = 0,
    priority: int = 0,
    flags: Sequence[str] = (),
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """Set the scheduling policy (SCHED_BATCH, say), as sched_setattr(2) has it; times in ns.

    SCHED_NONE removes what was set. It needs NRI 0.11.0 (containerd 2.2.1, CRI-O 1.35).
    """
    number = member("scheduling policy", policy, dict(api.LinuxSchedulerPolicy.items()))
    known = dict(api.LinuxSchedulerFlag.items())
    bits = [member("scheduler flag", flag, known) for flag in words("flags", flags)]
    check_range("nice value", nice, -20, 19)
    is_real_time = policy in ("SCHED_FIFO", "SCHED_RR")
    check_range(f"priority of {policy}", priority, int(is_real_time), 99 if is_real_time else 0)
    most = 2**64 - 1 if policy == "SCHED_DEADLINE" else 0
    for name, time in (("runtime", runtime), ("deadline", deadline), ("period", period)):
        check_range(f"{name} of {policy}", time, 0, most)
    adjustment.linux.scheduler.CopyFrom(
        api.LinuxScheduler(
            policy=number,
            nice=nice,
            priority=priority,
            flags=bits,
            runtime=runtime,
            deadline=deadline,
            period=period,
        )
    )


def set_memory_policy(
    adjustment: Adjustment, mode: str, nodes: str = "", flags: Sequence[str] = ()
) -> None:
    """Set the NUMA nodes of the process's memory, as set_mempolicy(2) has it: MPOL_BIND, "0-1".

    It needs NRI 0.12.0 (containerd 2.3.0, CRI-O 1.37).
    """
    number = member("memory policy", mode, dict(api.MpolMode.items()))
    known = dict(api.MpolFlag.items())
    bits = [member("memory policy flag", flag, known) for flag in words("flags", flags)]
    if nodes and not is_number_list(nodes):
        raise RequestError([f"nodes {quoted(nodes)} is not a list of nodes such as 0-3,7"])
    policy = api.LinuxMemoryPolicy(mode=number, nodes=nodes, flags=bits)
    adjustment.linux.memory_policy.CopyFrom(policy)

"""The resources of a container: memory, processors, processes, and other values of its cgroup.

Each function takes an Adjustment of a container that is being created, or a ContainerUpdate of one
that runs. Bounds are those of Linux (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from nri_inject import api
from nri_inject.adjustments.checks import check, check_range, check_zero, put
from nri_inject.api import Adjustment, ContainerUpdate
from nri_inject.errors import RequestError
from nri_inject.text.names import is_number_list
from nri_inject.text.words import quoted

Target: TypeAlias = Adjustment | ContainerUpdate

_MAX_INT64: Final = 2**63 - 1


def set_memory_limit(target: Target, limit: int) -> None:
    """Limit memory to a number of bytes; swap gets the same limit, as runtimes do it."""
    check_range("memory limit", limit, 1, _MAX_INT64)
    target.linux.resources.memory.limit.CopyFrom(api.OptionalInt64(value=limit))


def set_cpu_shares(target: Target, shares: int) -> None:
    """Set the weight beside other containers: 1024 for each CPU that Kubernetes counts."""
    check_range("cpu shares", shares, 2, 2**18)
    target.linux.resources.cpu.shares.CopyFrom(api.OptionalUInt64(value=shares))


def set_cpu_quota(target: Target, quota: int, period: int = 100_000) -> None:
    """Limit processor time to `quota` microseconds in each `period`; 200_000 are two CPUs."""
    check_range("cpu quota", quota, 1_000, _MAX_INT64)
    check_range("cpu period", period, 1_000, 1_000_000)
    cpu = target.linux.resources.cpu
    cpu.quota.CopyFrom(api.OptionalInt64(value=quota))
    cpu.period.CopyFrom(api.OptionalUInt64(value=period))


def set_cpuset(target: Target, cpus: str = "", mems: str = "") -> None:
    """Bind the container to CPUs and to memory of NUMA nodes, such as "0-3,7".

    An empty text leaves that half as it is.
    """
    for what, text in (("cpus", cpus), ("mems", mems)):
        if text and not is_number_list(text):
            raise RequestError([f"{what} {quoted(text)} is not a list of numbers such as 0-3,7"])
    if cpus:
        target.linux.resources.cpu.cpus = cpus
    if mems:
        target.linux.resources.cpu.mems = mems


def set_pids_limit(adjustment: Adjustment, limit: int) -> None:
    """Limit the number of processes and threads. NRI drops this limit in an update.

    It needs NRI 0.7.0 (containerd 1.7.26, CRI-O 1.32).
    """
    check_range("pids limit", limit, 1, _MAX_INT64)
    adjustment.linux.resources.pids.CopyFrom(api.LinuxPids(limit=limit))


_PAGE_SIZE: Final = re.compile("[1-9][0-9]*[KMG]B")


def set_hugepage_limit(target: Target, page_size: str, limit: int) -> None:
    """Limit huge pages of a size such as 2MB or 1GB to a number of bytes."""
    if not _PAGE_SIZE.fullmatch(page_size):
        check("page size", page_size, "is not a size such as 2MB or 1GB")
    check_range(f"huge pages of {page_size}: limit", limit, 0, 2**64 - 1)
    found = api.HugepageLimit(page_size=page_size, limit=limit)
    put(target.linux.resources.hugepage_limits, "page_size", found)


def set_cgroup_value(target: Target, file: str, value: str) -> None:
    """Write a value into a file of the container's cgroup, such as memory.high; cgroup v2 only."""
    check(
        "cgroup file",
        file,
        "" if _CGROUP_FILE.fullmatch(file) else "is not a name such as memory.high",
    )
    check_zero("cgroup file", file, value)
    target.linux.resources.unified[file] = value


_CGROUP_FILE: Final = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")


def set_blockio_class(target: Target, name: str) -> None:
    """Choose a class of the runtime's block I/O configuration."""
    target.linux.resources.blockio_class.CopyFrom(api.OptionalString(value=name))


def set_rdt_class(target: Target, name: str) -> None:
    """Choose a class of the runtime's configuration of Intel RDT."""
    target.linux.resources.rdt_class.CopyFrom(api.OptionalString(value=name))

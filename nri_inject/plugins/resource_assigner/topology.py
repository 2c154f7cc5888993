"""Which CPUs this host has, and how near they are to each other (Linux, cputopology)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from nri_inject.errors import ConfigError
from nri_inject.text import cpulist
from nri_inject.text.cpulist import Cpus

SYSFS: Final = Path("/sys/devices/system")


class Cpu(NamedTuple):
    """Where a CPU is: its core, by the lowest CPU in it, its package and its memory node."""

    core: int
    package: int
    node: int


@dataclass(frozen=True)
class Topology:
    """The CPUs that containers may get, and the nodes that have memory.

    CPUs that are offline, or isolated from the kernel's scheduler (`isolcpus`), are not in it.
    """

    cpus: Mapping[int, Cpu]
    memory_nodes: frozenset[int]

    @cached_property
    def all(self) -> Cpus:
        """The numbers of the CPUs."""
        return frozenset(self.cpus)

    def nodes_of(self, cpus: Cpus) -> frozenset[int]:
        """Return the nodes near some CPUs that have memory."""
        return self.memory_nodes & {self.cpus[cpu].node for cpu in cpus if cpu in self.cpus}


def read(sysfs: Path = SYSFS) -> Topology:
    """Read the topology from sysfs; ConfigError where there is no list of CPUs to be had.

    A kernel without NUMA has no nodes: everything is near then, and no node can be named.
    """
    online = _list(sysfs / "cpu" / "online")
    if not online:
        raise ConfigError(f"{sysfs}/cpu/online does not list the CPUs")
    usable = online - _list(sysfs / "cpu" / "isolated")
    nodes = _nodes(sysfs / "node")
    return Topology(
        {cpu: _cpu(sysfs / "cpu" / f"cpu{cpu}" / "topology", cpu, nodes) for cpu in usable},
        _list(sysfs / "node" / "has_memory"),
    )


def _cpu(directory: Path, cpu: int, nodes: Mapping[int, int]) -> Cpu:
    # The second name is that of kernels before 5.3.
    siblings = _list(directory / "core_cpus_list") or _list(directory / "thread_siblings_list")
    package = _text(directory / "physical_package_id")
    return Cpu(min(siblings | {cpu}), int(package) if package.isdigit() else 0, nodes.get(cpu, 0))


def _nodes(directory: Path) -> dict[int, int]:
    """Return the node of each CPU."""
    return {
        cpu: node
        for node in sorted(_list(directory / "online"))
        for cpu in _list(directory / f"node{node}" / "cpulist")
    }


def _list(file: Path) -> Cpus:
    """Return what a file lists; nothing if it is not there or lists nothing."""
    try:
        return cpulist.read(_text(file))
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""

"""The choice of CPUs: near each other, and whole cores if possible. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from nri_inject.plugins.resource_assigner.topology import Topology
from nri_inject.text.cpulist import Cpus


def choose(topology: Topology, free: Cpus, count: int, near: Cpus = frozenset()) -> Cpus:
    """Return `count` CPUs of `free`, the same ones whenever the same is asked.

    One memory node if one has enough, the one that then has fewest left; else one package; else
    as few nodes as will do. In a node whole cores come first, then cores that others are on
    already, so that whole ones stay whole. Nodes that have CPUs of `near` go before all others.
    ValueError if there are too few.
    """
    if count > len(free):
        raise ValueError(f"{count} CPUs requested, {len(free)} are free")
    chosen: set[int] = set()
    for node in _nodes(topology, free, count, near):
        chosen |= _of_node(topology, node, count - len(chosen))
    return frozenset(chosen)


def _nodes(topology: Topology, free: Cpus, count: int, near: Cpus) -> list[Cpus]:
    """Return the free CPUs by node, in the order in which nodes are to be used."""
    near_nodes = {topology.cpus[cpu].node for cpu in near if cpu in topology.cpus}

    def is_far(cpus: Cpus) -> bool:
        return near_nodes.isdisjoint(topology.cpus[cpu].node for cpu in cpus)

    nodes = _grouped(free, lambda cpu: topology.cpus[cpu].node)
    enough = [cpus for cpus in nodes if len(cpus) >= count]
    if enough:
        return [min(enough, key=lambda cpus: (is_far(cpus), len(cpus), min(cpus)))]
    packages = _grouped(free, lambda cpu: topology.cpus[cpu].package)
    enough = [cpus for cpus in packages if len(cpus) >= count]
    if enough:
        package = min(enough, key=lambda cpus: (is_far(cpus), len(cpus), min(cpus)))
        nodes = [cpus & package for cpus in nodes if cpus & package]
    return sorted(nodes, key=lambda cpus: (is_far(cpus), -len(cpus), min(cpus)))


def _of_node(topology: Topology, free: Cpus, count: int) -> Cpus:
    """Return up to `count` CPUs of a node."""
    sizes = Counter(cpu.core for cpu in topology.cpus.values())
    cores = _grouped(free, lambda cpu: topology.cpus[cpu].core)

    def is_whole(core: Cpus) -> bool:
        return len(core) == sizes[topology.cpus[min(core)].core]

    chosen: set[int] = set()
    for core in filter(is_whole, cores):
        if len(chosen) + len(core) <= count:
            chosen |= core
    rest = sorted((core for core in cores if not core <= chosen), key=is_whole)
    singles = [cpu for core in rest for cpu in sorted(core)]
    return frozenset(chosen).union(singles[: count - len(chosen)])


def _grouped(cpus: Iterable[int], key: Callable[[int], int]) -> list[Cpus]:
    groups: dict[int, set[int]] = defaultdict(set)
    for cpu in sorted(cpus):
        groups[key(cpu)].add(cpu)
    return [frozenset(groups[name]) for name in sorted(groups)]

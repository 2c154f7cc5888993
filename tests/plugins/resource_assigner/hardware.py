"""Hosts of any shape, and containers that ask for CPUs."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st

from nri_inject import api
from nri_inject.plugins.resource_assigner.pools import ANNOTATION
from nri_inject.plugins.resource_assigner.topology import Cpu, Topology


def host(packages: int = 1, nodes: int = 1, cores: int = 2, threads: int = 1) -> Topology:
    """Make a host with so many nodes in a package, cores in a node, threads in a core.

    The second threads have the numbers after all first ones, as on most hosts.
    """
    numbers = count()
    cpus: dict[int, Cpu] = {}
    places = [
        (package, package * nodes + node)
        for package in range(packages)
        for node in range(nodes)
        for _ in range(cores)
    ]
    for _ in range(threads):
        for core, (package, node) in enumerate(places):
            cpus[next(numbers)] = Cpu(core, package, node)
    return Topology(cpus, frozenset(range(packages * nodes)))


hosts = st.builds(
    host,
    packages=st.integers(1, 2),
    nodes=st.integers(1, 2),
    cores=st.integers(1, 3),
    threads=st.integers(1, 2),
)


def pod(name: str = "web", namespace: str = "default", **wishes: str) -> api.Pod:
    """Make a Guaranteed pod; `wishes` are its containers' annotations."""
    return api.Pod(
        id=f"pod-{name}",
        name=name,
        namespace=namespace,
        annotations={f"{ANNOTATION}/container.{key}": value for key, value in wishes.items()},
        linux=api.LinuxPodSandbox(cgroup_parent="/kubepods/pod1"),
    )


def container(
    name: str = "app", *, cpus: float = 0, limit: float | None = None, has: str = ""
) -> api.Container:
    """Make a container that requests so many CPUs, as kubelet writes them for a Guaranteed pod."""
    milli, most = round(cpus * 1000), round((cpus if limit is None else limit) * 1000)
    return api.Container(
        id=f"id-{name}",
        name=name,
        linux=api.LinuxContainer(resources=resources(milli, most, has)),
    )


def resources(milli: int, most: int, has: str = "") -> api.LinuxResources:
    return api.LinuxResources(
        cpu=api.LinuxCPU(
            shares=api.OptionalUInt64(value=max(2, milli * 1024 // 1000)),
            quota=api.OptionalInt64(value=most * 100),
            period=api.OptionalUInt64(value=100_000),
            cpus=has,
        ),
        memory=api.LinuxMemory(limit=api.OptionalInt64(value=1 << 26)),
    )

"""Topologies as sysfs shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nri_inject.errors import ConfigError
from nri_inject.plugins.resource_assigner import topology
from nri_inject.plugins.resource_assigner.topology import Cpu, Topology


def sysfs(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return directory


def cpu(number: int, siblings: str, package: int) -> dict[str, str]:
    directory = f"cpu/cpu{number}/topology"
    return {
        f"{directory}/core_cpus_list": siblings,
        f"{directory}/physical_package_id": str(package),
    }


TWO_PACKAGES = {
    "cpu/online": "0-3",
    "cpu/isolated": "",
    **cpu(0, "0,2", 0),
    **cpu(1, "1,3", 1),
    **cpu(2, "0,2", 0),
    **cpu(3, "1,3", 1),
    "node/online": "0-2",
    "node/has_memory": "0,2",
    "node/node0/cpulist": "0,2",
    "node/node1/cpulist": "1,3",
    "node/node2/cpulist": "",
}


def test_packages_nodes_cores_and_threads_are_read(tmp_path: Path) -> None:
    read = topology.read(sysfs(tmp_path, TWO_PACKAGES))
    assert read == Topology(
        {0: Cpu(0, 0, 0), 1: Cpu(1, 1, 1), 2: Cpu(0, 0, 0), 3: Cpu(1, 1, 1)}, frozenset({0, 2})
    )
    assert read.nodes_of(frozenset({0, 1})) == {0}


def test_cpus_that_are_offline_or_isolated_are_not_there(tmp_path: Path) -> None:
    files = TWO_PACKAGES | {"cpu/online": "0,2-3", "cpu/isolated": "3"}
    assert topology.read(sysfs(tmp_path, files)).all == {0, 2}


def test_a_kernel_without_numa_has_no_memory_nodes_to_name(tmp_path: Path) -> None:
    files = {name: text for name, text in TWO_PACKAGES.items() if not name.startswith("node")}
    read = topology.read(sysfs(tmp_path, files))
    assert {cpu.node for cpu in read.cpus.values()} == {0}
    assert read.nodes_of(read.all) == frozenset()


def test_cpus_of_which_nothing_is_told_are_cores_of_their_own(tmp_path: Path) -> None:
    read = topology.read(sysfs(tmp_path, {"cpu/online": "0-1", "node/has_memory": "0"}))
    assert read == Topology({0: Cpu(0, 0, 0), 1: Cpu(1, 0, 0)}, frozenset({0}))


def test_threads_are_found_under_their_old_name(tmp_path: Path) -> None:
    files = {"cpu/online": "0-1", "cpu/cpu1/topology/thread_siblings_list": "0-1"}
    assert topology.read(sysfs(tmp_path, files)).cpus[1].core == 0


def test_without_a_list_of_cpus_there_is_no_topology(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        topology.read(tmp_path)
    assert str(caught.value) == f"{tmp_path}/cpu/online does not list the CPUs"


def test_this_host_has_a_topology() -> None:
    assert topology.read().all

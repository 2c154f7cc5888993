"""Which CPUs are taken."""

from __future__ import annotations

import pytest
from hardware import host, hosts
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.plugins.resource_assigner.allocate import choose
from nri_inject.plugins.resource_assigner.topology import Topology
from nri_inject.text.cpulist import read

# Cores 0-3, threads 0-7 (0,4 1,5 2,6 3,7); nodes 0: cores 0-1, 1: cores 2-3.
TWO_NODES = host(nodes=2, cores=2, threads=2)
# Nodes 0-3 of two cores each; packages: nodes 0-1, nodes 2-3.
FOUR_NODES = host(packages=2, nodes=2, cores=2)


@pytest.mark.parametrize(
    ("topology", "free", "count", "near", "chosen"),
    [
        (TWO_NODES, "0-7", 1, "", "0"),
        (TWO_NODES, "0-7", 2, "", "0,4"),
        (TWO_NODES, "0-7", 3, "", "0-1,4"),
        (TWO_NODES, "0-7", 4, "", "0-1,4-5"),
        (TWO_NODES, "0-7", 6, "", "0-2,4-6"),
        # The node that has just enough, though the other has lower numbers.
        (TWO_NODES, "0-1,4-5,2,6", 2, "", "2,6"),
        # A core that others are on already, so that whole ones stay whole.
        (TWO_NODES, "0-1,5,2-3,6-7", 1, "", "0"),
        (TWO_NODES, "1-7", 3, "", "1,4-5"),
        # A whole core rather than two halves.
        (TWO_NODES, "0-1,5", 2, "", "1,5"),
        # Near what one has, if there is enough.
        (TWO_NODES, "0-1,4-5,3,7", 1, "2", "3"),
        (TWO_NODES, "0-3,4-5", 4, "2", "0-1,4-5"),
        # One package rather than the fullest nodes of two.
        (FOUR_NODES, "0-2,4-7", 4, "", "4-7"),
        (FOUR_NODES, "0-3,4-7", 3, "", "0-2"),
        (FOUR_NODES, "0-3,4-7", 3, "6", "4,6-7"),
        (FOUR_NODES, "0-6", 6, "", "0-5"),
        (FOUR_NODES, "0-3", 0, "", ""),
    ],
)
def test_the_nearest_are_chosen(
    topology: Topology, free: str, count: int, near: str, chosen: str
) -> None:
    assert choose(topology, read(free), count, read(near)) == read(chosen)


def test_too_few_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 CPUs requested, 2 are free"):
        choose(TWO_NODES, read("0-1"), 3)


@given(hosts, st.data())
def test_as_many_as_wanted_of_what_is_free_and_always_the_same(
    topology: Topology, data: st.DataObject
) -> None:
    free = data.draw(st.frozensets(st.sampled_from(sorted(topology.cpus))))
    count = data.draw(st.integers(0, len(free)))
    chosen = choose(topology, free, count)
    assert chosen <= free
    assert len(chosen) == count
    shuffled = Topology(dict(reversed(list(topology.cpus.items()))), topology.memory_nodes)
    assert choose(shuffled, frozenset(sorted(free, reverse=True)), count) == chosen


@given(hosts, st.data())
def test_one_node_is_enough_when_one_has_enough(topology: Topology, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(sorted({cpu.node for cpu in topology.cpus.values()})))
    size = sum(cpu.node == node for cpu in topology.cpus.values())
    chosen = choose(topology, topology.all, data.draw(st.integers(1, size)))
    assert len({topology.cpus[cpu].node for cpu in chosen}) == 1

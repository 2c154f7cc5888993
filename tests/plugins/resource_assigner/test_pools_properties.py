"""What holds whatever comes, goes, changes and restarts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware import container, hosts, pod, resources
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from nri_inject.errors import RequestError
from nri_inject.plugins.resource_assigner.pools import (
    Cpuset,
    CpuSubject,
    Pools,
    exclusive_count,
    reconcile,
    subject_of,
    updates,
)
from nri_inject.plugins.resource_assigner.topology import Topology
from nri_inject.service.config import AssignerConfig
from nri_inject.text.cpulist import Cpus, read

NAMES = ("a", "b", "c", "d", "e")
NAMESPACES = ("default", "kube-system")

wishes = st.sampled_from((0, 0, 0.5, 1, 1, 2, 3))
creations = st.tuples(
    st.just("create"), st.sampled_from(NAMES), wishes, st.sampled_from(NAMESPACES)
)
resizes = st.tuples(st.just("update"), st.sampled_from(NAMES), wishes, st.just(""))
others = st.tuples(
    st.sampled_from(("stop", "confirm", "remove pod")),
    st.sampled_from(NAMES),
    st.just(0),
    st.just(""),
)
restarts = st.tuples(st.sampled_from(("restart", "rules")), st.just(""), st.just(0), st.just(""))
histories = st.lists(creations | resizes | others | restarts, max_size=30)


@dataclass
class Node:
    """A runtime's side: what each container has, as far as we have told it."""

    pools: Pools
    has: dict[str, Cpuset]

    def tell(self, pools: Pools) -> None:
        for update in updates(self.has, pools):
            if update.container_id in self.has:
                cpu = update.linux.resources.cpu
                self.has[update.container_id] = Cpuset(cpu.cpus, cpu.mems)
        self.pools = pools

    def create(self, subject: CpuSubject) -> None:
        if subject.id in self.pools.placed:
            return
        pools = self.pools.create(subject)
        self.tell(pools)
        self.has[subject.id] = pools.cpuset(subject.id)

    def confirm(self, container_id: str) -> None:
        if container_id in self.pools.placed:
            self.tell(self.pools.confirmed(container_id))

    def update(self, name: str, cpus: float) -> None:
        placed = self.pools.placed.get(f"id-{name}")
        if placed is not None:
            resized = subject_of(
                pod(name, placed.subject.namespace),
                container(name),
                resources(int(cpus * 1000), int(cpus * 1000)),
            )
            self.tell(self.pools.place(resized))

    def stop(self, container_ids: list[str]) -> None:
        for container_id in container_ids:
            self.has.pop(container_id, None)
        self.tell(self.pools.without(container_ids))

    def existing(self) -> list[tuple[CpuSubject, Cpus]]:
        return [
            (placed.subject, read(self.has[container_id].cpus))
            for container_id, placed in self.pools.placed.items()
        ]

    def settle(self) -> None:
        """Let all creations come to an end, as a runtime does before it tells what exists."""
        for container_id in list(self.pools.pending):
            self.confirm(container_id)

    def restart(self) -> None:
        self.settle()
        before = self.pools
        pools, notes = reconcile(before.topology, before.rules, self.existing())
        if looks_like_an_owner(before):
            self.tell(pools)
            return
        assert (pools.placed, pools.shared) == (before.placed, before.shared)
        assert all(note.endswith("; until then it uses the shared CPUs") for note in notes)
        assert updates(self.has, pools) == []
        self.pools = pools

    def change_rules(self) -> None:
        self.settle()
        rules = replace(self.pools.rules, reserved=other_reserved(self.pools))
        pools, _ = reconcile(self.pools.topology, rules, self.existing())
        self.tell(pools)


def exclusive(subject: CpuSubject, rules: AssignerConfig) -> int:
    """Return how many CPUs a container requests for itself, 0 if its request cannot be read."""
    try:
        return exclusive_count(subject, rules)
    except RequestError:
        return 0


def looks_like_an_owner(pools: Pools) -> bool:
    """Tell whether a container that shares requests just as many CPUs as the shared pool has."""
    return any(
        not placed.own and exclusive(placed.subject, pools.rules) == len(pools.shared)
        for placed in pools.placed.values()
    )


def other_reserved(pools: Pools) -> Cpus:
    """Reserve the first CPU, or none if it is reserved, or if there is no other."""
    first = frozenset({min(pools.topology.all)})
    return frozenset() if pools.rules.reserved or first == pools.topology.all else first


def step(node: Node, what: str, name: str, cpus: float, namespace: str) -> None:
    match what:
        case "create":
            node.create(subject_of(pod(name, namespace), container(name, cpus=cpus)))
        case "update":
            node.update(name, cpus)
        case "stop":
            node.stop([f"id-{name}"])
        case "confirm":
            node.confirm(f"id-{name}")
        case "remove pod":
            node.stop(node.pools.of_pod(f"pod-{name}"))
        case "restart":
            node.restart()
        case "rules":
            node.change_rules()


def check(node: Node) -> None:
    pools = node.pools
    taken: set[int] = set()
    for placed in pools.placed.values():
        assert taken.isdisjoint(placed.own)
        taken |= placed.own
    assert pools.shared == pools.topology.all - pools.rules.reserved - taken
    assert pools.shared
    assert pools.placed.keys() == node.has.keys()
    assert pools.pending <= pools.placed.keys()
    for container_id in pools.placed.keys() - pools.pending:
        assert node.has[container_id] == pools.cpuset(container_id)


@examples(300)
@given(hosts, histories)
def test_whatever_happens(topology: Topology, history: list[tuple[str, str, float, str]]) -> None:
    node = Node(Pools(topology, AssignerConfig()), {})
    for what, name, cpus, namespace in history:
        before = node.pools
        try:
            step(node, what, name, cpus, namespace)
        except RequestError:
            assert node.pools == before
        check(node)
    node.settle()
    check(node)
    node.stop(list(node.pools.placed))
    assert node.pools.shared == topology.all - node.pools.rules.reserved

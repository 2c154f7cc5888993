"""The assignment of CPUs: requests of containers, the pools, and the moves. Pure.

A container has exclusive CPUs, or is in the reserved pool, or in the shared one, which is all the
rest and never empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final, NamedTuple

from nri_inject.api import Container, ContainerUpdate, LinuxCPU, LinuxResources, Pod
from nri_inject.errors import Faulty, RequestError
from nri_inject.plugins.resource_assigner.allocate import choose
from nri_inject.plugins.resource_assigner.topology import Topology
from nri_inject.service.config import AssignerConfig
from nri_inject.text import cpulist
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.cpulist import Cpus
from nri_inject.text.words import plain, quoted

ANNOTATION: Final = "exclusive-cpus.noderesource.dev"
"""How many CPUs a container wants for itself; 0 for none, even of those that it would get."""

# What kubelet makes of a request for one CPU: shares are milli-CPUs * 1024 / 1000, rounded down
# (Kubernetes, pkg/kubelet/cm/helpers_linux.go). So a multiple of it is always a whole number.
_SHARES: Final = 1024

# Characters of an annotation that are kept; a number of CPUs takes 5 at most.
_MAX_ASKED: Final = 100


@dataclass(frozen=True, slots=True)
class CpuSubject:
    """What of a container decides on its CPUs.

    `key` and `asked` are the annotation that counts, empty and None without one. `shares`,
    `quota` and `period` are those of the kernel, 0 where not set. `guaranteed` is what can be
    seen of the pod's and the container's class: a memory limit, and no other class's cgroup.
    """

    id: str
    pod_id: str
    name: str
    namespace: str
    where: str
    key: str = ""
    asked: str | None = None
    shares: int = 0
    quota: int = 0
    period: int = 0
    guaranteed: bool = False


def subject_of(pod: Pod, container: Container, changed: LinuxResources | None = None) -> CpuSubject:
    """Return the facts that decide on a container's CPUs; `changed` has those of an update."""
    name = container_name(container)
    key, asked = find(pod.annotations, ANNOTATION, "", name) or ("", None)
    now, new = container.linux.resources, changed or LinuxResources()
    limit = new.memory.limit.value or now.memory.limit.value
    tier = pod.linux.cgroup_parent
    return CpuSubject(
        id=container.id,
        pod_id=pod.id or container.pod_sandbox_id,
        name=name,
        namespace=pod.namespace,
        where=where(pod, container),
        key=key,
        asked=asked and asked.strip()[:_MAX_ASKED],
        # In an update of CRI's, 0 means that nothing was said.
        shares=new.cpu.shares.value or now.cpu.shares.value,
        quota=new.cpu.quota.value or now.cpu.quota.value,
        period=new.cpu.period.value or now.cpu.period.value,
        guaranteed=limit > 0 and not any(word in tier for word in ("burstable", "besteffort")),
    )


def exclusive_count(subject: CpuSubject, rules: AssignerConfig) -> int:
    """Return how many CPUs a container is to have for itself; 0 if it is to be in a pool.

    Raises RequestError for an annotation that is no number, or more than it may request.
    """
    if subject.asked is not None:
        return _asked_count(subject, subject.asked, rules)
    count, rest = divmod(subject.shares, _SHARES)
    is_whole = rest == 0 and 0 < subject.quota == count * subject.period
    return count if rules.whole_cpus and subject.guaranteed and is_whole else 0


def _asked_count(subject: CpuSubject, text: str, rules: AssignerConfig) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise _refusal(subject, f"{quoted(text)} is not a number of CPUs, such as 2")
    count, requested = int(text), subject.shares // _SHARES
    if count > requested and not _matches(subject.namespace, rules.beyond_requests):
        raise _refusal(
            subject,
            f"exclusive CPUs: the annotation requests {count}, resources.requests.cpu {requested};"
            f" set resources.requests.cpu to {count}, or request fewer",
        )
    return count


def _refusal(subject: CpuSubject, sentence: str) -> RequestError:
    fault = f"annotation {plain(subject.key)}: {sentence}" if subject.key else sentence
    return RequestError([fault], where=subject.where)


def _matches(namespace: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(namespace, pattern) for pattern in patterns)


class Cpuset(NamedTuple):
    """CPUs and memory nodes as the kernel writes them; empty where nothing is said."""

    cpus: str
    mems: str

    def resources(self) -> LinuxResources:
        """Return what an adjustment or an update says of them."""
        return LinuxResources(cpu=LinuxCPU(cpus=self.cpus, mems=self.mems))


def cpuset_of(container: Container) -> Cpuset:
    """Return the cpuset of a container, as the runtime reports it."""
    return Cpuset(container.linux.resources.cpu.cpus, container.linux.resources.cpu.mems)


class Placed(NamedTuple):
    """A container, and the CPUs that it has for itself, none if it is in a pool."""

    subject: CpuSubject
    own: Cpus = frozenset()


@dataclass(frozen=True)
class Pools:
    """All containers and their CPUs; each change is a new value.

    `pending` are the ids of those of which the runtime has not yet said that they exist.
    """

    topology: Topology
    rules: AssignerConfig
    placed: Mapping[str, Placed] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse reserved CPUs that are not there, or that leave nothing to share."""
        unknown = self.rules.reserved - self.topology.all
        if unknown:
            raise Faulty(
                f"reserved CPUs {cpulist.format_cpu_list(unknown)} are missing, offline or"
                " isolated;"
                f" available CPUs: {cpulist.format_cpu_list(self.topology.all)}"
            )
        if not self.topology.all - self.rules.reserved:
            raise Faulty("all CPUs are reserved; at least one must stay shared")

    @cached_property
    def shared(self) -> Cpus:
        """The CPUs of the shared pool."""
        own = frozenset[int]().union(*(placed.own for placed in self.placed.values()))
        return self.topology.all - self.rules.reserved - own

    def cpus_of(self, container_id: str) -> Cpus:
        """Return the CPUs that a container may use."""
        placed = self.placed[container_id]
        if placed.own:
            return placed.own
        is_reserved = _matches(placed.subject.namespace, self.rules.reserved_namespaces)
        return self.rules.reserved if is_reserved and self.rules.reserved else self.shared

    def cpusets(self) -> dict[str, Cpuset]:
        """Return what each container is to have, by id."""
        cpus = {container_id: self.cpus_of(container_id) for container_id in self.placed}
        made = {each: self._cpuset(each) for each in set(cpus.values())}
        return {container_id: made[each] for container_id, each in cpus.items()}

    def cpuset(self, container_id: str) -> Cpuset:
        """Return what a container is to have."""
        return self._cpuset(self.cpus_of(container_id))

    def _cpuset(self, cpus: Cpus) -> Cpuset:
        nodes = self.topology.nodes_of(cpus) if self.rules.memory_nodes else frozenset()
        return Cpuset(cpulist.format_cpu_list(cpus), cpulist.format_cpu_list(nodes))

    def create(self, subject: CpuSubject) -> Pools:
        """Place a container that is to be created; RequestError if it cannot have what it requests.

        It takes the place of one of the same name in the same pod whose creation never came to
        an end: CRI-O does not report that.
        """
        failed = [
            container_id
            for container_id in self.pending
            if container_id != subject.id
            and self._is_same(self.placed[container_id].subject, subject)
        ]
        pools = self.without(failed).place(subject)
        return dataclasses.replace(pools, pending=pools.pending | {subject.id})

    @staticmethod
    def _is_same(one: CpuSubject, other: CpuSubject) -> bool:
        return (one.pod_id, one.name) == (other.pod_id, other.name)

    def place(self, subject: CpuSubject) -> Pools:
        """Place a container, new or with other wishes than before; RequestError as in `create`.

        One that had CPUs of its own keeps as many of them as it still wants.
        """
        count = exclusive_count(subject, self.rules)
        own = self.placed[subject.id].own if subject.id in self.placed else frozenset()
        if count <= len(own):
            return self.put(Placed(subject, choose(self.topology, own, count)))._filled()
        more = self._taken(subject, count - len(own), count, near=own)
        return self.put(Placed(subject, own | more))

    def _taken(self, subject: CpuSubject, more: int, count: int, near: Cpus) -> Cpus:
        free = self.shared
        if more > len(free) - 1:
            raise _refusal(subject, self._shortage(count, len(free), len(near)))
        return choose(self.topology, free, more, near)

    def _shortage(self, count: int, free: int, had: int) -> str:
        taken = sum(len(placed.own) for placed in self.placed.values()) - had
        most = free - 1 + had
        return (
            f"exclusive CPUs: {count} requested, {most} available: of {len(self.topology.all)} CPUs"
            f" {len(self.rules.reserved)} are reserved, {taken} exclusive to other containers,"
            f" and 1 is always shared; request fewer, or use another node"
        )

    def confirmed(self, container_id: str) -> Pools:
        """Note that a container exists."""
        return dataclasses.replace(self, pending=self.pending - {container_id})

    def without(self, ids: Collection[str]) -> Pools:
        """Give back what these containers had."""
        if self.placed.keys().isdisjoint(ids):
            return self
        left = {name: placed for name, placed in self.placed.items() if name not in ids}
        pools = dataclasses.replace(self, placed=left, pending=self.pending.difference(ids))
        return pools._filled()

    def _filled(self) -> Pools:
        """Give CPUs of their own to those that share for lack of them, as far as there are now."""
        pools = self
        for name in sorted(self.placed):
            subject, own = self.placed[name]
            if not own and _count(subject, self.rules):
                pools, _ = adopt(pools, subject)
        return pools

    def of_pod(self, pod_id: str) -> list[str]:
        """Return the ids of a pod's containers."""
        return [name for name, placed in self.placed.items() if placed.subject.pod_id == pod_id]

    def put(self, placed: Placed) -> Pools:
        """Record the CPUs of a container."""
        return dataclasses.replace(self, placed={**self.placed, placed.subject.id: placed})


def reconcile(
    topology: Topology, rules: AssignerConfig, existing: Sequence[tuple[CpuSubject, Cpus]]
) -> tuple[Pools, list[str]]:
    """Return the pools for existing containers with these CPUs, and the differences.

    A container keeps its CPUs if it has as many as it requests and no other container keeps one of
    them. A container that shares looks like that, too, if the shared pool has just as many CPUs as
    it requests. The containers with the most CPUs come first, so such a one keeps on sharing unless
    it requests as many as another.
    """
    pools, notes = Pools(topology, rules), []
    moving: list[tuple[CpuSubject, Cpus]] = []
    for subject, cpus in sorted(existing, key=lambda entry: (-len(entry[1]), entry[0].id)):
        if cpus and len(cpus) == _count(subject, rules) and cpus < pools.shared:
            pools = pools.put(Placed(subject, cpus))
        else:
            moving.append((subject, cpus))
    for subject, cpus in moving:
        pools, refused = adopt(pools, subject)
        own = pools.placed[subject.id].own
        if refused:
            notes.append(refused)
        elif own:
            had = cpulist.format_cpu_list(cpus) or "any"
            notes.append(
                f"{subject.where}: had CPUs {had}, now has exclusive CPUs"
                f" {cpulist.format_cpu_list(own)}"
            )
    return pools, notes


def adopt(pools: Pools, subject: CpuSubject) -> tuple[Pools, str]:
    """Place a container that already exists.

    It cannot be refused any more: if it cannot have what it requests, it shares, and the sentence
    says why. The sentence is empty otherwise.
    """
    try:
        return pools.place(subject), ""
    except RequestError as error:
        return pools.put(Placed(subject)), f"{error}; until then it uses the shared CPUs"


def _count(subject: CpuSubject, rules: AssignerConfig) -> int:
    try:
        return exclusive_count(subject, rules)
    except RequestError:
        return 0


def updates(before: Mapping[str, Cpuset], pools: Pools) -> list[ContainerUpdate]:
    """Return what to ask of a runtime whose containers have what is in `before`.

    Containers that do not exist yet are left out: the one that is being created must not be in
    the answer (NRI 0.12, pkg/adaptation), and others are looked after once they exist. One that has
    gone meanwhile is no reason to fail.
    """
    found: list[ContainerUpdate] = []
    for container_id, cpuset in pools.cpusets().items():
        if container_id not in pools.pending and before.get(container_id) != cpuset:
            update = ContainerUpdate(container_id=container_id, ignore_failure=True)
            update.linux.resources.CopyFrom(cpuset.resources())
            found.append(update)
    return found

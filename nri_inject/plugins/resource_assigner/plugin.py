"""The handlers of the resource assigner: they pass the runtime's events to `pools`, and answer."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    Container,
    ContainerUpdate,
    CreateContainerResponse,
    LinuxContainerAdjustment,
    LinuxResources,
    Pod,
)
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.plugins.resource_assigner import noting, topology
from nri_inject.plugins.resource_assigner.pools import (
    ANNOTATION,
    Pools,
    adopt,
    cpuset_of,
    reconcile,
    subject_of,
    updates,
)
from nri_inject.plugins.resource_assigner.topology import Topology
from nri_inject.service import config, logs
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import AssignerConfig, Config
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.records import Records
from nri_inject.stub import Stub
from nri_inject.text import cpulist
from nri_inject.text.annotations import container_name

log = logging.getLogger(__name__)

MAX_PODS: Final = 8 << 20
"""How many bytes of the pods that exist are kept while a runtime reports them."""


class ResourceAssigner:
    """The service: the pools as they are now."""

    def __init__(
        self,
        options: Options,
        configured: Config,
        topology: Callable[[], Topology] = topology.read,
    ) -> None:
        self._topology = topology
        self._stub: Stub | None = None
        logs.send_to(configured.log_target)
        self._notes: Notes | None = None
        self._noted: noting.Noted | None = None
        self._failure_policy = configured.failure_policy
        self._pools = Pools(topology(), configured.resource_assigner)
        self._reported_pods = Records(MAX_PODS)
        self._reported_containers: list[Container] = []
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            synchronize=self.synchronize,
            synchronize_part=self.synchronize_part,
            create_container=self.create_container,
            post_create_container=self.post_create_container,
            update_container=self.update_container,
            stop_container=self.stop_container,
            remove_container=self.remove_container,
            remove_pod_sandbox=self.remove_pod_sandbox,
        )

    def attach(self, stub: Stub) -> None:
        """Send updates of containers with this stub."""
        self._stub = stub

    def remember(self, notes: Notes, *, resumes: bool) -> None:
        """Note each container's CPUs; one that resumes begins with those that are noted.

        It does so when it is configured: the rules may come with the drop-in configuration.
        """
        self._notes = notes
        if resumes:
            self._noted = noting.read(notes)
        else:
            noting.clear(notes)

    def close(self) -> None:
        """Need nothing."""

    def configure(self, request: ConfigureRequest) -> Plugin:
        """Take the drop-in configuration, which wins over the file from then on.

        Return the plugin with the failure policy of the configuration.
        """
        self._reported_pods, self._reported_containers = Records(MAX_PODS), []
        if request.config:
            self.reconfigure(config.read(request.config, "drop-in configuration"))
        if self._noted is not None:
            self._resume(self._noted)
            self._noted = None
        return dataclasses.replace(self.plugin, failure_policy=self._failure_policy)

    def _resume(self, noted: noting.Noted) -> None:
        pools, lines = reconcile(self._topology(), self._pools.rules, noted.existing)
        self._become(dataclasses.replace(pools, pending=noted.pending), lines)
        if noted.is_asking:  # the worker before may have died with updates that it had not sent
            self._ask(updates({}, self._pools))

    def reconfigure(self, configured: Config) -> None:
        """Use other rules from now on; ConfigError, and those before stay, if they are bad."""
        rules = configured.resource_assigner
        if rules != self._pools.rules:
            self._place_anew(rules)
        self._failure_policy = configured.failure_policy

    def _place_anew(self, rules: AssignerConfig) -> None:
        before = self._pools
        existing = [
            (placed.subject, before.cpus_of(name)) for name, placed in before.placed.items()
        ]
        pools, notes = reconcile(self._topology(), rules, existing)
        log.info("new rules")
        self._become(dataclasses.replace(pools, pending=before.pending), notes)
        self._ask(updates(before.cpusets(), self._pools))

    def synchronize_part(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        """Keep what decides on CPUs of a part of what exists."""
        for pod in pods:
            self._reported_pods.put(pod.id, _essence_of_pod(pod).SerializeToString())
        self._reported_containers.extend(map(_essence_of_container, containers))

    def synchronize(
        self, pods: Sequence[Pod], containers: Sequence[Container]
    ) -> list[ContainerUpdate]:
        """Rebuild the pools from the existing containers, and update those that are wrong."""
        self.synchronize_part(pods, containers)  # none where they came in parts
        reported, containers = self._reported_pods, self._reported_containers
        self._reported_pods, self._reported_containers = Records(MAX_PODS), []
        if reported.left_out:
            log.warning(
                "the annotations of %d pods are not read, since they have more than %d MiB in all",
                reported.left_out,
                MAX_PODS >> 20,
            )
        existing = [
            (
                subject_of(
                    Pod.FromString(reported.get(container.pod_sandbox_id) or b""), container
                ),
                _cpus(container.linux.resources.cpu.cpus),
            )
            for container in containers
        ]
        self._become(*reconcile(self._topology(), self._pools.rules, existing))
        log.info(
            "%d containers, %d of them with CPUs of their own; shared CPUs are %s",
            len(containers),
            sum(1 for placed in self._pools.placed.values() if placed.own),
            cpulist.format_cpu_list(self._pools.shared),
        )
        return updates({each.id: cpuset_of(each) for each in containers}, self._pools)

    def create_container(self, pod: Pod, container: Container) -> CreateContainerResponse:
        """Place a container; those that share make room for it in the same answer."""
        before = self._pools
        # A worker before this one may have died before its answer, and the others' part in it.
        known = {} if container.id in before.pending else before.cpusets()
        self._become(before.create(subject_of(pod, container)))
        cpuset = self._pools.cpuset(container.id)
        linux = LinuxContainerAdjustment(resources=cpuset.resources())
        return CreateContainerResponse(
            adjust=Adjustment(linux=linux), update=updates(known, self._pools)
        )

    def post_create_container(self, pod: Pod, container: Container) -> None:
        """See that a container has its CPUs: others may have come between, or we may have."""
        before = self._pools.cpusets() | {container.id: cpuset_of(container)}
        if container.id in self._pools.placed:
            self._become(self._pools.confirmed(container.id))
        else:
            pools, refused = adopt(self._pools, subject_of(pod, container))
            self._become(pools, [refused] if refused else [])
        self._ask(updates(before, self._pools))

    def update_container(
        self, pod: Pod, container: Container, resources: LinuxResources
    ) -> list[ContainerUpdate]:
        """Give a container more CPUs or fewer if it now requests so, and hold it to its own."""
        before = self._pools.cpusets()
        subject = subject_of(pod, container, resources)
        self._become(self._pools.place(subject).confirmed(container.id))
        before.pop(container.id, None)
        answer = updates(before, self._pools)
        for update in answer:
            update.ignore_failure = update.container_id != container.id
        return answer

    def stop_container(self, _: Pod, container: Container) -> list[ContainerUpdate]:
        """Free the CPUs of a container; the containers of the shared pool get them."""
        before = self._pools.cpusets()
        self._become(self._pools.without([container.id]))
        return updates(before, self._pools)

    def remove_container(self, pod: Pod, container: Container) -> None:
        """Do the same if the stop was not reported; this response has no field for updates."""
        self._ask(self.stop_container(pod, container))

    def remove_pod_sandbox(self, pod: Pod) -> None:
        """Give back what is left of a pod."""
        before = self._pools.cpusets()
        self._become(self._pools.without(self._pools.of_pod(pod.id)))
        self._ask(updates(before, self._pools))

    def _become(self, pools: Pools, notes: Iterable[str] = ()) -> None:
        """Take a new state of things, and log what is new in it."""
        before, self._pools = self._pools, pools
        if self._notes is not None:
            noting.write(self._notes, before, pools)
        for note in notes:
            log.warning("%s", note)
        for container_id, placed in pools.placed.items():
            had = before.placed.get(container_id, placed._replace(own=frozenset())).own
            if placed.own and placed.own != had:
                log.info(
                    "%s: exclusive CPUs %s",
                    placed.subject.where,
                    cpulist.format_cpu_list(placed.own),
                )
        if pools.shared != before.shared:
            log.info("shared CPUs are %s", cpulist.format_cpu_list(pools.shared))

    def _ask(self, wanted: list[ContainerUpdate]) -> None:
        """Have containers updated outside of an answer."""
        if wanted and self._stub is not None:
            if self._notes is not None:
                noting.ask(self._notes)
            self._stub.update(wanted, self._updated)

    def _updated(self, outcome: list[ContainerUpdate] | NriError) -> None:
        if self._notes is not None:
            noting.answered(self._notes)
        _updated(outcome)


def _essence_of_pod(pod: Pod) -> Pod:
    """Return a pod with nothing but what `subject_of` reads."""
    essence = Pod(id=pod.id, name=pod.name, namespace=pod.namespace)
    for key, value in pod.annotations.items():
        if key.startswith(ANNOTATION):
            essence.annotations[key] = value
    essence.linux.cgroup_parent = pod.linux.cgroup_parent
    return essence


def _essence_of_container(container: Container) -> Container:
    """Return a container with nothing but what `subject_of` and `cpuset_of` read."""
    essence = Container(
        id=container.id, name=container_name(container), pod_sandbox_id=container.pod_sandbox_id
    )
    essence.linux.resources.cpu.CopyFrom(container.linux.resources.cpu)
    essence.linux.resources.memory.CopyFrom(container.linux.resources.memory)
    return essence


def _updated(outcome: list[ContainerUpdate] | NriError) -> None:
    if isinstance(outcome, NriError):
        log.error("the runtime did not update containers: %s", outcome)
    elif outcome:
        ids = ", ".join(update.container_id for update in outcome)
        log.error("the runtime did not update these containers: %s", ids)


def _cpus(text: str) -> cpulist.Cpus:
    """Read a runtime's list of CPUs; an invalid one counts as empty."""
    try:
        return cpulist.read(text)
    except ValueError:
        return frozenset()


main: Final = Command(
    name="resource-assigner",
    idx="80",
    service=ResourceAssigner,
    help="Assign exclusive or shared CPUs to containers.",
    example="nri-resource-assigner --config /etc/nri-inject.yaml",
)

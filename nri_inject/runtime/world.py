"""Pods and containers, with their life as a runtime runs it, for programs that keep none.

It is a runtime without processes. Events are sent in the order, and objects in the states, of
containerd or CRI-O; the adjusted OCI spec is the one for their shim. Times and exit codes stay 0.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nri_inject import api
from nri_inject.api import Adjustment, Container, ContainerState, ContainerUpdate, Event, Pod
from nri_inject.errors import NriError
from nri_inject.runtime import resources
from nri_inject.runtime.adaptation import Adaptation, Created
from nri_inject.runtime.apply import CdiInjector, OciSpec, Resolvers, apply
from nri_inject.runtime.oci_spec import oci_spec

log = logging.getLogger(__name__)

_PID: Final = 2**22 + 2  # one that the kernel never gives out: its largest is 2**22


@dataclass(frozen=True, slots=True)
class Made:
    """A container that was created: what plugins made of it, and its OCI spec before and after."""

    created: Created
    before: OciSpec
    spec: OciSpec

    @property
    def adjust(self) -> Adjustment:
        """The merged adjustment."""
        return self.created.merged.adjust


class World:
    """The pods and containers of a node, as the plugins of `adaptation` see them.

    The adaptation reports its content to new plugins, and passes their updates to it. `faults`
    has what went wrong where a runtime logs it and goes on. `cdi`, `propagation` and `resolvers`
    are the host's, as `apply` takes them.

    A method that asks plugins for leave raises what they answer; the world is then as a runtime
    would leave it. KeyError for a pod or container that is not there.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        *,
        cdi: CdiInjector | None = None,
        propagation: Mapping[str, str] | None = None,
        resolvers: Resolvers | None = None,
    ) -> None:
        self.adaptation = adaptation
        self.pods: dict[str, Pod] = {}
        self.containers: dict[str, Container] = {}
        self.faults: list[str] = []
        self._cdi, self._propagation, self._resolvers = cdi, propagation, resolvers
        self._is_crio = adaptation.runtime.name.lower() == "cri-o"
        # NRI 0.12.2 came with containerd 2.4, which reports a container's end after it has ended.
        self._stops_first = self._is_crio or adaptation.runtime.nri >= (0, 12, 2)
        adaptation.existing = self.existing
        adaptation.update = self.update

    def existing(self) -> tuple[Sequence[Pod], Sequence[Container]]:
        """Return all pods, and the containers that have not stopped."""
        alive = [each for each in self.containers.values() if _lives(each)]
        return list(self.pods.values()), alive

    def update(self, updates: Sequence[ContainerUpdate]) -> list[ContainerUpdate]:
        """Make updates that plugins want; return those of containers that have stopped.

        Containers that are not known are passed over in silence, as by runtimes.
        """
        failed: list[ContainerUpdate] = []
        for update in updates:
            container = self.containers.get(update.container_id)
            if container is None:
                continue
            if _lives(container):
                self._set_resources(container, update.linux.resources)
            else:
                failed.append(update)
        return failed

    # --- pods -------------------------------------------------------------------------------------

    def run_pod(self, pod: Pod) -> None:
        """Run a pod; its id must be new (ValueError). A plugin that refuses it ends it again."""
        if pod.id in self.pods:
            raise ValueError(f"pod {pod.id!r} already exists")
        self.pods[pod.id] = api.copy_of(pod)
        try:
            self._tell(Event.RUN_POD_SANDBOX, pod.id)
        except NriError:
            self._end_pod(pod.id)
            raise

    def update_pod(
        self, pod_id: str, overhead: api.LinuxResources, wanted: api.LinuxResources
    ) -> None:
        """Change a pod's resources."""
        pod = self.pods[pod_id]
        self.adaptation.update_pod_sandbox(api.copy_of(pod), overhead, wanted)
        pod.linux.pod_overhead.CopyFrom(overhead)
        pod.linux.pod_resources.CopyFrom(wanted)
        self._try_to_tell(Event.POST_UPDATE_POD_SANDBOX, pod_id)

    def stop_pod(self, pod_id: str) -> None:
        """Stop a pod and its containers. Under CRI-O a plugin can fail it, under containerd not."""
        for container in self._containers_of(pod_id):
            self.stop(container.id)
        if self._is_crio:
            self._tell(Event.STOP_POD_SANDBOX, pod_id)
        else:
            self._try_to_tell(Event.STOP_POD_SANDBOX, pod_id)

    def remove_pod(self, pod_id: str) -> None:
        """Remove a stopped pod with its containers."""
        for container in self._containers_of(pod_id):
            self.remove(container.id)
        self._try_to_tell(Event.REMOVE_POD_SANDBOX, pod_id)
        del self.pods[pod_id]

    # --- containers -------------------------------------------------------------------------------

    def create(self, container: Container, spec: OciSpec | None = None) -> Made:
        """Create a container in the pod of `container.pod_sandbox_id`; its id must be new.

        `spec` is its OCI spec before plugins, one like a runtime's unless given. Where creation
        fails, containerd reports to all plugins that the container stopped and is removed.
        """
        if container.id in self.containers:
            raise ValueError(f"container {container.id!r} already exists")
        pod = self.pods[container.pod_sandbox_id]
        before = oci_spec(container) if spec is None else spec
        try:
            made = self._made(pod, container, before)
        except NriError:
            if not self._is_crio:
                self._take_back(pod, container)
            raise
        created = api.copy_of(container)
        created.state = ContainerState.CONTAINER_CREATED
        self.containers[container.id] = created
        self._make(made.created.merged.updates)
        self._try_to_tell(Event.POST_CREATE_CONTAINER, pod.id, created)
        return made

    def start(self, container_id: str) -> None:
        """Start a created container. Under containerd a plugin can fail it: it is stopped then."""
        container = self.containers[container_id]
        try:
            self._tell(Event.START_CONTAINER, container.pod_sandbox_id, container)
        except NriError as error:
            if not self._is_crio:
                self.stop(container_id)
                raise
            self._note(Event.START_CONTAINER, error)
        container.pid = _PID
        container.state = ContainerState.CONTAINER_RUNNING
        self._try_to_tell(Event.POST_START_CONTAINER, container.pod_sandbox_id, container)

    def update_container(self, container_id: str, wanted: api.LinuxResources) -> None:
        """Change a container's resources to what is wanted, or to what plugins make of that."""
        container = self.containers[container_id]
        pod = self.pods[container.pod_sandbox_id]
        merged = self.adaptation.update_container(api.copy_of(pod), api.copy_of(container), wanted)
        self._make(merged.updates)
        final = wanted if merged.own is None else merged.own.linux.resources
        self._set_resources(container, final)
        self._try_to_tell(Event.POST_UPDATE_CONTAINER, pod.id, container)

    def stop(self, container_id: str) -> None:
        """Stop a container; one that has stopped is not reported again."""
        container = self.containers[container_id]
        if not _lives(container):
            return
        copied = api.copy_of(container)
        container.state, container.pid = ContainerState.CONTAINER_STOPPED, 0
        self._stop(self.pods[container.pod_sandbox_id], container if self._stops_first else copied)

    def remove(self, container_id: str) -> None:
        """Remove a container, which is stopped before if it was not."""
        self.stop(container_id)
        container = self.containers.pop(container_id)
        self._try_to_tell(Event.REMOVE_CONTAINER, container.pod_sandbox_id, container)

    # --- inside -----------------------------------------------------------------------------------

    def _made(self, pod: Pod, container: Container, before: OciSpec) -> Made:
        created = self.adaptation.create_container(api.copy_of(pod), container)
        spec = apply(
            before,
            created.merged.adjust,
            propagation=self._propagation,
            cdi=self._cdi,
            resolvers=self._resolvers,
        )
        return Made(created, before, spec)

    def _take_back(self, pod: Pod, container: Container) -> None:
        """Report the end of a container that was never created, with the known facts."""
        known = Container(id=container.id, pod_sandbox_id=pod.id, name=container.name)
        self._stop(pod, known)
        self._try_to_tell(Event.REMOVE_CONTAINER, pod.id, known)

    def _end_pod(self, pod_id: str) -> None:
        for event in (Event.STOP_POD_SANDBOX, Event.REMOVE_POD_SANDBOX):
            self._try_to_tell(event, pod_id)
        del self.pods[pod_id]

    def _containers_of(self, pod_id: str) -> list[Container]:
        return [each for each in self.containers.values() if each.pod_sandbox_id == pod_id]

    def _stop(self, pod: Pod, container: Container) -> None:
        try:
            merged = self.adaptation.stop_container(api.copy_of(pod), api.copy_of(container))
        except NriError as error:
            self._note(Event.STOP_CONTAINER, error)
        else:
            self._make(merged.updates)

    def _make(self, updates: Sequence[ContainerUpdate]) -> None:
        """Make what plugins want changed in other containers; a failure is only logged."""
        for update in self.update(updates):
            if not update.ignore_failure:
                self._fault(f"update of container {update.container_id}: it has stopped")

    def _set_resources(self, container: Container, wanted: api.LinuxResources) -> None:
        resources.update(container.linux.resources, wanted, everything=self._is_crio)

    def _tell(self, event: Event, pod_id: str, container: Container | None = None) -> None:
        copied = None if container is None else api.copy_of(container)
        self.adaptation.tell(event, api.copy_of(self.pods[pod_id]), copied)

    def _try_to_tell(self, event: Event, pod_id: str, container: Container | None = None) -> None:
        try:
            self._tell(event, pod_id, container)
        except NriError as error:
            self._note(event, error)

    def _note(self, event: Event, error: NriError) -> None:
        self._fault(f"{Event.Name(event)}: {error.reason}")

    def _fault(self, text: str) -> None:
        log.warning("%s", text)
        self.faults.append(text)


def _lives(container: Container) -> bool:
    return container.state != ContainerState.CONTAINER_STOPPED

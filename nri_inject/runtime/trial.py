"""A trial: the pods of manifests on the embedded runtime, and what becomes of their containers.

Plugins are real; the runtime, its pods and its containers are ours, and nothing runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from nri_inject import api, capabilities
from nri_inject.capabilities import Runtime
from nri_inject.errors import NriError
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.manifests import Planned
from nri_inject.runtime.world import Made, World
from nri_inject.text.annotations import container_name

_M = TypeVar("_M", bound=Message)


@dataclass(slots=True)
class Outcome:
    """What became of one container: what the plugins want changed, or why it fails.

    `updates` are those of other containers, `life` sentences on what happened after creation.
    """

    planned: Planned
    made: Made | None
    error: str = ""
    updates: list[api.ContainerUpdate] = dataclasses.field(default_factory=list)
    life: list[str] = dataclasses.field(default_factory=list)

    @property
    def pod(self) -> str:
        """Namespace and name."""
        return f"{self.planned.pod.namespace}/{self.planned.pod.name}"

    @property
    def container(self) -> str:
        """Name of the container."""
        return container_name(self.planned.container)


def as_reported(planned: Planned, runtime: Runtime) -> Planned:
    """Return a container with what a runtime reports of it to plugins, and no more."""
    container = api.copy_of(planned.container)
    if not capabilities.reports_user(runtime):
        container.ClearField("user")
    if not capabilities.reports_image(runtime):
        container.ClearField("image")
    return dataclasses.replace(planned, container=container)


class _World(World):
    """A world that remembers which updates plugins wanted."""

    def __init__(self, adaptation: Adaptation) -> None:
        super().__init__(adaptation)
        self.updates: list[api.ContainerUpdate] = []

    def update(self, updates: Sequence[api.ContainerUpdate]) -> list[api.ContainerUpdate]:
        """Make updates, and remember them."""
        self.updates.extend(updates)
        return super().update(updates)


def create(adaptation: Adaptation, planned: Iterable[Planned], *, lives: bool) -> Iterator[Outcome]:
    """Run every pod and create its containers; with `lives`, lead them through their life.

    The outcomes come in the order of the containers.
    """
    world = _World(adaptation)
    for group in _by_pod(planned):
        ids = {one.container.id for one in group}
        if group[0].pod.id in world.pods or ids & world.containers.keys():
            world = _World(adaptation)  # the ids belong to an earlier run
        outcomes = _created(world, group)
        if lives:
            outcomes = iter(_lived(world, group[0].pod.id, list(outcomes)))
        yield from outcomes


def _by_pod(planned: Iterable[Planned]) -> Iterator[list[Planned]]:
    """Put the containers together that follow each other in one pod."""
    group: list[Planned] = []
    for one in planned:
        ids = {each.container.id for each in group}
        if group and (one.pod != group[0].pod or one.container.id in ids):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _created(world: _World, group: list[Planned]) -> Iterator[Outcome]:
    adaptation = world.adaptation
    before = len(adaptation.dropped), len(adaptation.passed)
    try:
        world.run_pod(group[0].pod)
    except NriError as error:
        yield from (Outcome(one, None, f"RunPodSandbox: {error.reason}") for one in group)
        return
    for one in group:
        container = api.copy_of(one.container)
        container.pod_sandbox_id = one.pod.id
        outcome = _outcome(world, one, container)
        silent = adaptation.dropped[before[0] :] + adaptation.passed[before[1] :]
        if silent and outcome.made is not None:
            outcome.made = None
            outcome.error = f"{'; '.join(silent)}; a runtime would create the container without it"
        before = len(adaptation.dropped), len(adaptation.passed)
        yield outcome


def _outcome(world: _World, planned: Planned, container: api.Container) -> Outcome:
    try:
        made = world.create(container)
    except NriError as error:
        return Outcome(planned, None, error.reason)
    return Outcome(planned, made, updates=list(made.created.merged.updates))


def _lived(world: _World, pod_id: str, outcomes: list[Outcome]) -> list[Outcome]:
    """Start, stop and remove what was created, and then the pod."""
    alive = [one for one in outcomes if one.planned.container.id in world.containers]
    for name, step in (("start", world.start), ("stop", world.stop), ("remove", world.remove)):
        for outcome in alive:
            _step(world, outcome, name, step, outcome.planned.container.id)
    for outcome in alive:
        outcome.life.insert(0, "start, stop, remove")
    if pod_id in world.pods:
        _step(world, outcomes[-1], "stop pod", world.stop_pod, pod_id)
        _step(world, outcomes[-1], "remove pod", world.remove_pod, pod_id)
    return outcomes


def _step(
    world: _World, outcome: Outcome, name: str, step: Callable[[str], None], target: str
) -> None:
    """Take one step, and note in the outcome what a person would want to know of it."""
    before = len(world.faults), len(world.adaptation.dropped), len(world.updates)
    try:
        step(target)
    except NriError as error:
        outcome.made, outcome.error = None, outcome.error or f"{name}: {error.reason}"
    faults, dropped = world.faults[before[0] :], world.adaptation.dropped[before[1] :]
    updates = world.updates[before[2] :]
    outcome.updates.extend(updates)
    outcome.life.extend(f"{name}: {fault}; a runtime would only log that" for fault in faults)
    outcome.life.extend(f"{name}: {lost}; it is not called again" for lost in dropped)
    outcome.life.extend(f"{name}: updates {json.dumps(update_json(each))}" for each in updates)


# --- messages -----------------------------------------------------------------------------------


def update_json(update: api.ContainerUpdate) -> dict[str, Any]:
    """Return an update in protobuf's JSON."""
    return json_format.MessageToDict(without_empty(update))


def without_empty(message: _M) -> _M:
    """Leave out the empty messages with which the reference's merging always begins."""
    result = api.copy_of(message)
    _prune(result)
    return result


def _prune(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None and hasattr(value, "ListFields"):
            _prune(value)
            if not value.ListFields() and field.message_type.name in _OFTEN_EMPTY:
                message.ClearField(field.name)


# Others mean something when they are empty: an I/O priority of class NONE is all zeros.
_OFTEN_EMPTY: Final = {
    "Hooks",
    "LinuxCPU",
    "LinuxContainerAdjustment",
    "LinuxContainerUpdate",
    "LinuxMemory",
    "LinuxRdt",
    "LinuxResources",
}

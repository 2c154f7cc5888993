"""Which running containers lack what their pods request: started while no plugin was there.

`missing_edits` decides, a function of two messages. `DriftCheck` asks it for each container that a
runtime reports, in slices of time between requests: thousands would not fit into one answer. Until
then it keeps what is needed of pods and containers, within a bound of bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from nri_inject.api import Adjustment, Container, ContainerState, Pod
from nri_inject.errors import NriError
from nri_inject.service.health.records import Records
from nri_inject.service.health.state import Missed, State
from nri_inject.text.annotations import container_name, where
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

SLICE: Final = 0.02
"""How long one turn may take before the loop looks after the runtime again, in seconds."""

SHOWN: Final = 20
"""How many missed containers have a line in the log, and how many for which that is not known."""

MAX_NAMED: Final = 5
"""How many of the things that one container lacks are named."""

MAX_CONTAINERS: Final = 16 << 20
"""How many bytes of containers may wait to be compared. One takes some 5 kB as a rule."""

MAX_PODS: Final = 8 << 20
"""How many bytes of their pods are kept meanwhile."""

MAX_VARIABLES: Final = 10_000
"""How many variables a container may have to be compared: each costs a microsecond."""

_ALIVE: Final = frozenset(
    {
        ContainerState.CONTAINER_CREATED,
        ContainerState.CONTAINER_RUNNING,
        ContainerState.CONTAINER_PAUSED,
    }
)


def missing_edits(wanted: Adjustment, container: Container) -> tuple[str, ...]:
    """Return what an adjustment requests and a container does not have, in short names.

    The first few are named, and the others counted.

    Compared are devices by path, mounts by destination, variables by key and hooks by program:
    these every runtime tells of a running container (NRI 0.2.0 on). Its values are the admin's
    and the pod's to change, so they are not compared; nor are limits, sysctls and the like, of
    which most runtimes tell nothing.
    """
    lacks = tuple(_lacking(wanted, container))
    named, more = lacks[:MAX_NAMED], len(lacks) - MAX_NAMED
    return (*named, f"{more} more") if more > 0 else named


def _lacking(wanted: Adjustment, container: Container) -> Iterator[str]:
    devices = {device.path for device in container.linux.devices}
    mounts = {mount.destination for mount in container.mounts}
    variables = {variable.partition("=")[0] for variable in container.env}
    for device in wanted.linux.devices:
        if device.path not in devices:
            yield f"device {plain(device.path)}"
    for mount in wanted.mounts:
        if mount.destination not in mounts and not mount.destination.startswith("-"):
            yield f"mount {plain(mount.destination)}"
    for variable in wanted.env:
        if variable.key not in variables and not variable.key.startswith("-"):
            yield f"variable {plain(variable.key)}"
    for stage, hooks in wanted.hooks.ListFields():
        present = {hook.path for hook in getattr(container.hooks, stage.name)}
        for hook in hooks:
            if hook.path not in present:
                yield f"hook {plain(hook.path)}"


Expected = Callable[[Pod, Container], Adjustment]


class DriftCheck:
    """Compare containers with their expected adjustment, a slice at a time; a Watch of the loop.

    `expected` returns what a container should have been given, and raises NriError where that
    cannot be had any more. `on_progress` is called after each slice.
    """

    def __init__(self, state: State, expected: Expected) -> None:
        self._state = state
        self._expected = expected
        self.on_progress: Callable[[], None] = lambda: None
        self._armed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_armed = False
        self._start()

    def fileno(self) -> int:
        """Return a descriptor that can be read while containers wait to be compared."""
        return self._armed

    def restart(self) -> None:
        """Forget the previous report and its results: a runtime reports all that exists again."""
        self._disarm()
        self._start()

    def add(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        """Keep what is needed of a part of what exists. The messages are changed on the way."""
        for pod in pods:
            self._pods.put(pod.id, pod.SerializeToString())
        for container in containers:
            if container.state in _ALIVE:
                self._keep(container)

    def begin(self) -> None:
        """Compare what was added when the loop has time."""
        self._state.to_compare = len(self._containers)
        self._state.uncompared += self._containers.left_out
        if (self._containers or self._state.uncompared) and not self._is_armed:
            os.eventfd_write(self._armed, 1)
            self._is_armed = True

    def ready(self) -> None:
        """Compare for a while."""
        until = time.monotonic() + SLICE
        while (record := self._containers.pop_first()) is not None:
            self._state.to_compare -= 1
            self._compare(Container.FromString(record))
            if time.monotonic() > until:
                break
        if not self._containers:
            self._end()
        self.on_progress()

    def forget(self, container_id: str) -> None:
        """Do not compare a container that has been removed."""
        if self._containers.pop(container_id) is not None and self._is_armed:
            self._state.to_compare -= 1

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._armed)

    def _start(self) -> None:
        self._state.missed.clear()
        self._state.compared = self._state.to_compare = 0
        self._state.unlisted = self._state.uncompared = 0
        self._unknown = 0
        self._pods = Records(MAX_PODS)
        self._containers = Records(MAX_CONTAINERS)

    def _keep(self, container: Container) -> None:
        if len(container.env) > MAX_VARIABLES:
            self._state.uncompared += 1
            return
        lighten(container)
        self._containers.put(container.id, container.SerializeToString())

    def _end(self) -> None:
        self._disarm()
        self._pods = Records(MAX_PODS)
        missed = len(self._state.missed) + self._state.unlisted
        log.info("compared %d running containers, %d missed", self._state.compared, missed)
        if self._unknown > SHOWN:
            log.info("the expected state of %d more containers is unknown", self._unknown - SHOWN)
        if missed > SHOWN:
            log.warning("%d more containers lack what their pods request", missed - SHOWN)
        if self._state.uncompared:
            log.warning(
                "%d running containers were not compared with the requests of their pods: the"
                " runtime"
                " reported no pod of theirs, more than %d variables, or more than %d MiB in all",
                self._state.uncompared,
                MAX_VARIABLES,
                (MAX_PODS + MAX_CONTAINERS) >> 20,
            )

    def _disarm(self) -> None:
        if self._is_armed:
            os.eventfd_read(self._armed)
            self._is_armed = False

    def _compare(self, container: Container) -> None:
        record = self._pods.get(container.pod_sandbox_id)
        if record is None:
            self._state.uncompared += 1
            return
        pod = Pod.FromString(record)
        self._state.compared += 1
        try:
            lacks = missing_edits(self._expected(pod, container), container)
        except NriError as error:
            self._unknown += 1
            if self._unknown <= SHOWN:
                log.info("%s: its expected state is unknown: %s", where(pod, container), error)
            return
        if lacks:
            self._missed(pod, container, lacks)

    def _missed(self, pod: Pod, container: Container, lacks: tuple[str, ...]) -> None:
        name = f"{plain(pod.namespace)}/{plain(pod.name)}"
        self._state.miss(container.id, Missed(name, plain(container_name(container)), lacks))
        if len(self._state.missed) <= SHOWN:
            log.warning(
                "%s: runs without %s; it was created while no plugin was connected; recreate it",
                where(pod, container),
                ", ".join(lacks),
            )


def lighten(container: Container) -> None:
    """Take away what is long and not compared: the values of variables, arguments and the like.

    Hooks are chosen by the first argument alone (oci-hooks(5)).
    """
    names = [variable.partition("=")[0] for variable in container.env]
    del container.env[:]
    container.env.extend(names)
    del container.args[1:]
    container.ClearField("status_message")
    if container.HasField("linux"):
        container.linux.ClearField("seccomp_policy")

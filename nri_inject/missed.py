"""Which running containers lack what their pods ask for: started while no plugin was there.

`lacking` decides, a function of two messages. `Comparison` asks it for each container that a
runtime told of, in slices of time between requests: thousands would not fit into one answer.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from nri_inject.annotations import container_name, plain, where
from nri_inject.api import Adjustment, Container, ContainerState, Pod
from nri_inject.errors import NriError
from nri_inject.state import Missed, State

log = logging.getLogger(__name__)

SLICE: Final = 0.02
"""How long one turn may take before the loop looks after the runtime again, in seconds."""

SHOWN: Final = 20
"""How many missed containers have a line in the log."""

MOST_NAMED: Final = 5
"""How many of the things that one container lacks are named."""

_ALIVE: Final = frozenset(
    {
        ContainerState.CONTAINER_CREATED,
        ContainerState.CONTAINER_RUNNING,
        ContainerState.CONTAINER_PAUSED,
    }
)


def lacking(wanted: Adjustment, container: Container) -> tuple[str, ...]:
    """Return what an adjustment asks for and a container does not have, in short names.

    The first few are named, and the others counted.

    Compared are devices by path, mounts by destination, variables by key and hooks by program:
    these every runtime tells of a running container (NRI 0.2.0 on). Its values are the admin's
    and the pod's to change, so they are not compared; nor are limits, sysctls and the like, of
    which most runtimes tell nothing.
    """
    lacks = tuple(_lacking(wanted, container))
    named, more = lacks[:MOST_NAMED], len(lacks) - MOST_NAMED
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


class Comparison:
    """Compare containers with what is expected of them, a slice at a time; a Watch of the loop.

    `expected` returns what a container should have been given, and raises NriError where that
    cannot be had any more.
    """

    def __init__(self, state: State, expected: Expected) -> None:
        self._state = state
        self._expected = expected
        self._pods: dict[str, Pod] = {}
        self._waiting: deque[Container] = deque()
        self._armed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return a descriptor that can be read while containers wait to be compared."""
        return self._armed

    def begin(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        """Forget what was found before, and compare these when the loop has time."""
        self._state.missed.clear()
        self._state.compared = self._state.unlisted = 0
        self._pods = {pod.id: pod for pod in pods}
        was_waiting = bool(self._waiting)
        self._waiting = deque(one for one in containers if one.state in _ALIVE)
        self._state.to_compare = len(self._waiting)
        if self._waiting and not was_waiting:
            os.eventfd_write(self._armed, 1)
        elif was_waiting and not self._waiting:
            self._end()

    def ready(self) -> None:
        """Compare for a while."""
        until = time.monotonic() + SLICE
        while self._waiting:
            self._compare(self._waiting.popleft())
            self._state.to_compare -= 1
            if time.monotonic() > until:
                break
        if not self._waiting:
            self._end()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._armed)

    def _end(self) -> None:
        os.eventfd_read(self._armed)
        self._pods = {}
        missed = len(self._state.missed) + self._state.unlisted
        log.info("compared %d running containers, %d missed", self._state.compared, missed)
        if missed > SHOWN:
            log.warning("%d more containers lack what their pods ask for", missed - SHOWN)

    def _compare(self, container: Container) -> None:
        pod = self._pods.get(container.pod_sandbox_id)
        if pod is None:
            return
        self._state.compared += 1
        try:
            lacks = lacking(self._expected(pod, container), container)
        except NriError as error:
            log.info("%s: cannot tell what it should have: %s", where(pod, container), error)
            return
        if lacks:
            self._missed(pod, container, lacks)

    def _missed(self, pod: Pod, container: Container, lacks: tuple[str, ...]) -> None:
        name = f"{plain(pod.namespace)}/{plain(pod.name)}"
        self._state.miss(container.id, Missed(name, plain(container_name(container)), lacks))
        if len(self._state.missed) <= SHOWN:
            log.warning(
                "%s: runs without %s; it was created while no plugin was connected, so create it"
                " anew",
                *(where(pod, container), ", ".join(lacks)),
            )

"""Which containers were missed: created without the plugin, and without what they are to have.

A container without the plugin's mark was not served by it. With the mark it was, and a difference
to what it would be given now is drift: a policy, a hook file or a device has changed since.
`DriftCheck` looks at each container that a runtime reports, in slices of time between requests:
thousands would not fit into one answer. Until then it keeps what is needed of pods and containers,
within a bound of bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, runtime_checkable

from nri_inject.api import Adjustment, Container, ContainerState, Pod
from nri_inject.errors import NriError, RequestError
from nri_inject.service.health import mark
from nri_inject.service.health.age import created
from nri_inject.service.health.records import Records
from nri_inject.service.health.state import FoundContainers, Missed, State, in_words
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

    Compared are devices by path, mounts by destination, variables by key and hooks by program:
    these every runtime tells of a running container (NRI 0.2.0 on). Its values are the admin's
    and the pod's to change, so they are not compared; nor are limits, sysctls and the like, of
    which most runtimes tell nothing.
    """
    return tuple(_lacking(wanted, container))


def unreported(wanted: Adjustment) -> tuple[str, ...]:
    """Return the other things that an adjustment asks for, by the name of their field."""
    return tuple(
        descriptor.name
        for message, compared in ((wanted, _COMPARED), (wanted.linux, {"devices"}))
        for descriptor, _ in message.ListFields()
        if descriptor.name not in compared
    )


_COMPARED: Final = frozenset({"linux", "mounts", "env", "hooks", "annotations"})


def shown(things: Sequence[str]) -> tuple[str, ...]:
    """Return the first few things, and how many more there are."""
    named, more = tuple(things[:MAX_NAMED]), len(things) - MAX_NAMED
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


@runtime_checkable
class Expected(Protocol):
    """A service that can say what a container would be given now."""

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        """Return what a container would be given, without a log; NriError if it is refused."""

    def hook_changed(self, program: str) -> float:
        """Return when the definitions of a hook changed, in seconds since 1970; 0.0 if never."""


class DriftCheck:
    """Compare containers with what is expected of them, a slice at a time; a Watch of the loop.

    `on_progress` is called after each slice, `on_missed` with each running container that was
    missed and would be given what it lacks now, and `on_served` with each that has the mark.
    """

    _refused: Records

    def __init__(self, state: State, service: Expected) -> None:
        self._state = state
        self._service = service
        self.on_progress: Callable[[], None] = lambda: None
        self.on_missed: Callable[[Pod, Container, str], None] = _nothing
        self.on_served: Callable[[Pod, Container], None] = lambda _pod, _container: None
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
        if self._containers or self._state.uncompared:
            self._arm()

    def ready(self) -> None:
        """Compare for a while."""
        if self._compares_again:
            self._take_refused()
        until = time.monotonic() + SLICE
        while (record := self._containers.pop_first()) is not None:
            self._state.to_compare -= 1
            self._compare(Container.FromString(record))
            if time.monotonic() > until:
                break
        if not self._containers:
            self._end()
        self.on_progress()

    def judge(self, pod: Pod, container: Container, now: float = 0.0) -> Missed | None:
        """Report a container that was missed, and return it; or report that it has drifted.

        `now` is when it was created, if neither the runtime nor the kernel says it.
        """
        one, is_drift = self._find(pod, container, now)
        if one is not None:
            self._report(pod, container, one, is_drift)
        return None if is_drift else one

    def why_missed(self, pod: Pod, container: Container) -> str:
        """Return what a container lacks that a restart would give now; empty if that is nothing."""
        one, is_drift = self._find(pod, container)
        return "" if one is None or is_drift or one.refused else in_words(one._asdict())

    def compare_again(self) -> None:
        """Compare those again, in the next turn, whose requests would have been refused."""
        self._compares_again = len(self._refused) > 0
        if self._compares_again:
            self._arm()

    def forget(self, container_id: str) -> None:
        """Do not compare a container that has been removed, and report it no longer."""
        self._state.missed.pop(container_id, None)
        self._state.drifted.pop(container_id, None)
        self._refused.pop(container_id)
        if self._containers.pop(container_id) is not None and self._is_armed:
            self._state.to_compare -= 1

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._armed)

    def _start(self) -> None:
        self._state.missed, self._state.drifted = FoundContainers(), FoundContainers()
        self._state.compared = self._state.to_compare = self._state.uncompared = 0
        self._pods = Records(MAX_PODS)
        self._containers = Records(MAX_CONTAINERS)
        self._refused = Records(MAX_CONTAINERS)
        self._compares_again = False

    def _keep(self, container: Container) -> None:
        if len(container.env) > MAX_VARIABLES:
            self._state.uncompared += 1
            return
        lighten(container)
        self._containers.put(container.id, container.SerializeToString())

    def _end(self) -> None:
        self._disarm()
        if not self._refused:
            self._pods = Records(MAX_PODS)
        missed, drifted = self._state.missed.count, self._state.drifted.count
        log.info(
            "compared %d running containers, %d missed, %d drifted",
            *(self._state.compared, missed, drifted),
        )
        if missed > SHOWN:
            log.warning("%d more containers were missed", missed - SHOWN)
        if self._state.uncompared:
            log.warning(
                "%d running containers were not compared with the requests of their pods: the"
                " runtime"
                " reported no pod of theirs, more than %d variables, or more than %d MiB in all",
                self._state.uncompared,
                MAX_VARIABLES,
                (MAX_PODS + MAX_CONTAINERS) >> 20,
            )

    def _arm(self) -> None:
        if not self._is_armed:
            os.eventfd_write(self._armed, 1)
            self._is_armed = True

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
        if mark.is_on(container, self._state.name):
            self.on_served(pod, container)
        one, is_drift = self._find(pod, container)
        if one is None:
            return
        self._report(pod, container, one, is_drift)
        if one.refused:
            self._refused.put(container.id, container.SerializeToString())
        elif not is_drift and container.state == ContainerState.CONTAINER_RUNNING:
            self.on_missed(pod, container, in_words(one._asdict()))

    def _take_refused(self) -> None:
        """Compare the refused ones as if they had not been compared."""
        refused, self._refused = self._refused, Records(MAX_CONTAINERS)
        self._compares_again = False
        while (record := refused.pop_first()) is not None:
            container = Container.FromString(record)
            served = mark.is_on(container, self._state.name)
            self._state.compared -= 1
            (self._state.drifted if served else self._state.missed).take_back(container.id)
            self._containers.put(container.id, record)
        self._state.to_compare = len(self._containers)

    def _find(self, pod: Pod, container: Container, now: float = 0.0) -> tuple[Missed | None, bool]:
        """Return what is wrong with a container, and whether that is so by a change since."""
        served = mark.is_on(container, self._state.name)
        lacks: tuple[str, ...] = ()
        refused = ""
        try:
            lacks, is_drift = self._lacks(pod, container, served, now)
        except RequestError as error:
            refused, is_drift = str(RequestError(error.faults)), served  # without the container
        except NriError as error:
            refused, is_drift = error.reason, served
        if not lacks and not refused:
            return None, False
        name = f"{plain(pod.namespace)}/{plain(pod.name)}"
        return Missed(name, plain(container_name(container)), lacks, refused), is_drift

    def _lacks(
        self, pod: Pod, container: Container, served: bool, now: float
    ) -> tuple[tuple[str, ...], bool]:
        """Return what a container lacks, and whether that is so because something has changed."""
        wanted = self._service.expected(pod, container)
        lacks = missing_edits(wanted, container)
        if served:
            return shown(lacks), True
        if not mark.is_on_by_any(container):  # else another plugin of ours may have given it
            lacks += unreported(wanted)
        return shown(lacks), bool(lacks) and self._has_changed(wanted, lacks, container, now)

    def _has_changed(
        self, wanted: Adjustment, lacks: Sequence[str], container: Container, now: float
    ) -> bool:
        """Tell whether a container without the mark lacks only hooks that are newer than itself.

        Nobody requests a hook, so such a container may have needed nothing when it was created.
        """
        programs = {hook.path for _, hooks in wanted.hooks.ListFields() for hook in hooks}
        newer = {
            f"hook {plain(program)}"
            for program in programs
            if self._service.hook_changed(program) > (created(container) or now)
        }
        return newer.issuperset(lacks)

    def _report(self, pod: Pod, container: Container, one: Missed, is_drift: bool) -> None:
        found = self._state.drifted if is_drift else self._state.missed
        found.add(container.id, one)
        if found.count > SHOWN:
            return
        sentence = in_words(one._asdict())
        if is_drift:
            log.info("%s: %s, since something has changed", where(pod, container), sentence)
        else:
            log.warning(
                "%s: %s; it was created without the plugin, so recreate it",
                *(where(pod, container), sentence),
            )


def _nothing(_pod: Pod, _container: Container, _why: str) -> None:
    """Do nothing: a missed container is reported, and that is all."""


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

"""What injectors give a container, worked out once for all containers that ask for the same.

Pods come in replicas. An answer depends on what a container asks for, on the files of the node, on
the policy, and on what is looked up on the host; injectors and decisions are pure beyond that. So
an answer counts again for as long as the first three are the same, and each look shows again what
it showed. The looks are made anew for every container.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import Message

from nri_inject import runtimes
from nri_inject.adjust import Injector
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host import Host
from nri_inject.recall import Noted, Recall
from nri_inject.runtimes import Runtime

if TYPE_CHECKING:
    from nri_inject.devices.inventory import Inventory
    from nri_inject.policy.rules import Decision

Asks: TypeAlias = Callable[[Pod, Container, Mapping[str, Any]], Hashable | None]
"""Return everything in a pod and a container that an injector's answer depends on, None if there
can be nothing for the container, ANEW if the answer must not be recalled. The mapping is what the
injector's files say, by field of Host."""

ANEW: Final = object()
"""What is asked for is too long to be kept, or cannot be told beforehand."""

LONGEST_ASKED: Final = 4096
"""How many characters the texts of one injector may have that asks for an answer to be kept."""

# A pod's author must not fill the memory with what is kept: at worst these come to some 3 MB.
_MOST_KEPT: Final = 32
_MOST_DECISIONS: Final = 32
_LONGEST_KEPT: Final = 16384  # bytes of an adjustment


class Answer(NamedTuple):
    """What a container is given, None for nothing; what was decided; what somebody should look at.

    The adjustment is for all who ask for the same, and must not be changed. `summary` says in a
    few words what is in it.
    """

    adjustment: Adjustment | None
    decisions: Sequence[Decision]
    warnings: Sequence[str]
    summary: str


class Answers:
    """The answers of one injector to one runtime."""

    def __init__(self, injector: Injector, runtime: Runtime) -> None:
        self._injector = injector
        self._runtime = runtime
        self._recall: Recall[Answer] = Recall(_MOST_KEPT)
        self._made_of: Sequence[object] | None = None

    def give(self, asked: Sequence[Hashable], pod: Pod, container: Container, host: Host) -> Answer:
        """Return the answer for a container; `asked` is what its injectors' Asks have told.

        The host's permit has noted every decision afterwards, and its `warn` has been told every
        warning. Raises RequestError as injectors do.
        """
        permit = host.permit
        made_of = (host.cdi, host.hooks, None if permit is None else permit.policy)
        if self._made_of is None or not all(map(is_, made_of, self._made_of)):
            self._recall = Recall(_MOST_KEPT)
            self._made_of = made_of
        key = (tuple(asked), None if permit is None else permit.seen)
        answer = self._recall.find(key, host.devices, host.numbers, host.files)
        if answer is None:
            answer = self._worked_out(key, pod, container, host)
        elif permit is not None:
            permit.decisions += answer.decisions
        for sentence in answer.warnings:
            host.warn(sentence)
        return answer

    def _worked_out(
        self, key: tuple[tuple[Hashable, ...], Hashable], pod: Pod, container: Container, host: Host
    ) -> Answer:
        noted = Noted(host.devices), Noted(host.numbers), Noted(host.files)
        devices, numbers, files = noted
        inventory = None if host.inventory is None else _Inventory(host.inventory)
        warnings: list[str] = []
        noting = dataclasses.replace(
            host,
            devices=devices,
            numbers=numbers,
            files=files,
            inventory=inventory,
            warn=warnings.append,
        )
        try:
            adjustment = self._injector(pod, container, noting)
        except RequestError:
            for sentence in warnings:
                host.warn(sentence)
            raise
        lost = runtimes.lost(adjustment, self._runtime)
        warnings += (runtimes.sentence(loss, self._runtime) for loss in lost)
        runtimes.spare(adjustment, self._runtime)
        decisions = () if host.permit is None else tuple(host.permit.decisions)
        size = adjustment.ByteSize()
        answer = Answer(adjustment if size else None, decisions, warnings, summary(adjustment))
        is_anew = ANEW in key[0] or (inventory is not None and inventory.asked)
        if not is_anew and size <= _LONGEST_KEPT and len(decisions) <= _MOST_DECISIONS:
            self._recall.keep(key, answer, *noted)
        return answer


class _Inventory:
    """The host's inventory, and whether anybody has asked for it: it is another one each time."""

    def __init__(self, read: Callable[[], Inventory]) -> None:
        self.asked = False
        self._read = read

    def __call__(self) -> Inventory:
        """Return it."""
        self.asked = True
        return self._read()


def summary(adjustment: Adjustment) -> str:
    """Say in a few words what an adjustment has, as in `2 devices, 1 sysctl`."""
    counts = [
        (1 if isinstance(value, Message) else len(value), descriptor.name)
        for message in (adjustment, adjustment.linux)
        for descriptor, value in message.ListFields()
        if descriptor.name != "linux"
    ]
    return ", ".join(f"{count} {name}" for count, name in counts)

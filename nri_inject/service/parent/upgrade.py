"""Upgrades in place: asked for by a signal, tried, and done at a moment without requests.

Whatever goes wrong before execve(2) leaves this version in place, with all that it serves.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nri_inject.service.parent.handover import Handover
from nri_inject.service.parent.link import Links
from nri_inject.service.parent.system import say
from nri_inject.service.parent.trial import Trial, replace
from nri_inject.stub.loop import Loop
from nri_inject.version import VERSION

MAX_TRIALS: Final = 5
"""How many trials an upgrade has, if the machine is busy or the program changes meanwhile."""

MAX_START: Final = 0.5
"""The part of the runtime's timeout that a start may take, since requests wait for it."""

MAX_WAIT: Final = 10.0
"""How long an upgrade waits for a moment without requests, in seconds."""

_LOOK: Final = 0.5  # seconds between two looks at what no descriptor reports

Replace = Callable[[Handover, Sequence[socket.socket]], str]


class UpgradeOwner(Protocol):
    """The process that is upgraded, and its connections."""

    links: Links

    @property
    def may_hand_over(self) -> bool:
        """Whether this is a moment without requests."""

    def saved(self) -> tuple[Handover, Sequence[socket.socket]]:
        """Return what another version needs, and the connections that it gets."""

    def hand_over(self, replace: Replace) -> str:
        """Become another version; if that fails, go on, and return why."""

    def upgrade_failed(self, fault: str) -> None:
        """Note why this version goes on."""

    def leave(self, children: Sequence[int]) -> None:
        """Wait for these processes some time."""


class Upgrades:
    """The upgrades of a process, one at a time.

    `next_look` is when `advance` must be called at the latest, in seconds of time.monotonic.
    """

    def __init__(self, loop: Loop, owner: UpgradeOwner) -> None:
        self.next_look = math.inf
        self._loop = loop
        self._owner = owner
        self._is_asked = False
        self._trial: Trial | None = None
        self._trials = 0
        self._agreed = math.inf

    def ask(self) -> None:
        """Have the next `advance` begin an upgrade, unless one is going on."""
        self._is_asked = True

    def advance(self) -> None:
        """Do what there is to do; whatever fails ends the upgrade, and not what is served."""
        try:
            self._advance()
        except Exception as error:  # a bug here must not end the connection
            self._end(f"{type(error).__name__}: {error}")
        self.next_look = math.inf if self._trial is None else time.monotonic() + _LOOK

    def _advance(self) -> None:
        is_asked, self._is_asked = self._is_asked, False
        if self._trial is not None:
            self._trial.check_time()
            if self._trial.is_over:
                self._conclude(self._trial)
        elif is_asked:
            self._trials = 0
            self._try()

    def close(self) -> None:
        """Give up the upgrade that is going on."""
        if self._trial is not None:
            self._end("")

    def _try(self) -> None:
        self._trials += 1
        self._agreed = math.inf
        state, _ = self._owner.saved()
        try:
            self._trial = Trial(dataclasses.replace(state, descriptors=()))
        except OSError as error:
            self._end(f"the new version cannot be started: {error.strerror}")
            return
        self._loop.add(self._trial.fileno(), self._read)

    def _read(self) -> None:
        if self._trial is not None:
            self._trial.ready()
            if self._trial.is_over:
                self._loop.remove(self._trial.fileno())

    def _conclude(self, trial: Trial) -> None:
        """Hand over if the trial agrees, and if what it has tried is still so."""
        if trial.fault:
            self._end(trial.fault)
        elif doubt := self._doubt(trial):
            self._drop()
            if self._trials < MAX_TRIALS:
                self._try()
            else:
                self._end(doubt)
        elif self._owner.may_hand_over:
            self._hand_over(trial)
        else:
            self._agreed = min(self._agreed, time.monotonic())
            if time.monotonic() >= self._agreed + MAX_WAIT:
                self._end(f"there was no moment without a request for {MAX_WAIT:.0f} s")

    def _doubt(self, trial: Trial) -> str:
        """Return why a trial does not count; empty if it does."""
        if not trial.is_current:
            return "the program changed while it was tried"
        links = self._owner.links
        if bool(trial.state.relays) != links.is_serving:
            return "the connection to the runtime changed while the new version was tried"
        limit = links.timeout * MAX_START
        if links.is_serving and trial.seconds > limit:
            return (
                f"the new version took {trial.seconds:.1f} s to start, more than the {limit:.1f} s"
                " that a request may wait; try again while the node is less busy, or restart it"
            )
        return ""

    def _hand_over(self, trial: Trial) -> None:
        say(logging.INFO, f"version {trial.program} takes over from version {VERSION}")
        self._drop()
        self._end(self._owner.hand_over(replace))

    def _end(self, fault: str) -> None:
        """Go on with this version."""
        self._drop()
        if fault:
            say(logging.ERROR, f"not upgraded, version {VERSION} goes on: {fault}")
            self._owner.upgrade_failed(fault)

    def _drop(self) -> None:
        """Let go of the trial."""
        if self._trial is not None:
            self._loop.remove(self._trial.fileno())
            self._owner.leave(self._trial.close())
            self._trial = None

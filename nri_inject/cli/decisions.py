"""What the suite would decide for a container on this host: its injectors, in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.capabilities import NEWEST, Runtime, dotted
from nri_inject.errors import RequestError
from nri_inject.policy.rules import Decision
from nri_inject.service import logs
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.environment import Environment, InjectorSpec


@dataclass(frozen=True, slots=True)
class Decided:
    """What is decided for one container; `errors` are why it fails, what is denied among them.

    `warnings` are what a plugin would write to its log.
    """

    decisions: Sequence[Decision]
    errors: Sequence[str]
    warnings: Sequence[str] = ()


class Decider:
    """Some injectors in this process, on this host, as a runtime would use them."""

    def __init__(
        self,
        parts: Sequence[InjectorSpec],
        options: Options,
        configured: Config,
        runtime: Runtime = NEWEST,
    ) -> None:
        # Nothing of the host is changed, its log and its audit included.
        quiet = dataclasses.replace(configured, log="stderr", audit="off")
        self._around = Environment(parts, options, quiet)
        self._around.configure(
            ConfigureRequest(
                runtime_name=runtime.name,
                runtime_version=runtime.version,
                NRI_version=f"v{dotted(runtime.nri)}",
            )
        )

    def decide(self, pod: Pod, container: Container) -> Decided:
        """Return what would be decided for a container; nothing is injected anywhere."""
        warnings: list[str] = []
        host = self._around.host(pod, container, warnings.append)
        errors: Sequence[str] = ()
        try:
            self._around.injector(pod, container, host)
        except RequestError as error:
            errors = error.faults
        decisions = [] if host.permit is None else host.permit.decisions
        return Decided(decisions, errors, warnings)

    def close(self) -> None:
        """Stop watching files."""
        self._around.close()


_WORDS: Final = {
    "allow": "allows",
    "skip": "leaves out",
    "warn": "would deny",
    "deny": "denies",
}


def explained(decision: Decision) -> str:
    """Say what is decided, and by which rule or for which reason."""
    by = f"by rule {decision.rule!r}" if decision.rule else ""
    reason = "; ".join(part for part in (by, decision.reason) if part)
    return logs.one_line(f"{_WORDS[decision.verdict]} {decision.item.asked}: {reason}")

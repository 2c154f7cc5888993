"""What the suite would decide for a container on this host: its injectors, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.capabilities import NEWEST, Runtime, dotted
from nri_inject.errors import ConfigError, RequestError
from nri_inject.host import trust
from nri_inject.policy import document
from nri_inject.policy.rules import Decision, Policy
from nri_inject.service import logs
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.environment import Environment, InjectorSpec


def read_policy(file: str, *, unsafe: bool) -> Policy:
    """Return the policy that a file holds; ConfigError as a plugin would log it."""
    try:
        data = trust.read(file, document.LIMITS.size + 1, unsafe=unsafe)
    except trust.Untrusted as error:
        raise ConfigError(f"{file}: {error}; refusing to read it") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return document.read(data, file)


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions for one container; `errors` are the faults that fail it, denials included."""

    decisions: Sequence[Decision]
    errors: Sequence[str]


class Decider:
    """Some injectors in this process, on this host, as a runtime would use them."""

    def __init__(
        self,
        parts: Sequence[InjectorSpec],
        options: Options,
        configured: Config,
        runtime: Runtime = NEWEST,
    ) -> None:
        self._around = Environment(parts, options, configured)
        self._around.configure(
            ConfigureRequest(
                runtime_name=runtime.name,
                runtime_version=runtime.version,
                NRI_version=f"v{dotted(runtime.nri)}",
            )
        )

    def decide(self, pod: Pod, container: Container) -> Decided:
        """Return what would be decided for a container; nothing is injected anywhere."""
        host = self._around.host(pod, container)
        errors: Sequence[str] = ()
        try:
            self._around.injector(pod, container, host)
        except RequestError as error:
            errors = error.faults
        return Decided([] if host.permit is None else host.permit.decisions, errors)

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

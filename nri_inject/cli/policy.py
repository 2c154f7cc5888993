"""`nri-inject policy`: what is wrong with a policy, and what it decides for some pods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from nri_inject import config, logs, trust
from nri_inject.annotations import where
from nri_inject.api import ConfigureRequest
from nri_inject.audit import record
from nri_inject.command import FAILED, MISUSED, Options
from nri_inject.config import Config
from nri_inject.errors import ConfigError, RequestError
from nri_inject.options import format_option
from nri_inject.plugins.suite import PARTS
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Decision, Policy
from nri_inject.runtime import manifests
from nri_inject.runtime.manifests import Planned
from nri_inject.surroundings import Surroundings


@click.group("policy", epilog="Example: nri-inject policy check --policy policy.yaml pod.yaml")
def command() -> None:
    """Look at a policy before it is in force."""


@command.command(
    "check", epilog="Example: nri-inject policy check --policy policy.yaml --format json pod.yaml"
)
@click.option("--policy", "file", required=True, metavar="FILE", help="The policy (YAML).")
@click.option("--config", "config_file", metavar="FILE", help="The plugins' configuration (YAML).")
@click.option("--cdi-dir", "cdi_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--unsafe-files", is_flag=True, help="Do not ask who could have written the files.")
@format_option
@click.argument("pods", nargs=-1, metavar="[POD.yaml]...")
def check(
    *,
    file: str,
    config_file: str | None,
    cdi_dirs: tuple[str, ...],
    hooks_dirs: tuple[str, ...],
    unsafe_files: bool,
    output: str,
    pods: tuple[str, ...],
) -> int:
    """Tell what is wrong with a policy, and what it decides for the containers of pods.

    Ends with status 1 if the policy has a fault, or if a container would fail.
    """
    logs.configure(verbosity=0)  # what is wrong is part of the answer
    try:
        policy = read(file, unsafe=unsafe_files)
    except ConfigError as error:
        click.echo(json.dumps({"error": str(error)}) if output == "json" else f"Error: {error}")
        return FAILED
    if not pods:
        return _show_policy(policy, output)
    options = Options(
        idx="10",
        name="nri-inject",
        cdi_dir=cdi_dirs,
        hooks_dir=hooks_dirs,
        unsafe_files=unsafe_files,
    )
    try:
        configured = Config() if config_file is None else config.read_file(config_file)
        planned = [one for pod in pods for one in _manifest(pod)]
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        return MISUSED
    with closing(Decider(policy, options, configured)) as decider:
        return _show([decider.decide(one) for one in planned], output)


def read(file: str, *, unsafe: bool) -> Policy:
    """Return the policy that a file holds; ConfigError as a plugin would log it."""
    try:
        data = trust.read(file, document.LIMITS.size + 1, unsafe=unsafe)
    except trust.Untrusted as error:
        raise ConfigError(f"{file}: {error}; it is not believed") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return document.read(data, file)


def _manifest(file: str) -> Iterator[Planned]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read manifest {file}: {error}") from error
    yield from manifests.read(text, file)


@dataclass(frozen=True, slots=True)
class Decided:
    """What is decided for one container; `errors` are why it fails, what is denied among them."""

    planned: Planned
    decisions: Sequence[Decision]
    errors: Sequence[str]


class Decider:
    """The suite's injectors in this process, on this host, under one policy."""

    def __init__(self, policy: Policy, options: Options, configured: Config) -> None:
        self._around = Surroundings(PARTS, options, dataclasses.replace(configured, policy=policy))
        self._around.configure(ConfigureRequest())
        self._policy = policy

    def decide(self, planned: Planned) -> Decided:
        """Return what would be decided for a container; nothing is injected anywhere."""
        permit = Permit(self._policy, planned.pod, planned.container, self._around.title)
        host = self._around.host(permit)
        try:
            self._around.injector(planned.pod, planned.container, host)
        except RequestError as error:
            return Decided(planned, permit.decisions, error.faults)
        return Decided(planned, permit.decisions, ())

    def close(self) -> None:
        """Stop watching files."""
        self._around.close()


def _show_policy(policy: Policy, output: str) -> int:
    if output == "json":
        click.echo(json.dumps({"rules": [rule.name for rule in policy.rules], "mode": policy.mode}))
    else:
        click.echo(f"{policy.origin}: {len(policy.rules)} rules, mode {policy.mode}, no fault")
    return 0


def _show(decided: Sequence[Decided], output: str) -> int:
    for one in decided:
        for line in [json.dumps(_as_json(one))] if output == "json" else _as_text(one):
            click.echo(line)
    return FAILED if any(one.errors for one in decided) else 0


def _as_json(one: Decided) -> dict[str, Any]:
    pod, container = one.planned.pod, one.planned.container
    line: dict[str, Any] = {
        "pod": f"{pod.namespace}/{pod.name}",
        "container": container.name,
        "decisions": [record(decision) for decision in one.decisions],
    }
    return line | ({"errors": [*one.errors]} if one.errors else {})


def _as_text(one: Decided) -> Iterator[str]:
    yield where(one.planned.pod, one.planned.container)
    for decision in one.decisions:
        if decision.verdict != "deny":  # that is among the errors, with advice
            yield f"  {explained(decision)}"
    for error in one.errors:
        yield f"  fails  {logs.one_line(error)}"
    if not one.decisions and not one.errors:
        yield "  asks for nothing that needs a rule"


_WORDS: Final = {
    "allow": "gets",
    "skip": "left out",
    "warn": "gets, in warn mode",
    "deny": "denied",
}


def explained(decision: Decision) -> str:
    """Say what is decided, and by which rule or for which reason."""
    by = f"by rule {decision.rule!r}" if decision.rule else ""
    reason = "; ".join(part for part in (by, decision.reason) if part)
    return logs.one_line(f"{_WORDS[decision.verdict]}  {decision.item.asked}: {reason}")

"""`nri-inject policy`: what is wrong with a policy, and what it decides for some pods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import click

from nri_inject.cli.decisions import Decided, Decider, explained, read_policy
from nri_inject.cli.reading import planned_in
from nri_inject.errors import ConfigError
from nri_inject.plugins.suite import PARTS
from nri_inject.policy.audit import record
from nri_inject.policy.rules import Policy
from nri_inject.runtime.manifests import Planned
from nri_inject.service import config, logs
from nri_inject.service.base import Options
from nri_inject.service.command import FAILED, MISUSED
from nri_inject.service.config import Config
from nri_inject.service.options import format_option
from nri_inject.text.annotations import where


@click.group("policy", epilog="Example: nri-inject policy check --policy policy.yaml pod.yaml")
def command() -> None:
    """Check a policy before it is in force."""


@command.command(
    "check", epilog="Example: nri-inject policy check --policy policy.yaml --format json pod.yaml"
)
@click.option("--policy", "file", required=True, metavar="FILE", help="The policy (YAML).")
@click.option("--config", "config_file", metavar="FILE", help="The plugins' configuration (YAML).")
@click.option("--cdi-dir", "cdi_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--unsafe-files", is_flag=True, help="Skip the check of owners and modes of files.")
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
    """Report the faults of a policy, and its decisions for the containers of pods.

    Ends with status 1 if the policy has a fault, or if a container would fail.
    """
    logs.configure(verbosity=0)  # what is wrong is part of the answer
    try:
        policy = read_policy(file, unsafe=unsafe_files)
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
        configured = (
            Config() if config_file is None else config.read_file(config_file, unsafe=unsafe_files)
        )
        planned = [*planned_in(pods)]
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        return MISUSED
    configured = dataclasses.replace(configured, policy=policy)
    with closing(Decider(PARTS, options, configured)) as decider:
        decided = [decider.decide(one.pod, one.container) for one in planned]
    return _show([*zip(planned, decided, strict=True)], output)


def _show_policy(policy: Policy, output: str) -> int:
    if output == "json":
        click.echo(json.dumps({"rules": [rule.name for rule in policy.rules], "mode": policy.mode}))
    else:
        click.echo(f"{policy.origin}: {len(policy.rules)} rules, mode {policy.mode}, no error")
    return 0


def _show(decided: Sequence[tuple[Planned, Decided]], output: str) -> int:
    for planned, one in decided:
        as_json = output == "json"
        for line in [json.dumps(_as_json(planned, one))] if as_json else _as_text(planned, one):
            click.echo(line)
    return FAILED if any(one.errors for _, one in decided) else 0


def _as_json(planned: Planned, one: Decided) -> dict[str, Any]:
    pod, container = planned.pod, planned.container
    line: dict[str, Any] = {
        "pod": f"{pod.namespace}/{pod.name}",
        "container": container.name,
        "decisions": [record(decision) for decision in one.decisions],
    }
    return line | ({"errors": [*one.errors]} if one.errors else {})


def _as_text(planned: Planned, one: Decided) -> Iterator[str]:
    yield where(planned.pod, planned.container)
    for decision in one.decisions:
        if decision.verdict != "deny":  # that is among the errors, with advice
            yield f"  policy {explained(decision)}"
    for error in one.errors:
        yield f"  fails  {logs.one_line(error)}"
    if not one.decisions and not one.errors:
        yield "  requests nothing that needs a rule"

"""`nri-inject policy`: what is wrong with a policy, and what it decides for some pods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import click

from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cli.decisions import Decided, Decider, explained
from nri_inject.cli.group import Group
from nri_inject.cli.here import Here, NodeOptions, document_of, look_here, node_options
from nri_inject.cli.reading import planned_in, read_policy
from nri_inject.cli.unread import Unreads
from nri_inject.errors import ConfigError, Faulty
from nri_inject.plugins.suite import PARTS
from nri_inject.policy import never
from nri_inject.policy.audit import record
from nri_inject.policy.rules import Policy
from nri_inject.runtime.manifests import Planned
from nri_inject.runtime.trial import as_reported
from nri_inject.service import config, logs, terminal
from nri_inject.service.base import Options
from nri_inject.service.command import FAILED, MISUSED
from nri_inject.service.config import Config
from nri_inject.service.options import POD, format_option
from nri_inject.text.annotations import where


@click.group(
    "policy", cls=Group, epilog="Example: nri-inject policy check --policy policy.yaml pod.yaml"
)
def command() -> None:
    """Check a policy before it is in force."""


@command.command(
    "check", epilog="Example: nri-inject policy check --policy policy.yaml --format json pod.yaml"
)
@node_options("The policy (YAML); the node's unless given.")
@format_option
@click.argument("pods", nargs=-1, type=POD)
def check(*, node: NodeOptions, output: str, pods: tuple[str, ...]) -> int:
    """Report the faults of a policy, and its decisions for the containers of pods.

    The defaults are the node's own policy and configuration. Ends with status 1 if the policy or
    the configuration has a fault, if a container would fail, or if no plugin reads one of its
    annotations; with status 2 if nothing was checked.
    """
    logs.configure(verbosity=0)  # what is wrong is part of the answer
    try:
        here = look_here(node.root)
        file = node.policy or _policy_here(here)
        policy, _ = read_policy(file, unsafe=node.unsafe, warn=terminal.show_warning)
        for warning in never.warnings(policy):
            terminal.show_warning(f"{policy.origin}: {warning}")
        if not pods:
            return _show_policy(policy, output)
        configured, runtime = _configured(here, policy, node)
        planned = [as_reported(one, runtime) for one in planned_in(pods)]
    except ConfigError as error:
        is_faulty = isinstance(error, Faulty)
        shown = json.dumps({"error": str(error)}) if output == "json" else f"Error: {error}"
        terminal.show_line(shown, err=not is_faulty)
        return FAILED if is_faulty else MISUSED
    options = Options(idx="10", name="nri-inject")
    unreads = Unreads(configured.annotations.adopted)
    with (
        terminal.progress(f"deciding for {len(planned)} containers"),
        closing(Decider(PARTS, options, configured, runtime)) as decider,
    ):
        decided = [decider.decide(one.pod, one.container) for one in planned]
    status = _show([*zip(planned, decided, strict=True)], unreads, output)
    return FAILED if unreads.found_wrong else status


def _policy_here(here: Here) -> str:
    """Return the file of the node's policy; ConfigError if it has none."""
    document = document_of(here, NodeOptions(), terminal.show_warning) if here.file else {}
    policy = document.get("policy")
    file = policy.get("file") if isinstance(policy, dict) else None
    if not isinstance(file, str):
        where = here.file or "no configuration of a plugin is on this node"
        raise ConfigError(f"{where}: it names no policy; name one with --policy FILE")
    return file


def _configured(here: Here, policy: Policy, node: NodeOptions) -> tuple[Config, Runtime]:
    document = document_of(here, dataclasses.replace(node, policy=None), terminal.show_warning)
    configured = config.checked({**document, "policy": config.UNRESTRICTED}, "configuration")
    return dataclasses.replace(configured, policy=policy), here.runtime or NEWEST


def _show_policy(policy: Policy, output: str) -> int:
    if output == "json":
        click.echo(json.dumps({"rules": [rule.name for rule in policy.rules], "mode": policy.mode}))
    else:
        click.echo(f"{policy.origin}: {len(policy.rules)} rules, mode {policy.mode}, no error")
    return 0


def _show(decided: Sequence[tuple[Planned, Decided]], unreads: Unreads, output: str) -> int:
    for planned, one in decided:
        unread = [*map(str, unreads.of(planned))]
        as_json = output == "json"
        for line in (
            [json.dumps(_as_json(planned, one, unread))]
            if as_json
            else _as_text(planned, one, unread)
        ):
            terminal.show_line(line)
    return FAILED if any(one.errors for _, one in decided) else 0


def _as_json(planned: Planned, one: Decided, unread: Sequence[str]) -> dict[str, Any]:
    pod, container = planned.pod, planned.container
    line: dict[str, Any] = {
        "pod": f"{pod.namespace}/{pod.name}",
        "container": container.name,
        "decisions": [record(decision) for decision in one.decisions],
    }
    more = {"errors": one.errors, "unread": unread, "warnings": one.warnings}
    return line | {name: [*sentences] for name, sentences in more.items() if sentences}


def _as_text(planned: Planned, one: Decided, unread: Sequence[str]) -> Iterator[str]:
    yield where(planned.pod, planned.container)
    for decision in one.decisions:
        if decision.verdict != "deny":  # that is among the errors, with advice
            yield f"  policy {explained(decision)}"
    for error in one.errors:
        yield f"  fails  {logs.one_line(error)}"
    for sentence in unread:
        yield f"  unread {logs.one_line(sentence)}"
    for warning in one.warnings:
        yield f"  warns  {logs.one_line(warning)}"
    if not one.decisions and not one.errors:
        yield "  requests nothing that needs a rule"

"""`nri-inject doctor`: what is wrong on a node, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from nri_inject.capabilities import dotted
from nri_inject.cli.install import host_options
from nri_inject.errors import ConfigError
from nri_inject.node.doctor import Finding, diagnose
from nri_inject.node.files import resolve
from nri_inject.node.gather import Gathered, gather
from nri_inject.node.runtime import Node, look
from nri_inject.plugins.programs import PLUGIN_NAMES
from nri_inject.service import logs, terminal
from nri_inject.service.command import FAILED
from nri_inject.service.health import status
from nri_inject.service.logs import one_line
from nri_inject.service.options import DIR, Helped, format_option

status_dir_option = click.option(
    "--status-dir",
    type=DIR,
    help=f"Directory of the plugins' sockets; default: {status.DIRECTORY} of the host. Also"
    f" {status.VARIABLE}.",
)


@click.command("doctor", cls=Helped, epilog="Example: nri-inject doctor --root /host --format json")
@host_options
@click.option("--cdi-dir", "cdi_dirs", multiple=True, type=DIR, help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, type=DIR, help="As for the plugins.")
@status_dir_option
@format_option
def command(
    *,
    root: str,
    runtime: str | None,
    runtime_config: str,
    cdi_dirs: tuple[str, ...],
    hooks_dirs: tuple[str, ...],
    status_dir: str | None,
    output: str,
) -> int:
    """Check the runtime's configuration, the plugins and their files, and report problems.

    Changes nothing. Ends with status 1 if there is a problem; notes do not count.
    """
    logs.configure(verbosity=0)  # what is wrong is the answer
    try:
        with terminal.progress("looking at the node"):
            said = status.ask_all(status_dir or str(resolve(root, status.directory())))
            seen, findings = examined(
                root, runtime, runtime_config, said, cdi_dirs=cdi_dirs, hooks_dirs=hooks_dirs
            )
    except (ConfigError, OSError) as error:
        terminal.show_error(error)
        return FAILED
    _show(seen.node, findings, output)
    return FAILED if any(finding.level == "problem" for finding in findings) else 0


def examined(
    root: str,
    runtime: str | None,
    runtime_config: str,
    said: Mapping[str, Mapping[str, Any] | None],
    *,
    cdi_dirs: Sequence[str] = (),
    hooks_dirs: Sequence[str] = (),
) -> tuple[Gathered, list[Finding]]:
    """Return what is on a node, and what is wrong with it; ConfigError without a runtime."""
    node = look(root, name=runtime or "", config=runtime_config)
    seen = gather(node, PLUGIN_NAMES, said, cdi_dirs=cdi_dirs, hooks_dirs=hooks_dirs)
    return seen, diagnose(seen)


def _show(node: Node, findings: Sequence[Finding], output: str) -> None:
    if output == "json":
        release = dotted(node.release) if node.release else None
        found = [asdict(finding) for finding in findings]
        click.echo(
            json.dumps({"runtime": node.distribution.name, "release": release, "findings": found})
        )
        return
    for finding in findings:
        terminal.show_line(one_line(f"{finding.level:7}  {finding.what}"))
        click.echo(one_line(f"         do: {finding.do}"))
    problems = sum(finding.level == "problem" for finding in findings)
    release = f" {dotted(node.release)}" if node.release else ""
    noun = "problem" if problems == 1 else "problems"
    click.echo(f"{problems} {noun} with NRI on {node.distribution.name}{release}")

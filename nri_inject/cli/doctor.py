"""`nri-inject doctor`: what is wrong on a node, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from nri_inject.capabilities import dotted
from nri_inject.cli.install import host_options
from nri_inject.errors import ConfigError
from nri_inject.node.doctor import Finding, diagnose
from nri_inject.node.files import resolve
from nri_inject.node.gather import gather
from nri_inject.node.runtime import Node, look
from nri_inject.plugins.programs import PROGRAMS, SUITE
from nri_inject.service import logs
from nri_inject.service.command import FAILED
from nri_inject.service.health import status
from nri_inject.service.logs import one_line
from nri_inject.service.options import format_option


@click.command("doctor", epilog="Example: nri-inject doctor --root /host --format json")
@host_options
@click.option("--cdi-dir", "cdi_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option(
    "--status-dir",
    metavar="DIR",
    help=f"Directory of the plugins' sockets; default: {status.DIRECTORY} of the host. Also"
    f" {status.VARIABLE}.",
)
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
        node = look(root, name=runtime or "", config=runtime_config)
        known = [name.removeprefix("nri-") for name in PROGRAMS] + [SUITE]
        said = status.ask_all(status_dir or str(resolve(root, status.directory())))
        findings = diagnose(gather(node, known, said, cdi_dirs=cdi_dirs, hooks_dirs=hooks_dirs))
    except (ConfigError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED
    _show(node, findings, output)
    return FAILED if any(finding.level == "problem" for finding in findings) else 0


def _show(node: Node, findings: Sequence[Finding], output: str) -> None:
    if output == "json":
        release = dotted(node.release) if node.release else None
        found = [asdict(finding) for finding in findings]
        click.echo(
            json.dumps({"runtime": node.distribution.name, "release": release, "findings": found})
        )
        return
    for finding in findings:
        click.echo(one_line(f"{finding.level:7}  {finding.what}"))
        click.echo(one_line(f"         do: {finding.do}"))
    problems = sum(finding.level == "problem" for finding in findings)
    release = f" {dotted(node.release)}" if node.release else ""
    noun = "problem" if problems == 1 else "problems"
    click.echo(f"{problems} {noun} with NRI on {node.distribution.name}{release}")

"""`nri-inject install`: what is put on a node, shown before or after it is done."""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from nri_inject.errors import ConfigError
from nri_inject.node import install
from nri_inject.node.install import PREFIX, Build, PathChange
from nri_inject.node.layout import DISTRIBUTIONS
from nri_inject.node.runtime import Node, look
from nri_inject.plugins.programs import SUITE
from nri_inject.service.command import FAILED
from nri_inject.service.options import format_option
from nri_inject.version import VERSION

F = TypeVar("F", bound=Callable[..., Any])


def host_options(function: F) -> F:
    """Give a command the options that name a host and its runtime."""
    options = (
        click.option(
            "--root",
            default="/",
            metavar="DIR",
            help="Root of the host's file tree, as mounted in a container; default: /.",
        ),
        click.option(
            "--runtime",
            type=click.Choice([one.name for one in DISTRIBUTIONS]),
            help="Name of the runtime, if the host has several.",
        ),
        click.option(
            "--runtime-config",
            default="",
            metavar="FILE",
            help="Configuration file of the runtime, if not the usual one.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    "install", epilog="Example: nri-inject install --plugin 10-device-injector --dry-run"
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="NAME",
    help="Plugin as NAME, or as NN-NAME for another index; repeatable. Default: the suite.",
)
@click.option(
    "--systemd", is_flag=True, help="Install as a systemd service, which connects to the runtime."
)
@click.option(
    "--enable-nri",
    is_flag=True,
    help="Enable NRI with a drop-in file if the runtime's configuration allows it.",
)
@click.option("--prefix", default=PREFIX, metavar="DIR", help=f"For the programs, {PREFIX}.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@host_options
@format_option
def command(
    *,
    plugins: tuple[str, ...],
    root: str,
    runtime: str | None,
    runtime_config: str,
    prefix: str,
    systemd: bool,
    enable_nri: bool,
    dry_run: bool,
    output: str,
) -> int:
    """Install plugins for this node's runtime, with a policy that allows nothing yet.

    Files that were changed since stay as they are. The runtime's own configuration is
    not changed. Created files are recorded in /var/lib/nri-inject for uninstall.
    """
    try:
        node = look(root, name=runtime or "", config=runtime_config)
        build = _build(root)
        find_program = [install.find_program(name) for name in plugins or [SUITE]]
        steps = install.plan(node, build, find_program, prefix=prefix, systemd=systemd)
        if enable_nri and node.nri.enabled is not True:
            steps.insert(0, install.enabling(node))
        old = [] if dry_run else install.outdated(root, build, prefix=prefix)
        changes = [*install.install(root, steps, dry=dry_run), *install.forget(root, old)]
    except (ConfigError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED
    show(changes, _next(node, steps, systemd=systemd, enabling=enable_nri), output, dry=dry_run)
    return 0


def _build(root: str) -> Build:
    """Return what is to be installed; ConfigError if it would not run on the host."""
    if getattr(sys, "frozen", False):  # PyInstaller says so
        folder = Path(sys.executable).resolve().parent
        return Build(str(folder), install.release_of(folder, VERSION))
    if root.rstrip("/"):
        raise ConfigError(
            "with --root the programs are copied, and these programs need this Python; use the"
            " self-contained build (make binaries)"
        )
    return Build(sysconfig.get_path("scripts"))


def _next(
    node: Node, steps: Sequence[install.InstallStep], *, systemd: bool, enabling: bool
) -> list[str]:
    """Return what is left to do by hand."""
    todo: list[str] = []
    if node.nri.enabled is not True and not enabling:
        todo.append(f"{install.how_to_enable(node)} (or use --enable-nri)")
    if systemd:
        units = [Path(step.path).name for step in steps if step.path.startswith(install.UNITS)]
        todo += ["systemctl daemon-reload", f"systemctl enable --now {' '.join(units)}"]
        if not node.nri.connections:
            todo.append("set disable_connections of the runtime's NRI to false")
    if not systemd or enabling:
        todo.append(f"restart {node.distribution.unit}")
    return [*todo, "check with nri-inject doctor"]


def show(changes: Iterable[PathChange], todo: Sequence[str], output: str, *, dry: bool) -> None:
    """Print what changed, or would, and what is left to do."""
    if output == "json":
        rows = [{"what": change.what, "path": change.path} for change in changes]
        click.echo(json.dumps({"dry_run": dry, "changes": rows, "next": list(todo)}))
        return
    for change in changes:
        click.echo(f"{change.what:8} {change.path}")
    if dry:
        click.echo("no changes made (--dry-run)")
    elif todo:
        click.echo("then:")
        for line in todo:
            click.echo(f"  {line}")

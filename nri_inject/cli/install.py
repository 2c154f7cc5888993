"""`nri-inject install`: what is put on a node, shown before or after it is done."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from nri_inject import cli
from nri_inject.cli import completion, manual
from nri_inject.errors import ConfigError
from nri_inject.node import install, record, starters
from nri_inject.node.install import PREFIX, Build
from nri_inject.node.layout import DISTRIBUTIONS
from nri_inject.node.record import InstalledPath, PathChange
from nri_inject.node.runtime import Node, look
from nri_inject.plugins.programs import PROGRAMS, SUITE
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import DIR, FILE, Helped, format_option, together
from nri_inject.version import VERSION

host_options: Final = together(
    click.option(
        "--root",
        default="/",
        type=DIR,
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
        type=FILE,
        help="Configuration file of the runtime, if not the usual one.",
    ),
)
"""The options that name a host and its runtime."""


@click.command(
    "install",
    cls=Helped,
    epilog="Example: nri-inject install --plugin 10-device-injector --dry-run",
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
@click.option("--prefix", default=PREFIX, type=DIR, help=f"For the programs, {PREFIX}.")
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

    Files that you have changed stay as they are, and so does the runtime's own configuration. An
    installed plugin that would run beside a new one is replaced, whether launched or a service.
    Created files are recorded in /var/lib/nri-inject for uninstall. Ends with status 1 if nothing
    could be installed.
    """
    chosen = [install.find_program(name) for name in plugins or [SUITE]]
    try:
        node = look(root, name=runtime or "", config=runtime_config)
        build = _build(root)
        shared = {**completion.scripts(cli.program), **manual.pages(build.programs)}
        steps = install.plan(node, build, chosen, prefix=prefix, systemd=systemd, shared=shared)
        if enable_nri and node.nri.enabled is not True:
            steps.insert(0, install.enabling(node))
        planned = [step.path for step in steps]
        replaced = starters.replaced(node, record.recorded(root), chosen, planned)
        with terminal.progress("installing"):
            old = [] if dry_run else install.outdated(root, build, prefix=prefix)
            changes = install.install(root, steps, replaced=replaced, dry=dry_run)
            changes += install.forget(root, old)
    except (ConfigError, OSError) as error:
        terminal.show_error(error)
        return FAILED
    todo = [*_unused(changes, replaced), *_enabling(node, enabled=enable_nri)]
    if any(change.what in ("new", "changed", "removed") for change in changes):
        todo += _starting(node, changes, prefix, systemd=systemd)
    todo.append(f"check with {_program()} doctor")
    show(changes, todo, output, dry=dry_run)
    return 0


def _build(root: str) -> Build:
    """Return what is to be installed; ConfigError if it would not run on the host."""
    if getattr(sys, "frozen", False):  # PyInstaller says so
        folder = Path(sys.executable).resolve().parent
        return Build(str(folder), install.release_of(folder, VERSION), _programs(folder))
    if root.rstrip("/"):
        raise ConfigError(
            "with --root the programs are copied, and these programs need this Python; use the"
            " self-contained build (make binaries)"
        )
    scripts = sysconfig.get_path("scripts")
    return Build(scripts, programs=_programs(Path(scripts)))


def _programs(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in PROGRAMS if (folder / name).exists())


def _unused(changes: Sequence[PathChange], replaced: Sequence[InstalledPath]) -> list[str]:
    """Say which configuration somebody has changed and nothing reads any more."""
    paths = {entry.path for entry in replaced}
    kept = [change.path for change in changes if change.what == "kept" and change.path in paths]
    return [f"move your settings out of {path}, which is not read any more" for path in kept]


def _enabling(node: Node, *, enabled: bool) -> list[str]:
    """Return how NRI is switched on, unless it is on or has been switched on."""
    if enabled or node.nri.enabled is True:
        return []
    try:
        install.enabling(node)
    except ConfigError:
        return [install.how_to_enable(node)]
    return [f"{install.how_to_enable(node)} (or use --enable-nri)"]


def _starting(
    node: Node, changes: Sequence[PathChange], prefix: str = PREFIX, *, systemd: bool
) -> list[str]:
    """Return what starts or upgrades the plugins, and ends those that they take the place of."""
    removed = [change.path for change in changes if change.what == "removed"]
    todo = stopping(removed)
    restart = f"restart {node.distribution.unit}"
    if not systemd:
        is_upgrade = _is_upgrade(changes, prefix)
        return [*todo, f"{_program()} upgrade" if is_upgrade else restart]
    if any(path.startswith(node.nri.plugins) for path in removed):
        todo.append(f"{restart}, which ends the plugin that it has launched")
    units = [change for change in changes if is_unit(change)]
    new = [_name(change) for change in units if change.what == "new"]
    others = [_name(change) for change in units if change.what != "new"]
    if any(change.what in ("new", "changed") for change in units):
        todo.append("systemctl daemon-reload")
    if new:
        todo.append(f"systemctl enable --now {' '.join(new)}")
    if others:
        todo.append(f"systemctl reload-or-restart {' '.join(others)}")
    if not node.nri.connections:
        todo.append("set disable_connections of the runtime's NRI to false")
    return todo


def _is_upgrade(changes: Iterable[PathChange], prefix: str) -> bool:
    """Tell whether a running plugin can take over all that has changed: programs, no settings."""
    places = (f"{prefix}/", f"{install.COMMANDS}/", f"{completion.SHARE}/")
    changed = [change.path for change in changes if change.what not in ("same", "kept")]
    return all(path.startswith(places) for path in changed)


def _name(change: PathChange) -> str:
    return change.path.rpartition("/")[2]


def is_unit(change: PathChange) -> bool:
    """Tell whether this is a unit that is there afterwards."""
    return change.path.startswith(record.UNITS) and change.what != "removed"


def stopping(removed: Iterable[str]) -> list[str]:
    """Return what stops the services whose units are among the removed paths."""
    units = [path.rpartition("/")[2] for path in removed if path.startswith(record.UNITS)]
    return [f"systemctl stop {' '.join(units)}", "systemctl daemon-reload"] if units else []


def _program() -> str:
    """Return how `nri-inject` is called from a shell."""
    return "nri-inject" if shutil.which("nri-inject") else f"{install.COMMANDS}/nri-inject"


def show(changes: Iterable[PathChange], todo: Sequence[str], output: str, *, dry: bool) -> None:
    """Print what changed, or would, and what is left to do."""
    if output == "json":
        rows = [{"what": change.what, "path": change.path} for change in changes]
        click.echo(json.dumps({"dry_run": dry, "changes": rows, "next": list(todo)}))
        return
    for change in changes:
        terminal.show_line(f"{change.what:8} {change.path}")
    if dry:
        click.echo("no changes made (--dry-run)")
    elif todo:
        click.echo("then:")
        for line in todo:
            click.echo(f"  {line}")

"""`nri-inject uninstall`: the undoing of `install`, from its record."""

from __future__ import annotations

import click

from nri_inject.cli.install import show, stopping
from nri_inject.errors import ConfigError
from nri_inject.node import install, record
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import DIR, format_option


@click.command("uninstall", epilog="Example: nri-inject uninstall --dry-run")
@click.option("--root", default="/", type=DIR, help="Root of the host's file tree; default: /.")
@click.option("--purge", is_flag=True, help="Also remove logs and files that you have changed.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@format_option
def command(*, root: str, purge: bool, dry_run: bool, output: str) -> int:
    """Remove everything that install wrote on a node, directories included.

    Logs and files that you have changed are kept without --purge. A running plugin keeps running
    until the runtime restarts. Ends with status 1 if something cannot be removed.
    """
    try:
        with terminal.progress("removing what was installed"):
            changes = install.uninstall(root, purge=purge, dry=dry_run)
    except (ConfigError, OSError) as error:
        terminal.show_error(error)
        return FAILED
    removed = [change.path for change in changes if change.what == "removed"]
    kept = [change.path for change in changes if change.what == "kept"]
    todo = [*stopping(removed), "restart the runtime"] if removed else []
    if kept:
        # The program that could purge may have removed itself.
        todo.append(f"rm -r {' '.join(kept)} {record.RECORD}, if what is kept is not needed")
    show(changes, todo, output, dry=dry_run)
    return 0

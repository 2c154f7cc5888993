"""`nri-inject uninstall`: the undoing of `install`, from its record."""

from __future__ import annotations

import click

from nri_inject.cli.install import show
from nri_inject.errors import ConfigError
from nri_inject.node import install
from nri_inject.service.command import FAILED
from nri_inject.service.options import format_option


@click.command("uninstall", epilog="Example: nri-inject uninstall --dry-run")
@click.option(
    "--root", default="/", metavar="DIR", help="Root of the host's file tree; default: /."
)
@click.option("--purge", is_flag=True, help="Also remove files that were changed since.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@format_option
def command(*, root: str, purge: bool, dry_run: bool, output: str) -> int:
    """Remove everything that install wrote on a node, directories included.

    Files that were changed since are kept without --purge. A running plugin keeps running until
    the runtime restarts.
    """
    try:
        changes = install.uninstall(root, purge=purge, dry=dry_run)
    except (ConfigError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED
    todo = ["restart the runtime"] if any(change.what == "removed" for change in changes) else []
    show(changes, todo, output, dry=dry_run)
    return 0

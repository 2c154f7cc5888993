"""`nri-inject devices features`: a feature file for Node Feature Discovery."""

from __future__ import annotations

from typing import Final

import click

from nri_inject.cli.generated import GeneratedFiles, Refusal, root_option
from nri_inject.host.devices import inventory
from nri_inject.host.devices.features import labels
from nri_inject.host.devices.inventory import Inventory
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import DIR, Helped, format_option, show

FILE: Final = "nri-inject"
"""The file's name in the directory of Node Feature Discovery."""

MAX_LABELS: Final = 400
"""How many labels a file has: Node Feature Discovery reads at most 64 KiB of it."""

MARK: Final = "# Made by nri-inject devices features, which replaces this file.\n"


@click.command(
    "features",
    cls=Helped,
    epilog="Example: nri-inject devices features --watch"
    " --output /etc/kubernetes/node-feature-discovery/features.d",
)
@click.option("--output", "directory", type=DIR, help=f"Write the file {FILE} in this directory.")
@click.option("--watch", is_flag=True, help="Keep running, and write the file when it changes.")
@click.option(
    "--serials", is_flag=True, help="Also a label for each USB serial number that fits in one."
)
@root_option
@format_option
def command(*, directory: str | None, watch: bool, serials: bool, root: str, output: str) -> int:
    """Write labels for this node by its devices, as Node Feature Discovery reads them.

    There is a label for each class of devices and each USB device. Without --output they are
    printed. With it, the file is replaced in one step if its content changes.
    """
    if watch and directory is None:
        raise click.UsageError("--watch needs --output")

    def made(found: Inventory) -> dict[str, str]:
        return {FILE: text_of(labels(found, serials=serials))}

    try:
        if directory is None:
            found = labels(inventory.read(root), serials=serials)
            show(output, {"labels": found}, map(_line, found))
        else:
            files = GeneratedFiles(directory, MARK, made, output)
            files.follow(root) if watch else files.make(root)
    except Refusal as refusal:
        terminal.show_error(refusal)
        return FAILED
    return 0


def text_of(found: list[str]) -> str:
    """Return a feature file with these labels; the same labels give the same bytes."""
    more = f"# {len(found) - MAX_LABELS} more are left out: a node has at most {MAX_LABELS}\n"
    lines = "".join(f"{_line(label)}\n" for label in found[:MAX_LABELS])
    return MARK + lines + (more if len(found) > MAX_LABELS else "")


def _line(label: str) -> str:
    return f"{label}=true"

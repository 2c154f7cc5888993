"""`nri-inject cdi generate`: CDI specs for the host's own hardware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import click
import yaml

from nri_inject.cdi import spec as specs
from nri_inject.cli.generated import GeneratedFiles, Refusal, root_option
from nri_inject.host.devices import inventory
from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.specs import spec_of
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import DIR, Helped, format_option

MARK: Final = "# Made by nri-inject cdi generate, which replaces and removes this file.\n"
_GENERATED: Final = tuple(name for name, kind in CLASSES.items() if kind.generated)


@click.command(
    "generate", cls=Helped, epilog="Example: nri-inject cdi generate --output /etc/cdi --watch"
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    type=click.Choice([*CLASSES]),
    metavar="CLASS",
    help=f"Repeatable; {', '.join(_GENERATED)} unless given.",
)
@click.option(
    "--output", "directory", type=DIR, help="Write one file per class into this directory."
)
@click.option(
    "--cdi-version", metavar="V", help="Version of CDI; default: the lowest that has all fields."
)
@click.option("--watch", is_flag=True, help="Keep running, and write changed files again.")
@root_option
@format_option
def command(
    *,
    classes: tuple[str, ...],
    directory: str | None,
    cdi_version: str | None,
    watch: bool,
    root: str,
    output: str,
) -> int:
    """Write CDI specs for the devices that this host has, a spec for each class.

    Without --output the specs are printed. With it, a file is replaced in one step if its content
    changes, and removed if the host has no such device any longer. Files of other programs stay.
    """
    if watch and directory is None:
        raise click.UsageError("--watch needs --output")
    wanted = classes or _GENERATED

    def made(found: Inventory) -> dict[str, str]:
        return {file: text for file, (_, text) in texts(wanted, cdi_version, found).items()}

    try:
        if directory is None:
            _print(texts(wanted, cdi_version, inventory.read(root)), output)
        else:
            files = GeneratedFiles(directory, MARK, made, output)
            files.follow(root) if watch else files.make(root)
    except Refusal as refusal:
        terminal.show_error(refusal)
        return FAILED
    return 0


# --- texts --------------------------------------------------------------------------------------


def texts(
    classes: tuple[str, ...], version: str | None, found: Inventory
) -> dict[str, tuple[dict[str, Any] | None, str]]:
    """Return, by file name, each class's spec and its text; None and nothing without a device.

    The text depends on the devices alone: the same ones give the same bytes.
    """
    return {f"nri-inject-{name}.yaml": _text(name, version, found) for name in classes}


def _text(name: str, version: str | None, found: Inventory) -> tuple[dict[str, Any] | None, str]:
    body = spec_of(name, found)
    if body is None:
        return None, ""
    spec = {"cdiVersion": _version(name, version, body), **body}
    return spec, MARK + yaml.safe_dump(spec, sort_keys=False, allow_unicode=False, width=1000)


def _version(name: str, version: str | None, body: dict[str, Any]) -> str:
    least = specs.check({"cdiVersion": _HIGHEST, **body}).spec
    if least is None:
        raise Refusal(f"class {name}: a device's name is not valid in CDI")
    if version is None:
        return least.minimum
    faults = specs.check({"cdiVersion": version, **body}).errors
    if faults:
        raise Refusal(f"class {name}: --cdi-version: {faults[0]}")
    return version


_HIGHEST: Final = "1.1.0"


def _print(made: Mapping[str, tuple[dict[str, Any] | None, str]], output: str) -> None:
    if output == "json":
        click.echo(json.dumps({file: spec for file, (spec, _) in made.items() if spec is not None}))
    else:
        click.echo("---\n".join(text for _, text in made.values() if text), nl=False)

"""The command `nri-inject`: each subcommand lives in a module that is imported on its use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Final

import click

from nri_inject.cli.group import Group
from nri_inject.service import options

# Name -> module and short help, so that help needs no imports.
_COMMANDS: Final = {
    "cdi": ("nri_inject.cli.cdi", "List, check, resolve and inject CDI devices."),
    "devices": ("nri_inject.cli.devices", "List the host's devices, and explain selectors."),
    "doctor": ("nri_inject.cli.doctor", "Check this node, and show how to correct problems."),
    "hooks": ("nri_inject.cli.hooks", "List, check and match OCI hook files."),
    "install": ("nri_inject.cli.install", "Install plugins for this node's runtime."),
    "new": ("nri_inject.cli.new", "Write the project of a new plugin."),
    "policy": ("nri_inject.cli.policy", "Check a policy, and show its decisions."),
    "report": ("nri_inject.cli.report", "Write an archive with what a maintainer asks for."),
    "run": ("nri_inject.cli.run", "Run all injectors as one plugin."),
    "status": ("nri_inject.cli.status", "Show the status of the plugins on this node."),
    "try": ("nri_inject.cli.try_pods", "Show what the containers of a pod would get."),
    "uninstall": ("nri_inject.cli.uninstall", "Remove everything that install wrote on a node."),
    "upgrade": ("nri_inject.cli.upgrade", "Have running plugins become the installed version."),
}


class _Lazy(Group):
    """A group that imports a subcommand when it is named."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[name][0]).command
        return command

    def sentences(self, _context: click.Context) -> Iterator[tuple[str, str]]:
        yield from ((name, text) for name, (_, text) in sorted(_COMMANDS.items()))


program = _Lazy(
    name="nri-inject",
    help="Devices, CDI devices and OCI hooks for pods, through the Node Resource Interface.",
    epilog="Example: nri-inject try --plugin device-injector pod.yaml",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=options.print_version,
            help="Print the version and that of the protocol, and exit.",
        )
    ],
)


def main() -> None:
    """Be the program: the entry point of the console script."""
    sys.exit(options.exit_status(program, sys.argv[1:]))

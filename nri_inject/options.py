"""The options that every plugin command has, made in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

import click

from nri_inject.command import Command, Options, run
from nri_inject.logs import USUAL
from nri_inject.stub import DEFAULT_SOCKET, NRI_VERSION

# The Go plugins' flags have one dash. A unit file that was written for those keeps working.
_GO_FLAGS: Final = {
    "-idx": "--idx",
    "-name": "--name",
    "-socket": "--socket-path",
    "-socket-path": "--socket-path",
    "-verbose": "--verbose",
    "-disableWatch": "--disable-watch",
}


def parse_and_run(command: Command, arguments: Sequence[str], defaults: Options) -> int:
    """Parse a plugin command's arguments and run it; return the exit status."""
    program = click.Command(
        name=f"nri-{command.name}",
        callback=lambda **given: run(command, _options(defaults, given)),
        params=_parameters(),
        help=command.help,
        epilog=f"Example: {command.example}",
    )
    return exit_status(program, translated(arguments))


def exit_status(program: click.Command, arguments: Sequence[str]) -> int:
    """Run a click command and return its exit status: 2 for wrong usage."""
    try:
        status = program.main(list(arguments), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        return 1
    return status if isinstance(status, int) else 0


def translated(arguments: Sequence[str]) -> list[str]:
    """Replace the Go plugins' single-dash flags by ours, `-flag=value` included."""
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        result.append(_GO_FLAGS.get(flag, flag) + equals + value)
    return result


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print our version and the protocol's, and end."""
    if wanted:
        click.echo(f"nri-inject {version('nri-inject')}, NRI {NRI_VERSION}")
        context.exit()


def _options(defaults: Options, given: dict[str, Any]) -> Options:
    values = {name: value for name, value in given.items() if value is not None}
    verbosity = USUAL + values.pop("verbose") - 2 * values.pop("quiet")
    return dataclasses.replace(defaults, **values, verbosity=verbosity)


def _parameters() -> list[click.Parameter]:
    return [
        _option("--idx", metavar="NN", help="Plugin index, two digits. Also NRI_PLUGIN_IDX."),
        _option("--name", metavar="NAME", help="Plugin name. Also NRI_PLUGIN_NAME."),
        _option(
            "--socket-path",
            metavar="PATH",
            help=f"The runtime's NRI socket, {DEFAULT_SOCKET} unless given.",
        ),
        _option(
            "--config",
            metavar="FILE",
            help="Configuration (YAML). The drop-in file that a runtime sends wins.",
        ),
        _option("--policy", metavar="FILE", help="Who may inject what; the word unrestricted."),
        *_of_other_plugins(),
        _option("--log-format", type=click.Choice(["text", "json"]), help="text unless given."),
        _option("-v", "--verbose", count=True, help="Log more."),
        _option("-q", "--quiet", is_flag=True, help="Log errors only."),
        _option(
            "--version",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=print_version,
            help="Print our version and that of the protocol, and end.",
        ),
    ]


def _of_other_plugins() -> list[click.Parameter]:
    """Return the flags that this release takes for the others' sake, and does nothing with."""
    unused: Callable[..., click.Option] = lambda *names, **kind: _option(  # noqa: E731
        *names, expose_value=False, **kind
    )
    return [
        unused("--cdi-dir", multiple=True, metavar="DIR", help="No CDI devices yet: no effect."),
        unused("--hooks-dir", multiple=True, metavar="DIR", help="No OCI hooks yet: no effect."),
        unused("--unsafe-files", is_flag=True, help="No file is distrusted yet: no effect."),
        unused("--disable-watch", is_flag=True, hidden=True),
    ]


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, **attributes)

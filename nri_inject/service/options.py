"""The parser of command lines: the options that all plugin commands share, with click."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import islice
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from nri_inject.errors import ConfigError, Faulty, NriError
from nri_inject.service import config, terminal
from nri_inject.service.base import FAILED, MISUSED, Options
from nri_inject.service.logs import USUAL
from nri_inject.stub import DEFAULT_SOCKET, NRI_VERSION
from nri_inject.text.fields import GO_BOOLEANS
from nri_inject.version import VERSION

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Gives a command an option, or several."""

# The Go plugins' flags have one dash. A unit file that was written for those keeps working.
_GO_FLAGS: Final = {
    "-idx": "--idx",
    "-name": "--name",
    "-socket": "--socket-path",
    "-socket-path": "--socket-path",
    "-verbose": "--verbose",
    "-disableWatch": "--disable-watch",
    "-help": "--help",
}
_SWITCHES: Final = {"--verbose", "--disable-watch", "--help"}
_WITH_VALUE: Final = {
    *(set(_GO_FLAGS.values()) - _SWITCHES),
    *("--config", "--policy", "--cdi-dir", "--hooks-dir", "--log-format", "--http-address"),
}


class PathName(click.types.StringParamType):
    """The value of an option that is a path: its word in help, and its kind for completion."""

    def __init__(self, word: str, kind: str = "file") -> None:
        self.word = word
        self.kind = kind

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  # as click calls it
        """Return the word."""
        return self.word

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  # as click calls it
        param: click.Parameter,  # noqa: ARG002  # as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        """Let the shell complete it as it completes paths."""
        return [CompletionItem(incomplete, type=self.kind)]


FILE: Final = PathName("FILE")
DIR: Final = PathName("DIR", "dir")
POD: Final = PathName("POD.yaml")


class Helped(click.Command):
    """A command whose help has a short flag, too."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # as click calls it
        """Return the flags."""
        return ["-h", "--help"]


class _Parser(Helped):
    """A click command that also takes the flags of the Go plugins."""

    own: Sequence[click.Parameter] = ()

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        return super().parse_args(context, translated(arguments, self.own))


def parser(
    name: str,
    *,
    run: Callable[[Options], int],
    defaults: Options,
    own: Sequence[click.Parameter],
    help: str,  # noqa: A002  # as click calls it
    epilog: str,
) -> click.Command:
    """Return a click command that calls `run` with the parsed options and returns its status.

    `own` are the options that only this command has; `defaults` counts for options not given.
    """
    names = {parameter.name for parameter in own if parameter.expose_value}

    def serve(**given: Any) -> int:
        values = {name: given.pop(name) for name in names}
        return run(_options(defaults, given | {"own": values}))

    params = [*own, *_parameters()]
    command = _Parser(name=name, callback=serve, params=params, help=help, epilog=epilog)
    command.own = own
    return command


def exit_status(program: click.Command, arguments: Sequence[str]) -> int:
    """Run a click command and return its exit status.

    An error that a command lets through ends it with 1 if a file has a fault, else with 2.
    """
    try:
        status = program.main(list(arguments), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return MISUSED
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
            click.echo(f"Try '{error.ctx.command_path} --help' for help.", err=True)
        terminal.show_error(error.format_message())
        return MISUSED
    except click.ClickException as error:
        terminal.show_error(error.format_message())
        return error.exit_code
    except Faulty as error:
        terminal.show_error(error)
        return FAILED
    except NriError as error:
        terminal.show_error(error)
        return MISUSED
    except click.exceptions.Abort:
        return 1
    return status if isinstance(status, int) else 0


def translated(arguments: Sequence[str], own: Sequence[click.Parameter] = ()) -> list[str]:
    """Replace the Go plugins' single-dash flags by ours, `-flag=value` included.

    `own` are the options that only one command has; those, too, may be given with one dash.
    """
    long = {name for option in own for name in option.opts if name.startswith("--")}
    go_flags = {name[1:]: name for name in long} | _GO_FLAGS
    valued = {name for option in own if not _is_switch(option) for name in option.opts}
    result: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*result, argument, *rest]
        flag, equals, value = argument.partition("=")
        flag = go_flags.get(flag, flag)
        if flag in _SWITCHES and equals and value in GO_BOOLEANS:
            result += [flag] if GO_BOOLEANS[value] else []
            continue
        result.append(flag + equals + value)
        if flag in _WITH_VALUE | valued and not equals:
            result.extend(islice(rest, 1))  # a value, even if it looks like a flag
    return result


def _is_switch(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)


def together(*options: Decorator) -> Decorator:
    """Return what gives a command these options, in this order."""
    return lambda function: reduce(lambda made, option: option(made), reversed(options), function)


format_option: Final = click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="text for people, json for programs.",
)
"""The option that every command with an answer has."""

unsafe_option: Final = click.option(
    "--unsafe-files",
    "unsafe",
    is_flag=True,
    help="Skip the check of owners and modes of files.",
)
"""The option of a command that reads files as a plugin does."""


def directories_option(flag: str, what: str, usual: Sequence[str]) -> Decorator:
    """Return the option for directories of files, of which a later one wins."""
    return click.option(
        flag,
        "directories",
        multiple=True,
        type=DIR,
        help=f"{what} directory; a later one wins. {' and '.join(usual)} unless given.",
    )


def show(output: str, document: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Print an answer as `format_option` was given: the document as JSON, or the lines."""
    if output == "json":
        click.echo(json.dumps(document))
        return
    for line in lines:
        terminal.show_line(line)


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print our version and the protocol's, and end."""
    if wanted:
        click.echo(f"nri-inject {VERSION}, NRI {NRI_VERSION}")
        context.exit()


def _address(_context: click.Context, _: click.Parameter, text: str | None) -> str | None:
    if text is not None:
        try:
            config.checked({"http_address": text}, "--http-address")
        except ConfigError as error:
            raise click.BadParameter(str(error)) from error
    return text


def _options(defaults: Options, given: dict[str, Any]) -> Options:
    values = {name: value for name, value in given.items() if value is not None}
    verbosity = USUAL + values.pop("verbose") - 2 * values.pop("quiet")
    return dataclasses.replace(defaults, **values, verbosity=verbosity)


def _parameters() -> list[click.Parameter]:
    return [
        option("--idx", metavar="NN", help="Plugin index, two digits. Also NRI_PLUGIN_IDX."),
        option("--name", metavar="NAME", help="Plugin name. Also NRI_PLUGIN_NAME."),
        option(
            "--socket-path",
            type=PathName("PATH"),
            help=f"NRI socket of the runtime; default: {DEFAULT_SOCKET}.",
        ),
        option(
            "--config",
            type=FILE,
            help="Configuration (YAML). The drop-in file that a runtime sends wins.",
        ),
        option("--policy", type=FILE, help="Policy file (YAML), or the word unrestricted."),
        option(
            "--cdi-dir",
            multiple=True,
            type=DIR,
            help="Directory of CDI specs; repeatable, rising priority.",
        ),
        option(
            "--hooks-dir",
            multiple=True,
            type=DIR,
            help="Directory of OCI hooks; repeatable, rising priority.",
        ),
        option(
            "--unsafe-files",
            is_flag=True,
            help="Skip the check of owners and modes of CDI and hook files.",
        ),
        option(
            "--http-address",
            metavar="[HOST:]PORT",
            callback=_address,
            help="Address of /livez, /readyz and /metrics; a port alone is on 127.0.0.1.",
        ),
        option(
            "--no-worker",
            "worker",
            flag_value=False,
            type=bool,
            default=None,
            help="Serve in the process that has the connection, to debug a service.",
        ),
        option("--disable-watch", is_flag=True, hidden=True, expose_value=False),
        option("--log-format", type=click.Choice(["text", "json"]), help="Default: text."),
        option("-v", "--verbose", count=True, help="Log more."),
        option("-q", "--quiet", is_flag=True, help="Log errors only."),
        option(
            "--version",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=print_version,
            help="Print the version and that of the protocol, and exit.",
        ),
    ]


def option(*names: str, **attributes: Any) -> click.Option:
    """Make an option of a command: `names` as they are typed, the rest as click has it."""
    return click.Option(names, **attributes)

"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from nri_inject.cli.manual import command_of
from nri_inject.plugins.programs import PROGRAMS, SUITE


def of_the_suite() -> str:
    """Return the page of `nri-inject` and its subcommands."""
    return "\n".join(["# nri-inject", "", *described(SUITE, command_of(SUITE), 2)])


def of_the_plugins() -> str:
    """Return the page of the plugins that have a program of their own."""
    lines = ["# Plugins as programs", "", INTRODUCTION, ""]
    for name in sorted(set(PROGRAMS) - {SUITE}):
        lines += [f"## {name}", "", *described(name, command_of(name), 3)]
    return "\n".join(lines)


INTRODUCTION = (
    "A runtime launches a plugin without arguments. These options are for a plugin that an admin"
    " or systemd starts."
)


def described(
    path: str, command: click.Command, level: int, above: click.Context | None = None
) -> Iterator[str]:
    """Yield usage, description, options and example of a command, and of those below it."""
    name = path.rpartition(" ")[2]
    context = click.Context(command, parent=above, info_name=name, **command.context_settings)
    yield from ["```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
    yield from [inspect.cleandoc(command.help or ""), ""]
    options = (option.get_help_record(context) for option in command.get_params(context))
    rows = [f"| `{name}` | {escaped(text)} |" for name, text in filter(None, options)]
    if rows:
        yield from ["| option | meaning |", "| --- | --- |", *rows, ""]
    if command.epilog:
        yield from ["```console", f"$ {command.epilog.removeprefix('Example: ')}", "```", ""]
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None and not below.hidden:
                yield from [f"{'#' * level} {path} {each}", ""]
                yield from described(f"{path} {each}", below, level + 1, context)


def escaped(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")

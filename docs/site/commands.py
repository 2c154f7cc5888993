"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import cast

import click

from nri_inject import cli
from nri_inject.plugins.programs import PROGRAMS, SUITE, load
from nri_inject.service.base import Options
from nri_inject.service.command import parser


def of_the_suite() -> str:
    """Return the page of `nri-inject` and its subcommands."""
    return "\n".join(["# nri-inject", "", *command(SUITE, cli.program, 2)])


def of_the_plugins() -> str:
    """Return the page of the plugins that have a program of their own."""
    lines = ["# Plugins as programs", "", INTRODUCTION, ""]
    for name in sorted(PROGRAMS):
        if name != SUITE:
            program = load(name)
            defaults = Options(idx=program.idx, name=program.name)
            lines += [f"## {name}", "", *command(name, parser(program, defaults), 3)]
    return "\n".join(lines)


INTRODUCTION = (
    "A runtime launches a plugin without arguments. These options are for a plugin that an admin"
    " or systemd starts."
)


def command(path: str, one: click.Command, level: int) -> Iterator[str]:
    """Yield usage, description, options and example of a command, and the same of its commands."""
    context = click.Context(one, info_name=path)
    yield from ["```text", one.get_usage(context).removeprefix("Usage: "), "```", ""]
    yield from [inspect.cleandoc(one.help or ""), ""]
    rows = [
        record for option in one.get_params(context) if (record := option.get_help_record(context))
    ]
    if rows:
        yield from ["| option | meaning |", "| --- | --- |"]
        yield from (f"| `{name}` | {escaped(text)} |" for name, text in rows)
        yield ""
    if one.epilog:
        yield from ["```console", f"$ {one.epilog.removeprefix('Example: ')}", "```", ""]
    if isinstance(one, click.Group):
        for name in one.list_commands(context):
            below = cast(click.Command, one.get_command(context, name))  # it is listed
            yield from [f"{'#' * level} {path} {name}", ""]
            yield from command(f"{path} {name}", below, level + 1)


def escaped(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")

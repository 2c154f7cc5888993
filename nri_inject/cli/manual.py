"""Pages of the manual, made from the commands: their help is the one source of both.

The language is man(7), as groff and mandoc read it. As a program it writes the pages into a
directory, for `make man`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from nri_inject import cli
from nri_inject.cli.group import sentence
from nri_inject.plugins.programs import PROGRAMS, SUITE, load
from nri_inject.service.base import STATUSES, Options
from nri_inject.service.command import parser
from nri_inject.version import VERSION

PLACE: Final = "/usr/local/share/man/man1/{name}.1"


def pages(names: Iterable[str]) -> dict[str, str]:
    """Return the page of each program by its path."""
    return {
        PLACE.format(name=name): page(command_of(name), [one for one in names if one != name])
        for name in names
    }


def command_of(name: str) -> click.Command:
    """Return the command that the program of a name parses its arguments with."""
    if name == SUITE:
        return cli.program
    command = load(name)
    return parser(command, Options(idx=command.idx, name=command.name))


def page(program: click.Command, others: Sequence[str] = ()) -> str:
    """Return the page of a program and all its subcommands; `others` are the pages beside it."""
    context = click.Context(program, info_name=program.name, **program.context_settings)
    name = program.name or ""
    lines = [
        f'.TH "{_text(name).upper()}" 1 "" "nri-inject {VERSION}"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(sentence(program).removesuffix('.'))}",
        ".SH SYNOPSIS",
        _usage(program, context),
        ".SH DESCRIPTION",
        *_description(program, context),
    ]
    below = [*_below(program, context)]
    if below:
        lines.append(".SH COMMANDS")
    for command, inner in below:
        lines += [f'.SS "{_text(_title(inner))}"', _usage(command, inner)]
        lines += [".PP", *_description(command, inner)]
    lines.append('.SH "EXIT STATUS"')
    for status, words in STATUSES.items():
        lines += [".TP", str(status), _text(words)]
    if others:
        lines += ['.SH "SEE ALSO"', ", ".join(f"\\fB{_text(each)}\\fR(1)" for each in others)]
    return "\n".join(lines) + "\n"


def _below(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield the commands below a group that do something, each with its context."""
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is None or inner.hidden:
            continue
        within = click.Context(inner, parent=context, info_name=name)
        if isinstance(inner, click.Group):
            yield from _below(inner, within)
        else:
            yield inner, within


def _title(context: click.Context) -> str:
    """Return how a subcommand is called, without the program's name."""
    return context.command_path.partition(" ")[2]


def _usage(command: click.Command, context: click.Context) -> str:
    pieces = " ".join(command.collect_usage_pieces(context))
    return f"\\fB{_text(context.command_path)}\\fR {_text(pieces)}"


def _description(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the paragraphs of a command's help, its options and its example."""
    for number, paragraph in enumerate((command.help or "").strip().split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))
    for parameter in command.get_params(context):
        is_option = isinstance(parameter, click.Option)
        if is_option and (record := parameter.get_help_record(context)):
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]))
    if command.epilog:
        word, _, example = command.epilog.partition(": ")
        yield from (".PP", f"{_text(word)}:", ".PP", ".nf", ".RS 4", _text(example), ".RE", ".fi")


_ESCAPES: Final[Mapping[int, str]] = str.maketrans(
    {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga"}
)


def _text(text: str) -> str:
    """Return a text as roff shows it: no character of it is a request or an escape."""
    shown = text.translate(_ESCAPES)
    return f"\\&{shown}" if shown.startswith(".") else shown


def main(directory: str) -> None:
    """Write the pages of all programs."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for path, text in pages(PROGRAMS).items():
        (Path(directory) / Path(path).name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])

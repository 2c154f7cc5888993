"""A group of subcommands: help that shows whole sentences, and suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from nri_inject.service.options import CONTEXT
from nri_inject.text.words import quoted, suggestion


class Group(click.Group):
    """A group whose help has a whole sentence for each subcommand.

    It has the settings of the program, also where it is called by itself: click keeps the help
    option that a subcommand has had first.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"context_settings": CONTEXT, **settings})

    def sentences(self, context: click.Context) -> Iterator[tuple[str, str]]:
        """Yield the name and the sentence of each subcommand."""
        for name in self.list_commands(context):
            command = self.get_command(context, name)
            if command is not None and not command.hidden:
                yield name, sentence(command)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands, in which click would cut the sentences."""
        with formatter.section("Commands"):
            formatter.write_dl([*self.sentences(context)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the subcommands and options that begin like this; imports no subcommand."""
        items = [
            CompletionItem(name, help=help_)
            for name, help_ in self.sentences(ctx)
            if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand that the arguments name; UsageError with the nearest if none."""
        name = args[0]
        known = self.list_commands(context)
        if name in known or name.startswith("-") or context.resilient_parsing:
            return super().resolve_command(context, args)
        raise click.UsageError(f"no command {quoted(name)}; {suggestion(name, known)}", context)


def sentence(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    return command.get_short_help_str(limit=1000)

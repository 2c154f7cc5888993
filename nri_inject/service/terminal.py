"""Errors, colour and progress on a terminal: what is added for people, and never for a program."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

import click

from nri_inject.service.logs import one_line

PATIENCE: Final = 2.0
"""Seconds after which a command says on a terminal what it does."""

_COLOURS: Final = {
    "red": ("Error:", "problem", "fails", "error:", "not in force:", "does not answer"),
    "yellow": ("Warning:", "note", "unread", "warns", "lost", "warning:", "kept"),
    "green": ("gets", "new", "+"),
}
_COLOUR_OF: Final = {word: colour for colour, words in _COLOURS.items() for word in words}
_FIRST: Final = re.compile(rf" *({'|'.join(map(re.escape, _COLOUR_OF))})(?= |$)")


def has_colour(stream: TextIO) -> bool:
    """Tell whether a person reads a stream, and has not switched colour off.

    NO_COLOR is the variable of no-color.org; a terminal that is `dumb` has no colours.
    """
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and stream.isatty()


def painted(line: str) -> str:
    """Return a line whose first word has the colour that it stands for; some words have none."""
    found = _FIRST.match(line)
    if found is None:
        return line
    start, end = found.span(1)
    return line[:start] + click.style(line[start:end], fg=_COLOUR_OF[found[1]]) + line[end:]


def show_line(line: str, *, err: bool = False) -> None:
    """Print a line for people, on standard error with `err`."""
    coloured = has_colour(sys.stderr if err else sys.stdout)
    click.echo(painted(line) if coloured else line, err=err, color=coloured)


def show_error(sentence: object) -> None:
    """Print why a command fails, on standard error."""
    show_line(f"Error: {sentence}", err=True)


def show_warning(sentence: str) -> None:
    """Print what a command warns of, on one line of standard error."""
    show_line(f"Warning: {one_line(sentence)}", err=True)


@contextmanager
def progress(doing: str, patience: float = PATIENCE) -> Iterator[None]:
    """Say on a terminal what a command does, if that takes more than `patience` seconds.

    The line is on standard error, counts the seconds, and goes away when it is done. The body must
    not print.
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    counting = threading.Thread(target=_count, args=(doing, patience, done), daemon=True)
    counting.start()
    try:
        yield
    finally:
        done.set()
        counting.join()


def _count(doing: str, seconds: float, done: threading.Event) -> None:
    if done.wait(seconds):
        return
    while True:
        sys.stderr.write(f"\r{doing} ({seconds:.0f} s)")
        sys.stderr.flush()
        if done.wait(1.0):
            break
        seconds += 1
    sys.stderr.write("\r\x1b[K")  # erases the line (ECMA-48, EL)
    sys.stderr.flush()

"""The log of a command: on standard error, as text or as JSON, one record a line."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal

from nri_inject.text.times import timestamp

LogFormat = Literal["text", "json"]

MAX_MESSAGE = 512 * 1024
"""How many characters of a message are written: some names have no bound of their own. The
longest line of the audit has less."""

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
USUAL = 2
"""The default verbosity: what happens, without details."""


def configure(log_format: LogFormat = "text", verbosity: int = USUAL) -> None:
    """Log to standard error; `verbosity` is 0 (errors) to 3 (everything)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _Text())
    level = _LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))]
    logging.basicConfig(handlers=[handler], level=level, force=True)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        begin = f"{timestamp(record.created)} {record.levelname.lower():7}"
        line = f"{begin} {one_line(_bounded(record.getMessage()))}"
        if record.exc_info:
            # Indented, so that no text in an exception can pass for a record of its own.
            trace = _bounded(self.formatException(record.exc_info)).split("\n")
            line += "".join(f"\n    {one_line(part)}" for part in trace)
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _bounded(record.getMessage()),
        }
        if record.exc_info:
            members["traceback"] = _bounded(self.formatException(record.exc_info))
        return json.dumps(members)


def one_line(text: str) -> str:
    """Escape what would end the line, what a terminal would obey, and what hides or turns text.

    A pod's author must not write a second line, nor move a terminal's cursor, by a name.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else _escaped(each) for each in text])


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _bounded(message: str) -> str:
    """Cut a message that is too long."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"

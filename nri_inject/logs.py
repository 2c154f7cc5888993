"""What a command logs, and how: to standard error, as text or as JSON, one line each."""

from __future__ import annotations

import logging
import sys
import time
from functools import lru_cache
from typing import Literal

LogFormat = Literal["text", "json"]

# Names that a pod's author chose must not write a second line, nor move a terminal's cursor.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
USUAL = 2
"""The verbosity that a command has unless told otherwise: what happens, no details."""


def configure(log_format: LogFormat = "text", verbosity: int = USUAL) -> None:
    """Send the log to standard error; `verbosity` is 0 (errors) to 3 (everything)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    level = _LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # No line says who wrote it, so nobody needs to find out (Python's logging howto, Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_when(record)} {record.levelname.lower():7} {one_line(record.getMessage())}"
        if record.exc_info:
            # Indented, so that no text in an exception can pass for a record of its own.
            trace = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n    {one_line(part)}" for part in trace)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        import json

        fields = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _when(record: logging.LogRecord) -> str:
    return timestamp(record.created)


def timestamp(seconds: float) -> str:
    """Write a time, in seconds since 1970, as all that we print has it: UTC, milliseconds."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{thousandths:03}Z"


@lru_cache(maxsize=1)
def _second(since_1970: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_1970))


def one_line(text: str) -> str:
    """Escape what would end the line, or what a terminal would obey."""
    return text if text.isprintable() else text.translate(_CONTROL)

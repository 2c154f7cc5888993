"""The log of a command: on standard error, as text or as JSON, one record a line."""

from __future__ import annotations

import json
import logging
import sys
import time
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
"""The default verbosity: what happens, without details."""


def configure(log_format: LogFormat = "text", verbosity: int = USUAL) -> None:
    """Log to standard error; `verbosity` is 0 (errors) to 3 (everything)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    level = _LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))]
    logging.basicConfig(handlers=[handler], level=level, force=True)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        begin = f"{timestamp(record.created)} {record.levelname.lower():7}"
        line = f"{begin} {one_line(record.getMessage())}"
        if record.exc_info:
            # Indented, so that no text in an exception can pass for a record of its own.
            trace = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n    {one_line(part)}" for part in trace)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members)


def timestamp(seconds: float) -> str:
    """Format seconds since 1970 as in all our output: UTC, with milliseconds."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03}Z"


def one_line(text: str) -> str:
    """Escape line ends and the characters that control a terminal."""
    return text if text.isprintable() else text.translate(_CONTROL)

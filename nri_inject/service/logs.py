"""The log of a command: on standard error, in the journal or in a file, one record a line.

A runtime sends the standard error of a plugin that it launches to /dev/null. So the configuration
of such a plugin names another place.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import sys
from pathlib import Path
from typing import Final, Literal

from nri_inject.host.appended import AppendedFile
from nri_inject.text.times import timestamp

LogFormat = Literal["text", "json"]

MAX_MESSAGE = 512 * 1024
"""How many characters of a message are written: some names have no bound of their own. The
longest line of the audit has less."""

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
USUAL = 2
"""The default verbosity: what happens, without details."""


MAX_FILE: Final = 16 << 20
"""How many bytes a log file takes before it is renamed to FILE.1, in place of the one before."""

JOURNAL: Final = "/run/systemd/journal/socket"
"""Where systemd's journal takes records (systemd.io, "Journal Native Protocol")."""


def configure(log_format: LogFormat = "text", verbosity: int = USUAL) -> None:
    """Log to standard error; `verbosity` is 0 (errors) to 3 (everything)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _Text())
    level = _LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))]
    logging.basicConfig(handlers=[handler], level=level, force=True)


def send_to(target: str) -> None:
    """Send the records that follow to `stderr`, to the `journal`, or to the file of a path.

    The format and the verbosity stay. A place that cannot be written to raises nothing: the
    record is lost, and the next one tries again.
    """
    root = logging.getLogger()
    before = root.handlers[0] if root.handlers else None
    if getattr(before, "target", "stderr") == target:
        return
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if target == "journal":
        handler = _Journal()
    elif target != "stderr":
        handler = _LogFile(target)
    handler.setFormatter(_Text() if before is None else before.formatter)
    logging.basicConfig(handlers=[handler], level=root.level, force=True)


class _LogFile(logging.Handler):
    """Append each record to a file; the directory is made."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.target = path
        self._file = AppendedFile(path)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            Path(self.target).parent.mkdir(mode=0o750, exist_ok=True)
            self._file.append(f"{self.format(record)}\n", MAX_FILE)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Journal(logging.Handler):
    """Send each record to systemd's journal as a datagram, without waiting for it."""

    target = "journal"

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        # The journal has the time and the level by itself. A message of several lines has its
        # length in front.
        message = _journal_message(record).encode("utf-8", "backslashreplace")
        head = f"PRIORITY={_PRIORITIES.get(record.levelno, 7)}\nSYSLOG_IDENTIFIER=nri-inject\n"
        data = head.encode() + b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n"
        with contextlib.suppress(OSError):
            self._socket.sendto(data, JOURNAL)

    def close(self) -> None:
        self._socket.close()
        super().close()


# syslog(3)'s for the levels of Python.
_PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
_MAX_DATAGRAM: Final = 100_000  # bytes; the kernel's default for a datagram is twice that


def _journal_message(record: logging.LogRecord) -> str:
    text = one_line(record.getMessage())
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text if len(text) <= _MAX_DATAGRAM else f"{text[:_MAX_DATAGRAM]}…"


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

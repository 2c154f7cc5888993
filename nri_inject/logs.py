"""What a command logs, and how: to standard error, as text or as JSON, one line each."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]

MAX_MESSAGE = 512 * 1024
"""How many characters of a message are written: some names have no bound of their own. The
longest line of the audit has less."""

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
USUAL = 2
"""The verbosity that a command has unless told otherwise: what happens, no details."""


def configure(log_format: LogFormat = "text", verbosity: int = USUAL) -> None:
    """Send the log to standard error; `verbosity` is 0 (errors) to 3 (everything)."""
    handler = _Handler(sys.stderr, _Json() if log_format == "json" else _Text())
    level = _LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # No line says who wrote it, so nobody needs to find out (Python's logging howto, Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def write_lines(log: logging.Logger, messages: Iterable[str]) -> None:
    """Log messages that belong together, at level INFO, each as a record of its own.

    A container waits for them. So where `configure` alone has decided what becomes of them, they
    are written at once; handlers and filters of others see the records that they always see.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    handler = _sole_handler(log)
    if handler is not None:
        handler.write_lines(log.name, [*messages])
        return
    for message in messages:
        log.info("%s", message)


def _sole_handler(log: logging.Logger) -> _Handler | None:
    """Return our handler, if nobody else has a say in what becomes of a logger's records."""
    handlers = [*log.handlers]
    above = log
    while above.propagate and above.parent is not None:
        above = above.parent
        handlers += above.handlers
    if len(handlers) != 1 or log.filters or handlers[0].filters or handlers[0].level:
        return None
    return handlers[0] if isinstance(handlers[0], _Handler) else None


class _Handler(logging.Handler):
    """Write to a stream, which no other thread may do meanwhile; for that it has a lock."""

    def __init__(self, stream: TextIO, form: _Text | _Json) -> None:
        super().__init__()
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._is_torn = False
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._write(f"{self._form.format(record)}\n")
        except Exception:  # whatever becomes of the log, a container gets its answer
            self.handleError(record)

    def write_lines(self, name: str, messages: Sequence[str]) -> None:
        """Write messages of level INFO as if each had come in a record of the logger `name`."""
        with self.lock or nullcontext():
            try:
                begin = self._form.begin(name, "INFO", time.time())
                line = self._form.line
                lines = [f"{line(begin, message)}\n" for message in messages]
                for piece in lines if len(lines) == 1 else _pieces(lines):
                    self._write(piece)
            except Exception:  # as above
                self.handleError(logging.makeLogRecord({"name": name, "msg": messages}))

    def _write(self, text: str) -> None:
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # Past the stream, whose layers a plugin that has slept finds in no cache: 10 µs of each
        # container's time.
        begin = "\n" if self._is_torn else ""
        data = f"{begin}{text}".encode(self._stream.encoding, "backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._is_torn = bool(data)


def _descriptor(stream: TextIO) -> int | None:
    """Return what is behind a stream; None for one that only Python knows."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _pieces(lines: Sequence[str]) -> Sequence[str]:
    """Return lines as they may be written together.

    Several processes may write to one pipe, as plugins do that a runtime has launched. Up to
    PIPE_BUF bytes nothing of theirs comes between (POSIX, write), and more than that is no
    longer sure to stay whole lines.
    """
    whole = "".join(lines)
    return [whole] if whole.isascii() and len(whole) <= select.PIPE_BUF else lines


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        begin = self.begin(record.name, record.levelname, record.created)
        line = self.line(begin, record.getMessage())
        if record.exc_info:
            # Indented, so that no text in an exception can pass for a record of its own.
            trace = _bounded(self.formatException(record.exc_info)).split("\n")
            line += "".join(f"\n    {one_line(part)}" for part in trace)
        return line

    def begin(self, _: str, level: str, seconds: float) -> str:
        """Return what the lines of a logger begin with that are written at a time."""
        return f"{timestamp(seconds)} {level.lower():7} "

    def line(self, begin: str, message: str) -> str:
        """Return a whole line."""
        return begin + one_line(_bounded(message))


class _Json(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        # Most plugins write text, and what is launched has to be quick.
        from json.encoder import encode_basestring_ascii

        self._text = encode_basestring_ascii  # json.dumps(text), without its preparations

    def format(self, record: logging.LogRecord) -> str:
        begin = self.begin(record.name, record.levelname, record.created)
        line = self.line(begin, record.getMessage())
        if record.exc_info:
            trace = self._text(_bounded(self.formatException(record.exc_info)))
            line = f'{line[:-1]}, "traceback": {trace}}}'
        return line

    def begin(self, name: str, level: str, seconds: float) -> str:
        """Return the members that lines begin with."""
        return (
            f'{{"time": "{timestamp(seconds)}", "level": "{level.lower()}",'
            f' "logger": {self._text(name)}, "message": '
        )

    def line(self, begin: str, message: str) -> str:
        """Return a whole line, an object."""
        return f"{begin}{self._text(_bounded(message))}}}"


def timestamp(seconds: float) -> str:
    """Write a time, in seconds since 1970, as all that we print has it: UTC, milliseconds."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{thousandths:03}Z"


@lru_cache(maxsize=1)
def _second(since_1970: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_1970))


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
    """Cut a message that nobody would read to its end."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"

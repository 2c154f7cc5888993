"""The events of a YAML text, and what is wrong with its syntax; PyYAML does the parsing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

import yaml  # type: ignore[import-untyped, unused-ignore]

from nri_inject.errors import NriError
from nri_inject.text.words import excerpt, quoted

# libyaml is some ten times faster, but PyYAML can be built without it.
PARSER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(NriError):
    """The fault of a YAML text, and its place, if that is known.

    `line` and `column` count from 1, in characters.
    """

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem, line, column)
        self.problem = problem
        self.line = line
        self.column = column

    def __str__(self) -> str:
        if self.line is None:
            return self.problem
        return f"line {self.line}, column {self.column}: {self.problem}"


class Mark(Protocol):
    """A place in the text; line and column count from 0."""

    line: int
    column: int


class YamlEvent(Protocol):
    """An event of PyYAML's, whose published types leave most of this out.

    Of the attributes below `start_mark`, each kind of event has its own.
    """

    start_mark: Mark
    anchor: str | None  # of a scalar, the start of a list or map; always there in an alias
    tag: str | None
    value: str
    implicit: tuple[bool, bool]  # of a scalar; the first is whether it is plain
    version: tuple[int, int] | None  # of a document's start: what its %YAML line says


# libyaml compares each %TAG line with all before it: 256 KiB of them take it 0.4 s, and the time
# grows with the square. Tags are refused anyway; a file may still have a few such lines.
_MAX_TAG_DIRECTIVES: Final = 16


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        before, character = text[: error.start], text[error.start]
        line, column = before.count("\n") + 1, error.start - before.rfind("\n")
        raise YamlError(f"{quoted(character)} is half a character", line, column) from error


def events(text: str | bytes, most: int) -> Iterator[YamlEvent]:
    """Yield PyYAML's events of a text of at most so many bytes; YamlError for all that is wrong.

    libyaml has MemoryError for nesting it cannot follow; PyYAML's own parser lets ValueError and
    the like through for a few escapes.
    """
    data = _encoded(text, most)
    try:
        yield from iter(PARSER(data).get_event, None)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:
        raise _character_error(error, data) from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise YamlError(f"not YAML: {_bounded(str(error))}") from error


def node(text: str | bytes) -> Any:
    """Return PyYAML's node of the first document of a text that has a value.

    None if there is nothing in it, or if it has two anchors of one name: PyYAML makes no nodes
    then.
    """
    try:
        return next(yaml.compose_all(text, Loader=PARSER), None)
    except yaml.YAMLError:
        return None


def _encoded(text: str | bytes, most: int) -> bytes:
    # Characters are bytes or more, so a text that is far too long is not encoded first.
    if len(text) <= most:
        data = _utf8(text) if isinstance(text, str) else text
        if len(data) <= most:
            if data.count(b"%TAG") > _MAX_TAG_DIRECTIVES:
                raise YamlError(f"more than {_MAX_TAG_DIRECTIVES} %TAG directives")
            return data
    raise YamlError(f"more than {most} bytes of YAML")


def fault(event: YamlEvent, problem: str) -> YamlError:
    """Return the error of a text with a problem where an event begins."""
    return YamlError(problem, event.start_mark.line + 1, event.start_mark.column + 1)


def _syntax_error(error: yaml.MarkedYAMLError) -> YamlError:
    problem = _bounded(" ".join(part for part in (error.problem, error.context) if part))
    if "maximum nesting depth" in problem:
        # libyaml of PyYAML 6.0.4, which reads a thousand levels deep before it reports the first.
        problem = "lists and maps are too deep"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return YamlError(problem)
    return YamlError(problem, mark.line + 1, mark.column + 1)


def _character_error(error: yaml.reader.ReaderError, data: bytes) -> YamlError:
    problem = str(error.reason)
    if isinstance(error.character, int) and error.character >= 0:
        problem += f": #x{error.character:02x}"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16: bytes say nothing about lines
        return YamlError(problem)
    before = data[: error.position]
    in_line = before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")
    return YamlError(problem, before.count(b"\n") + 1, len(in_line) + 1)


def _bounded(problem: str) -> str:
    return repr(excerpt(problem, 200))[1:-1]

"""Read the plain block YAML that programs write specs in, four times faster than libyaml's events.

One key or item in a line, ASCII, no flow lists but empty ones, no anchors, no text over several
lines, no comment behind a value: whatever is not so is left to `nri_inject.yamltext`, and so is
whatever is wrong. What is read here means what it means there; scalars are resolved by the same
function.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from nri_inject import yamltext
from nri_inject.yamltext import Value

_QUOTED: Final = r'"[ !#-\[\]-~]*"' + r"|'[ -&(-~]*'"
# A plain text begins with what no indicator does, and its colons are followed by something.
_LETTER: Final = "[A-Za-z0-9_./=@+,%-]"
REST: Final = f"{_LETTER}*(?::{_LETTER}+)*"
"""What a plain text may go on with."""
_PLAIN: Final = f"[A-Za-z0-9_/]{REST}"
WORDS: Final = yamltext._WORDS
"""The plain texts that are no texts: booleans and null."""
_LINE: Final = re.compile(
    r"( *)(?:"
    rf"(- )?([A-Za-z][A-Za-z0-9_./-]{{0,99}}):(?: ({_QUOTED}|{_PLAIN}|\[\]|\{{\}}))?"
    rf"|- ({_QUOTED}|{_PLAIN})"
    r"|(?:#[ -~]*)?"
    r")"
).fullmatch
_START: Final = "---\n"

# With these, no text can have more values or be deeper than yamltext allows: the shortest line
# has 4 bytes, and each has at most 3 values.
MOST_BYTES: Final = 2 * 1024 * 1024
_DEEPEST: Final = 16

_Container: TypeAlias = dict[str, Value] | list[Value]


class NotPlain(ValueError):
    """Tell that a text has something that is not read here, or something wrong."""


def load(text: str) -> Value:
    """Return the value of a text; NotPlain if it is for the other reader."""
    if len(text) > MOST_BYTES:
        raise NotPlain
    reader = _Reader()
    lines: dict[str, _Line] = {}  # most lines of a spec are there many times
    for text_of_line in text.removeprefix(_START).removesuffix("\n").split("\n"):
        line = lines.get(text_of_line)
        if line is None:
            line = lines[text_of_line] = _line(text_of_line)
        column, dash, key, given, value = line
        if key is not None:
            reader.add(column, dash, key, given, value)
        elif given:
            reader.add_item(column, value)
    return reader.result()


# The column, whether a dash begins a map there, the key, whether it has a value, and the value. An
# item that is no map has no key.
_Line: TypeAlias = tuple[int, bool, str | None, bool, Value]


def _line(text: str) -> _Line:
    match = _LINE(text)
    if match is None or match[3] in WORDS:
        raise NotPlain
    spaces, dash, key, value, item = match.groups()
    given = item if key is None else value
    found = None if given is None else _scalar(given)
    return len(spaces), dash is not None, key, given is not None, found


class _Reader:
    """The containers that are open, each with the column of its keys or dashes.

    `pending` is the key of the innermost map that has had no value in its line.
    """

    def __init__(self) -> None:
        self.root: dict[str, Value] = {}
        self.stack: list[tuple[int, _Container]] = [(0, self.root)]
        self.pending: str | None = None

    def add(self, column: int, dash: bool, key: str, given: bool, value: Value) -> None:
        """Take a line with a key, and a dash before it if it begins an item."""
        if dash:
            item: dict[str, Value] = {}
            self._list(column).append(item)
            self.stack.append((column + 2, item))
            inside = item
        else:
            inside = self._map(column)
        if key in inside:
            raise NotPlain
        inside[key] = value
        if not given:
            self.pending = key

    def add_item(self, column: int, value: Value) -> None:
        """Take a line with an item that is no map."""
        self._list(column).append(value)

    def result(self) -> Value:
        if not self.root:
            raise NotPlain
        return self.root

    def _open(self, column: int, container: _Container) -> None:
        """Make a container the value of the key that waits for one."""
        outer = self.stack[-1][1]
        if self.pending is None or not isinstance(outer, dict) or len(self.stack) >= _DEEPEST:
            raise NotPlain
        outer[self.pending] = container
        self.pending = None
        self.stack.append((column, container))

    def _map(self, column: int) -> dict[str, Value]:
        """Return the map that a key in this column belongs to."""
        top, container = self.stack[-1]
        if column > top:
            opened: dict[str, Value] = {}
            self._open(column, opened)
            return opened
        self.pending = None
        # The dashes of a list may stand in the column of the keys around it.
        while column < top or isinstance(container, list):
            self.stack.pop()
            if not self.stack:
                raise NotPlain
            top, container = self.stack[-1]
        if column != top:
            raise NotPlain
        return container

    def _list(self, column: int) -> list[Value]:
        """Return the list that a dash in this column belongs to."""
        top, container = self.stack[-1]
        if self.pending is not None and column >= top:
            opened: list[Value] = []
            self._open(column, opened)
            return opened
        self.pending = None
        while column < top:
            self.stack.pop()
            top, container = self.stack[-1]
        if column != top or not isinstance(container, list):
            raise NotPlain
        return container


def _scalar(text: str) -> Value:
    first = text[0]
    if first in "\"'":
        return text[1:-1]
    if first in "[{":
        return [] if first == "[" else {}
    try:
        return yamltext._resolve(text)
    except ValueError as error:
        raise NotPlain from error

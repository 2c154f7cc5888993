"""Typed values from JSON and YAML that others wrote: one reader, one sentence for each fault.

A reader is a function that takes a value and returns what it means, or raises Fault. `Map` reads
a map with known keys. `Findings` collects what is wrong in a whole document.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from nri_inject.text.words import excerpt, listed, meant, plain, quoted, suggestion
from nri_inject.text.yamlscalars import Path, Value, as_integer, float_text, is_negative_zero

T = TypeVar("T")
V = TypeVar("V")

Reader: TypeAlias = Callable[[Value], T]
"""Returns what a value means, or raises Fault."""
Values: TypeAlias = dict[str, Any]
"""The fields of one map that were given, by name, each as its reader returned it."""


# --- what is wrong ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `code` is a word for programs, `path` the place in the document, `details` the values that
    the sentence has. A warning leaves the document in use. `line` and `column` count from 1.
    """

    code: str
    path: Path
    sentence: str
    details: Mapping[str, str] = field(default_factory=dict)
    warning: bool = False
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        position = f"line {self.line}, column {self.column}: " if self.line else ""
        place = f"{dotted(self.path)}: " if self.path else ""
        return f"{position}{place}{self.sentence}"

    def below(self, *steps: str | int) -> Problem:
        """Return the same problem of the value that has this one behind `steps`."""
        return replace(self, path=(*steps, *self.path))


class Fault(ValueError):
    """The fault of one value; each caller adds the value's place in front."""

    def __init__(self, *faults: str | Problem) -> None:
        self.problems = tuple(
            Problem("", (), fault) if isinstance(fault, str) else fault for fault in faults
        )
        super().__init__(*self.sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences, each with its place in front, as in `item 1: major: ...`."""
        return tuple(_in_words(problem) for problem in self.problems)

    def at(self, place: str) -> list[str]:
        """Return the sentences with a place in front."""
        return [f"{place}: {sentence}" for sentence in self.sentences]


def dotted(path: Path) -> str:
    """Write a place in a document, as in `devices[0].name` and `labels['a b']`."""
    return "".join(map(_step, path)).removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch("[A-Za-z0-9_-]{1,40}", step) else f"[{quoted(step)}]"


def _in_words(problem: Problem) -> str:
    steps = (f"item {s + 1}: " if isinstance(s, int) else f"{plain(s)}: " for s in problem.path)
    return "".join(steps) + problem.sentence


MAX_FAULTS: Final = 20
"""How many faults of one text are worth looking for: an error shows the first ten."""


class Findings:
    """The faults and warnings of one value so far, in the order of the text.

    `errors` counts the faults; with `most` of them a reader stops.
    """

    def __init__(self, most: int = sys.maxsize) -> None:
        self.problems: list[Problem] = []
        self.errors = 0
        self.most = most

    def add(self, *problems: Problem) -> None:
        """Note problems."""
        self.errors += sum(not problem.warning for problem in problems)
        self.problems += problems

    def error(self, code: str, sentence: str, *path: str | int, **details: str) -> None:
        """Note a fault; `path` leads to it from the value that is being read."""
        self.add(Problem(code, path, sentence, details))

    def warn(self, code: str, sentence: str, *path: str | int) -> None:
        """Note a warning."""
        self.add(Problem(code, path, sentence, warning=True))

    def read(self, step: str | int, read: Callable[[V], T], value: V) -> T | None:
        """Return what the value behind `step` means, or None after noting what is wrong."""
        before = len(self.problems)
        try:
            result = read(value)
        except Fault as fault:
            self.add(*fault.problems)
            result = None
        if len(self.problems) > before:
            self.problems[before:] = [one.below(step) for one in self.problems[before:]]
        return result

    def read_list(self, read: Callable[[Any], T], value: object) -> list[T | None]:
        """Return what the items of a list mean, with None for those that are wrong."""
        if not isinstance(value, list):
            raise wrong_type(value, "a list")
        items: list[T | None] = []
        for index, item in enumerate(value):
            items.append(self.read(index, read, item))
            if self.errors >= self.most:
                break
        return items

    def check(self) -> None:
        """Raise Fault with all faults, if there was any."""
        if self.errors:
            raise Fault(*(problem for problem in self.problems if not problem.warning))


# --- sentences ----------------------------------------------------------------------------------


def described(value: object) -> str:
    """Return in a few words what a value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int | float):
        return excerpt(str(value))
    return "a list" if isinstance(value, list) else "a map"


def wrong_type(value: object, wanted: str) -> Fault:
    """Return the fault of a value that is not `wanted`, as in `'ten' is not an integer`."""
    if value is None:
        return Fault(Problem("null-item", (), f"null where {wanted} is expected"))
    return Fault(Problem("wrong-type", (), f"{described(value)} is not {wanted}"))


def not_one_of(value: object, known: Sequence[str]) -> str:
    """Return the sentence for a value that is none of the known words."""
    near = meant(value, known) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    return f"{described(value)} must be one of {listed(known)}{hint}"


def unknown_key(key: str, known: Sequence[str]) -> Problem:
    """Return the fault of a map with a key that it cannot have."""
    sentence = f"unknown key {quoted(key)}; {suggestion(key, known)}"
    return Problem("unknown-field", (), sentence, {"field": key})


# --- texts --------------------------------------------------------------------------------------


def read_string(value: object) -> str:
    """Return a text; a number or a boolean is none, however it is written."""
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, int | float) else ""
        raise wrong_type(value, f"text{hint}")
    return value


def number_text(value: float) -> str:
    """Return the text of a whole number such as 08 or 1e3; Fault for other floats.

    Go makes text of those, too, but not what was written: 1.1 of 1.10, and 1e+06 of 1e6.
    """
    text = float_text(value)
    if text is None:
        kind = "a number that is not written out" if value.is_integer() else "a fraction"
        sentence = f"{described(value)} is {kind}, not text; put the value in quotes"
        raise Fault(Problem("wrong-type", (), sentence))
    return text


# YAML lets a half of a UTF-16 pair be written as an escape; no protobuf text can hold it.
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
# What a terminal or a log obeys rather than shows: control characters, the separators of lines
# and paragraphs, what turns the direction of writing, and what has no width. Not the joiners
# U+200C and U+200D, which some scripts need. repr(), and so `quoted`, escapes all of these.
_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]"
)
_MAX_LINE: Final = 4096  # bytes; PATH_MAX of Linux


def read_text(value: Value) -> str:
    """Return a text; whole numbers become one, as Go makes them (0x10 gives 16).

    Go makes text of the others too, and that is seldom what was meant: `yes` becomes true,
    `1.10` becomes 1.1.
    """
    if isinstance(value, str):
        if _HALF_CHARACTER.search(value):
            raise Fault(f"{quoted(value)} is not Unicode text")
        return value
    if isinstance(value, bool):
        raise Fault(f"{described(value)} is a boolean, not text; put the value in quotes")
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int):
        return str(value)
    raise wrong_type(value, "text")


def read_line(value: Value) -> str:
    """Return a text without control characters."""
    text = read_text(value)
    _check_line(text, text)
    return text


def read_short_line(value: Value) -> str:
    """Return a text without control characters that the kernel can take: of 4096 bytes."""
    text = read_line(value)
    check_length(text)
    return text


def read_tabbed_line(value: Value) -> str:
    """Return the same, but it may have tabs."""
    text = read_text(value)
    _check_line(text, text.replace("\t", " "))
    check_length(text)
    return text


def _check_line(text: str, searched: str) -> None:
    if _CONTROL.search(searched):
        raise Fault(f"{quoted(text)} contains a control character")


def check_length(text: str) -> None:
    """Raise Fault if the kernel could not take the text in one piece."""
    if len(text) > _MAX_LINE or len(text.encode()) > _MAX_LINE:
        raise Fault(f"{quoted(text)} is longer than {_MAX_LINE} bytes")


# --- other scalars ------------------------------------------------------------------------------

GO_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""The texts that Go takes for a boolean (strconv.ParseBool), by what they mean."""


def read_flag(value: object) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        raise wrong_type(value, "true or false")
    return value


def one_of(*known: str) -> Reader[str]:
    """Return a reader of one of these words."""

    def read(value: Value) -> str:
        if value not in known:
            raise Fault(not_one_of(value, known))
        return str(value)

    return read


def choice(names: Mapping[str, T]) -> Reader[T]:
    """Return a reader of one of these names, spelled exactly so, that returns its value."""

    def read(value: Value) -> T:
        name = read_text(value)
        if name not in names:
            raise Fault(not_one_of(name, [*names]))
        return names[name]

    return read


def integer(least: int, greatest: int) -> Callable[[object], int]:
    """Return a reader of whole numbers; those from YAML such as 0o644 and 420.0 are some too."""

    def read(value: object) -> int:
        number = value if type(value) is int else as_integer(value)
        if number is None or is_negative_zero(value):
            hint = "; leave out the quotes" if isinstance(value, str) and _is_number(value) else ""
            raise wrong_type(value, f"an integer{hint}")
        if not least <= number <= greatest:
            raise Fault(
                Problem("wrong-type", (), f"{number} is not between {least} and {greatest}")
            )
        return number

    return read


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,20}|0[xob][0-9a-fA-F]{1,20}", text) is not None


# --- lists --------------------------------------------------------------------------------------

MAX_ITEMS: Final = 1000
"""How many items a list may have. No container has so many devices or mounts."""


def list_of(read: Callable[[Value], T], most: int = MAX_ITEMS) -> Reader[list[T]]:
    """Return a reader of lists of up to `most` items; null is the empty one."""

    def read_all(value: Value) -> list[T]:
        items, faults = read_items(read, value, most)
        if faults:
            raise Fault(*(fault for faults_of_item in faults.values() for fault in faults_of_item))
        return [*items.values()]

    return read_all


def read_items(
    read: Callable[[Value], T], value: Value, most: int = MAX_ITEMS
) -> tuple[dict[int, T], dict[int, list[Problem]]]:
    """Return what is right and what is wrong in a list, by the item's index; null is empty."""
    if value is None:
        return {}, {}
    check_count(len(value) if isinstance(value, list) else 0, "items", most)
    found = Findings(MAX_FAULTS)
    items = found.read_list(read, value)
    faults: dict[int, list[Problem]] = {}
    for problem in found.problems:
        if not problem.warning:
            faults.setdefault(int(problem.path[0]), []).append(problem)
    right = {index: item for index, item in enumerate(items) if index not in faults}
    return right, faults  # type: ignore[return-value]  # None stands where there was a fault


def check_count(count: int, what: str, most: int = MAX_ITEMS) -> None:
    """Raise Fault if a list or map has more than `most` items."""
    if count > most:
        raise Fault(f"{count} {what}, at most {most} allowed")


# --- maps ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a map, as it is written in the documentation; `to` names its value in a record.

    `others` are words that people write for it, folded, since other tools have them.
    """

    name: str
    read: Reader[Any]
    required: bool = False
    to: str = ""
    others: tuple[str, ...] = ()


def folded(key: str) -> str:
    """Return a key as Go compares it with a known one: A like a, U+017F like s, U+212A like k."""
    return key.translate(_FOLD)


_FOLD: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)} | {
    0x17F: ord("s"),
    0x212A: ord("k"),
}


_NEARLY_SAME: Final = 0.8  # of difflib; path and hostPath have 0.67


class Map:
    """Reads maps with these keys, in any letter case; a case that is not ours is warned of.

    Null counts as not given. Other keys are faults, unless they are `ignored`. If `strict`, a key
    in another letter case and a null are faults, too.
    """

    def __init__(
        self, fields: Iterable[Field], *, ignored: bool = False, strict: bool = False
    ) -> None:
        self._fields = {field.name: field for field in fields}
        self._folded = {folded(field.name): field for field in self._fields.values()}
        self._required = [field for field in self._fields.values() if field.required]
        self._ignored = ignored
        self._strict = strict

    @property
    def names(self) -> tuple[str, ...]:
        """The keys, as the documentation writes them."""
        return tuple(self._fields)

    def read(self, value: Value, found: Findings) -> Values:
        """Return the values of the fields that were given, None for one that is wrong.

        Notes what is wrong in `found`; raises Fault for what is not a map.
        """
        if not isinstance(value, dict):
            raise wrong_type(value, f"a map with {', '.join(self.names)}")
        values: Values = {}
        given: set[str] = set()
        if not value.keys() <= self._fields.keys():  # once: there may be thousands of other keys
            given = {folded(key) for key, item in value.items() if item is not None}
        for key, item in value.items():
            known = self._fields.get(key) or self._in_other_case(key, value, given, found)
            if known is not None and item is not None:
                values[known.to or known.name] = found.read(key, known.read, item)
            elif known is not None and self._strict:
                found.error("null-item", "null where a value is expected", key)
            if found.errors >= found.most:
                return values
        for known in self._required:
            if (known.to or known.name) not in values:
                self._miss(known, value, found)
        return values

    def _in_other_case(
        self, key: str, keys: Mapping[str, Value], given: set[str], found: Findings
    ) -> Field | None:
        """Return the field that a key names in other letters, or None after noting a fault."""
        name = folded(key)
        known = None if self._strict else self._folded.get(name)
        if known is None:
            if not self._ignored:
                found.add(self._unknown(key, given))
            return None
        first = known.name if known.name in keys else next(k for k in keys if folded(k) == name)
        if first != key:
            sentence = f"{known.name} is set twice, as {quoted(first)} and {quoted(key)}"
            found.error("duplicate-key", sentence, key=known.name)
            return None
        found.warn("key-case", f"the key is read as {known.name}; use that spelling", key)
        return known

    def _unknown(self, key: str, given: set[str]) -> Problem:
        """Return the fault of an unknown key, with the known key that it may mean.

        A key that the map has already is meant only if the two are nearly the same.
        """
        free = [field for name, field in self._folded.items() if name not in given]
        near = next((field.name for field in free if folded(key) in field.others), None)
        near = near or meant(key, [field.name for field in free])
        near = near or meant(key, self.names, _NEARLY_SAME)
        hint = f"did you mean {near!r}?" if near else f"known: {listed(self.names)}"
        sentence = f"unknown key {quoted(key)}; {hint}"
        return Problem("unknown-field", (), sentence, {"field": key})

    def _miss(self, known: Field, keys: Iterable[str], found: Findings) -> None:
        """Note a missing key, unless an unknown key was meant to be it."""
        unknown = islice((key for key in keys if folded(key) not in self._folded), MAX_FAULTS)
        if known.name not in {meant(key, self.names) for key in unknown}:
            found.error("missing", f"{known.name} is missing")


def map_of(
    fields: Iterable[Field], *, ignored: bool = False, strict: bool = False
) -> Reader[Values]:
    """Return a reader of maps with these keys; see `Map`."""
    keys = Map(fields, ignored=ignored, strict=strict)

    def read(value: Value) -> Values:
        found = Findings(MAX_FAULTS)
        values = keys.read(value, found)
        found.check()
        return values

    return read

"""Read one YAML text with the meaning that Go's sigs.k8s.io/yaml gives it.

The texts are pod annotations, written by anyone who may create a pod, and CDI spec files. Go reads
both with yaml v2 and then treats them as JSON, so the values here are those of JSON. PyYAML's
event parser does the syntax; its constructors are not used, because they make base-60 numbers and
dates, do not know `y`, `0o17` or `5e2`, and accept duplicate keys. What a value must be (a device,
a list of mounts) is not decided here.

Where this reader is stricter than Go, on purpose:

    explicit tags               an error; Go obeys them
    a key given twice           an error; Go takes the last one unless it reads strictly
    a number beyond 64 bits     an error; Go makes a rounded float or a text of it

and in an annotation only:

    a second document           an error; Go does not look at it
    a merge key                 may stand once in a map, above the keys that it has too; in Go
                                the later one wins, whichever that is. In a file the map's own
                                keys win, then the earlier map.
    a key that is not text      an error; Go makes text of it, of `on` for example "true"
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import yaml  # type: ignore[import-untyped, unused-ignore]
from yaml.events import (  # type: ignore[import-untyped, unused-ignore]
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from nri_inject.errors import NriError

Value: TypeAlias = bool | int | float | str | list["Value"] | dict[str, "Value"] | None
Path: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]

# libyaml is some ten times faster, but PyYAML can be built without it.
_Parser: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what a text may cost.

    `size` counts bytes of UTF-8 (of the file, if it is UTF-16), `depth` lists and maps inside
    each other, `nodes` values, `expanded` the characters of all scalars, keys too; an alias
    counts as all that it stands for. `several` says that further documents are left unread, as Go
    does, rather than refused. `strict` refuses what a pod's author seldom means: merge keys whose
    order counts, keys that are not text, a %YAML line that Go does not take.
    """

    size: int
    depth: int
    nodes: int
    expanded: int = 64 * 1024 * 1024
    several: bool = False
    strict: bool = False


# 256 KiB is what Kubernetes allows for all annotations of an object together. A thousand mounts
# with ten options each have 15 000 values; more than 20 000 would only cost time. Aliases of one
# long text would make gigabytes of it in the answer; four times the text is enough for all.
ANNOTATION: Final = Limits(
    size=256 * 1024, depth=32, nodes=20_000, expanded=1024 * 1024, strict=True
)
SPEC_FILE: Final = Limits(size=16 * 1024 * 1024, depth=32, nodes=2_000_000, several=True)


class YamlError(NriError):
    """Say why a text is not the YAML that we accept, and where, if that is known.

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


def load(text: str | bytes, limits: Limits = ANNOTATION) -> Value:
    """Return the value of `text`; None if there is nothing in it.

    What an alias stands for is shared, not copied: treat the value as read-only. Raises
    YamlError and nothing else, whatever the text.
    """
    return _load(text, limits, marked=False)[0]


def load_marked(text: str | bytes, limits: Limits = ANNOTATION) -> tuple[Value, Marks]:
    """Return the value of `text` as `load` does, and where in the text each part of it stands."""
    value, place, second = _load(text, limits, marked=True)
    return value, Marks(place, second)


def load_all(text: str | bytes, limits: Limits) -> list[Value]:
    """Return the values of all documents in `text`; YamlError as `load` raises it."""
    events = _events(_encoded(text, limits))
    # The loop takes the start of a document, the builder everything up to its end.
    starts = (event for event in events if isinstance(event, DocumentStartEvent))
    return [_Builder(limits, marked=False).read(events)[0] for _ in starts]


def as_text(value: bool | int | float | str) -> str:  # noqa: PYI041 (each has its own text)
    """Return what Go makes of a plain scalar where text is due.

    Floats are printed as strconv.FormatFloat(value, 'g', -1, 32) does: `3.0` gives 3,
    `123456789.5` gives 1.2345679e+08 (convertToJSONableObject in sigs.k8s.io/yaml).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return _float_text(value)


def as_integer(value: object) -> int | None:
    """Return the whole number that Go decodes `value` to, or None if it would refuse.

    A float without a fraction is one (`420.0`, `4e2`); texts and booleans are not. The range is
    the caller's to check.
    """
    if isinstance(value, float):
        return _whole(value) if value.is_integer() else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


# --- where values stand -------------------------------------------------------------------------

# Line, column, and the same for what is inside. A tree shares what aliases share; a flat table
# of paths would have to copy it.
_Place: TypeAlias = tuple[int, int, "_Inside"]
_Inside: TypeAlias = list[_Place] | dict[str, _Place] | None


class Marks(Mapping[Path, Position]):
    """Map the path of a value, such as ("devices", 0, "path"), to its (line, column) from 1.

    The path () is the whole value. An alias stands where it is written, what is inside it where
    the anchor is. `second` is where a second document begins that was left unread, or None.
    """

    def __init__(self, root: _Place | None, second: Position | None = None) -> None:
        self._root = root
        self.second = second

    def __getitem__(self, path: Path) -> Position:
        place = self._root
        for step in path:
            inside = place[2] if place else None
            if isinstance(inside, dict) and isinstance(step, str):
                place = inside.get(step)
            elif isinstance(inside, list) and isinstance(step, int) and 0 <= step < len(inside):
                place = inside[step]
            else:
                place = None
        if place is None:
            raise KeyError(path)
        return place[:2]

    def __iter__(self) -> Iterator[Path]:
        pending: list[tuple[Path, _Place]] = [((), self._root)] if self._root else []
        while pending:
            path, (_, _, inside) = pending.pop()
            yield path
            if isinstance(inside, dict):
                pending += [((*path, key), place) for key, place in inside.items()]
            elif inside:
                pending += [((*path, index), place) for index, place in enumerate(inside)]

    def __len__(self) -> int:
        return sum(1 for _ in self)


# --- scalars ------------------------------------------------------------------------------------

# The table of resolve.go in Go's yaml v2.
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES"), True),
    **dict.fromkeys(("true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO"), False),
    **dict.fromkeys(("false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_WORD_STARTS: Final = frozenset("yYnNtTfFoO~")
_NUMBER_STARTS: Final = frozenset("0123456789+-.")
_NOT_FINITE: Final = frozenset(
    [".nan", ".NaN", ".NAN"]
    + [sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")]
)

# What strconv.ParseInt takes with base 0, one group for each base: a leading zero means octal.
_INTEGER: Final = re.compile(
    r"[-+]?(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))"
)
_BASES: Final = (0, 16, 2, 8, 10)
# yamlStyleFloat in resolve.go; it takes 089, which is not octal.
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# What strconv.ParseFloat takes that begins with a point.
_FRACTION: Final = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")

_LEAST: Final = -(2**63)
_GREATEST: Final = 2**64 - 1


def _resolve(text: str) -> bool | int | float | str | None:
    """Return the value of a plain scalar; ValueError with a sentence if it has none.

    Dates, times and digits with colons are text, as Go leaves them.
    """
    if not text:
        return None
    first = text[0]
    if first in _WORD_STARTS:
        return _WORDS.get(text, text)
    if first in _NUMBER_STARTS:
        return _number(text)
    return text


def _number(text: str) -> int | float | str:
    if text in _NOT_FINITE:
        raise ValueError(f"{text} is not a number that JSON knows")
    if text[0] == ".":
        return _float(text, text) if _FRACTION.fullmatch(text) else text
    plain = text.replace("_", "")  # underscores may stand anywhere
    match = _INTEGER.fullmatch(plain)
    if match is not None and match.lastindex is not None:
        return _integer(text, plain[0] == "-", match[match.lastindex], _BASES[match.lastindex])
    if _FLOAT.fullmatch(plain):
        return _float(text, plain)
    return text


def _integer(text: str, negative: bool, digits: str, base: int) -> int:
    digits = digits.lstrip("0")
    # 64 bits have at most 64 digits. int() takes quadratic time, and refuses 4301 of them.
    size = int(digits or "0", base) if len(digits) <= 64 else _GREATEST + 1
    number = -size if negative else size
    if not _LEAST <= number <= _GREATEST:
        raise ValueError(_out_of_range(text))
    return number


def _float(text: str, plain: str) -> float:
    number = float(plain)
    if math.isinf(number):
        raise ValueError(_out_of_range(text))
    return number


def _out_of_range(text: str) -> str:
    return f"number out of range: {_shown(text)[1:-1]}; put it in quotes if it is meant as text"


def _float_text(value: float) -> str:
    single = _single(value)
    if not math.isfinite(single):
        return "NaN" if math.isnan(single) else "+Inf" if single > 0 else "-Inf"
    near, digits = _shortest(single)
    text = f"{near:.{digits}e}"
    exponent = int(text.partition("e")[2])
    # The 'g' format of strconv takes an exponent below 1e-4 and from 1e6 up when shortest.
    if -4 <= exponent < 6:
        return f"{near:.{max(digits - exponent, 0)}f}"
    return text


def _shortest(single: float) -> tuple[float, int]:
    """Return a number and how many digits of it after the first one give `single` back."""
    nears: tuple[float, ...] = (single,)
    if abs(math.frexp(single)[0]) == 0.5:
        # What rounds to a power of two lies mostly beyond it, and so may the shortest decimal.
        # Go rounds halves away from zero there, else to even like Python.
        nears = (single * (1 + 2**-50), single * (1 + 2**-24))
    for digits in range(8):
        for near in nears:
            if _single(float(f"{near:.{digits}e}")) == single:
                return near, digits
    return nears[0], 8  # nine digits are enough for every 32-bit float


def _single(value: float) -> float:
    """Round to 32-bit precision."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _whole(value: float) -> int:
    if abs(value) < 1e16:
        return int(value)
    # On the way through JSON Go prints the shortest digits and pads with zeros, so that
    # 1.2345678901234567e18 ends in 700, not in the 768 that the binary value has.
    mantissa, _, exponent = repr(value).partition("e")
    head, _, fraction = mantissa.partition(".")
    return int(head + fraction + "0" * (int(exponent) - len(fraction)))


# --- from events to values ----------------------------------------------------------------------


class _Mark(Protocol):
    """A place in the text; line and column count from 0."""

    line: int
    column: int


class _Event(Protocol):
    """An event of PyYAML's, whose published types leave most of this out.

    Of the attributes below `start_mark`, each kind of event has its own.
    """

    start_mark: _Mark
    anchor: str | None  # of a scalar, the start of a list or map; always there in an alias
    tag: str | None
    value: str
    implicit: tuple[bool, bool]  # of a scalar; the first is whether it is plain
    version: tuple[int, int] | None  # of a document's start: what its %YAML line says


class _Merge:
    """The type of the one mark that stands for the key `<<` of a map that is being read."""


_MERGE: Final = _Merge()
_NO_KEY: Final = ""


class _Anchored:
    """What an anchor names; not `done` while the parser is still inside it."""

    __slots__ = ("done", "expanded", "height", "inside", "size", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Value = None
        self.size = 0
        self.expanded = 0
        self.height = 0
        self.inside: _Inside = None

    def cost(self, size: int, expanded: int) -> None:
        """Note what each alias of it will count: so many values, so many characters."""
        self.size, self.expanded = size, expanded

    def finish(self, value: Value, height: int, inside: _Inside) -> None:
        self.value, self.height, self.inside = value, height, inside
        self.done = True


class _Frame:
    """A list or map that is being read.

    `key` is None where a map's next key is due, else that key or _MERGE; a list always has
    _NO_KEY. `height` is how many levels of lists and maps are inside, itself included. `before`
    is how many values and characters there were before it, `inside` the places of what is in it,
    if wanted.
    """

    __slots__ = ("anchored", "before", "event", "height", "inside", "key", "merged", "value")

    def __init__(
        self,
        value: list[Value] | dict[str, Value],
        event: _Event | None,
        inside: _Inside,
        before: tuple[int, int],
    ) -> None:
        self.value = value
        self.event = event
        self.inside = inside
        self.before = before
        self.height = 1
        self.anchored: _Anchored | None = None
        self.key: str | _Merge | None = _NO_KEY if isinstance(value, list) else None
        self.merged: list[tuple[dict[str, Value], _Inside]] | None = None


class _Builder:
    """Collect the events of one document into a value, without recursion.

    The bottom frame is a list that takes the document's value.
    """

    def __init__(self, limits: Limits, marked: bool) -> None:
        self._limits = limits
        self._marked = marked
        self._nodes = 0
        self._expanded = 0
        self._anchors: dict[str, _Anchored] = {}
        self._values: list[Value] = []
        self._places: list[_Place] = []
        self._top = _Frame(self._values, None, self._places, (0, 0))
        self._below: list[_Frame] = []

    def read(self, events: Iterator[_Event]) -> tuple[Value, _Place | None]:
        """Take the events up to the end of a document; return its value and where it stands."""
        # In the order of how often they come.
        for event in events:
            kind: type[object] = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent:
                self._open({}, {} if self._marked else None, event)
            elif kind is SequenceStartEvent:
                self._open([], [] if self._marked else None, event)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._start(event)
            elif kind is DocumentEndEvent:
                break
        value = self._values[0] if self._values else None
        return value, (self._places[0] if self._places else None)

    def _start(self, event: _Event) -> None:
        if self._limits.strict and event.version not in (None, (1, 1)):
            raise _fault(event, "a %YAML line that does not say 1.1; leave it out")

    def _scalar(self, event: _Event) -> None:
        if event.tag:
            raise _no_tags(event)
        text = event.value
        value: Value = text
        if plain := event.implicit[0]:
            try:
                value = _resolve(text)
            except ValueError as error:
                raise _fault(event, str(error)) from error
        if event.anchor:
            anchored = self._anchor(event.anchor)
            anchored.cost(1, len(text))
            anchored.finish(value, 0, None)
        if self._top.key is not None:
            self._spend(1, len(text), event)
            self._put(value, None, event)
            return
        self._spend(0, len(text), event)
        if plain and value == "<<":
            self._merge_key(event)
        else:
            self._key(value, event)

    def _alias(self, event: _Event) -> None:
        name = event.anchor or ""
        anchored = self._anchors.get(name)
        if anchored is None:
            raise _fault(event, f"alias {_shown(name)} has no anchor")
        if not anchored.done:
            raise _fault(event, f"alias {_shown(name)} is inside its own anchor")
        top = self._top
        if top.key is None:
            self._spend(0, anchored.expanded, event)
            self._key(anchored.value, event)
            return
        self._spend(anchored.size, anchored.expanded, event)
        if len(self._below) + anchored.height > self._limits.depth:
            raise self._too_deep(event)
        top.height = max(top.height, anchored.height + 1)
        self._put(anchored.value, anchored.inside, event)

    def _open(self, value: list[Value] | dict[str, Value], inside: _Inside, event: _Event) -> None:
        if event.tag:
            raise _no_tags(event)
        if self._top.key is None:
            raise _not_a_key(value, event)
        if len(self._below) >= self._limits.depth:
            raise self._too_deep(event)
        frame = _Frame(value, event, inside, (self._nodes, self._expanded))
        self._spend(1, 0, event)
        if event.anchor:
            frame.anchored = self._anchor(event.anchor)
        self._below.append(self._top)
        self._top = frame

    def _close(self) -> None:
        done = self._top
        if done.merged and isinstance(done.value, dict):
            _merge(done.value, done.inside, done.merged)
        top = self._top = self._below.pop()
        if top.height <= done.height:
            top.height = done.height + 1
        if done.anchored is not None:
            nodes, expanded = done.before
            done.anchored.cost(self._nodes - nodes, self._expanded - expanded)
            done.anchored.finish(done.value, done.height, done.inside)
        if done.event is not None:  # as it is for all but the bottom frame, which stays open
            self._put(done.value, done.inside, done.event)

    def _put(self, value: Value, inside: _Inside, event: _Event) -> None:
        frame = self._top
        container, key = frame.value, frame.key
        if isinstance(container, list):
            container.append(value)
        elif isinstance(key, str):
            container[key] = value
            frame.key = None
        else:
            sources = _sources(value, inside, event)
            if self._limits.strict:
                _check_order(container, sources, event)
            if frame.merged is None:
                frame.merged = []
            frame.merged += sources
            frame.key = None
            return
        if self._marked:
            place = (event.start_mark.line + 1, event.start_mark.column + 1, inside)
            if isinstance(frame.inside, list):
                frame.inside.append(place)
            elif isinstance(frame.inside, dict) and isinstance(key, str):
                frame.inside[key] = place

    def _key(self, value: Value, event: _Event) -> None:
        if value is None or isinstance(value, list | dict):
            raise _not_a_key(value, event)
        if self._limits.strict and not isinstance(value, str):
            raise _not_text(value, event)
        key = as_text(value)
        if key in self._top.value:
            raise _fault(event, f"duplicate key {_shown(key)}")
        self._top.key = key

    def _merge_key(self, event: _Event) -> None:
        if self._limits.strict and self._top.merged is not None:
            raise _fault(event, "'<<' is given twice; give one a list of the maps")
        self._top.key = _MERGE

    def _spend(self, nodes: int, expanded: int, event: _Event) -> None:
        """Count values and characters before anything is made of them."""
        self._nodes += nodes
        self._expanded += expanded
        if self._nodes > self._limits.nodes:
            raise _fault(event, f"more than {self._limits.nodes} values, aliases followed")
        if self._expanded > self._limits.expanded:
            raise _fault(event, f"more than {self._limits.expanded} characters, aliases followed")

    def _anchor(self, name: str) -> _Anchored:
        # Known from its start on, like in Go: an alias inside it is then seen as such, and an
        # inner anchor of the same name replaces the outer one for good.
        anchored = self._anchors[name] = _Anchored()
        return anchored

    def _too_deep(self, event: _Event) -> YamlError:
        return _fault(event, f"lists and maps more than {self._limits.depth} deep")


def _sources(
    value: Value, inside: _Inside, event: _Event
) -> list[tuple[dict[str, Value], _Inside]]:
    """Return the maps that a merge key names, each with the places of its values."""
    values = value if isinstance(value, list) else [value]
    places = [place[2] for place in inside] if isinstance(inside, list) else [inside]
    if not places or len(places) != len(values):  # places are not wanted
        places = [None] * len(values)
    sources: list[tuple[dict[str, Value], _Inside]] = []
    for source, its_places in zip(values, places, strict=True):
        if not isinstance(source, dict):
            raise _fault(event, "'<<' takes a map or a list of maps")
        sources.append((source, its_places))
    return sources


def _check_order(
    own: dict[str, Value], sources: list[tuple[dict[str, Value], _Inside]], event: _Event
) -> None:
    """Refuse a merge below a key that it has, too: which of the two counts is not for us to say."""
    for source, _ in sources:
        for key in source:
            if key in own:
                raise _fault(event, f"'<<' has {_shown(key)}, which stands above; put '<<' first")


def _merge(
    own: dict[str, Value], inside: _Inside, merged: list[tuple[dict[str, Value], _Inside]]
) -> None:
    """Add what the merge keys name: the map's own keys go first, then the earlier map."""
    for source, places in merged:
        for key, value in source.items():
            if key not in own:
                own[key] = value
                if isinstance(inside, dict) and isinstance(places, dict):
                    inside[key] = places[key]


# --- from text to events ------------------------------------------------------------------------

# libyaml compares each %TAG line with all before it: 256 KiB of them take it 0.4 s, and the time
# grows with the square. Tags are refused anyway; a file may still have a few such lines.
_MOST_TAG_DIRECTIVES: Final = 16


def _load(
    text: str | bytes, limits: Limits, marked: bool
) -> tuple[Value, _Place | None, Position | None]:
    data = _encoded(text, limits)
    events = _events(data)
    value, place = _Builder(limits, marked).read(events)
    return value, place, _second_document(events, limits)


def _encoded(text: str | bytes, limits: Limits) -> bytes:
    # Characters are bytes or more, so a text that is far too long is not encoded first.
    if len(text) <= limits.size:
        data = _utf8(text) if isinstance(text, str) else text
        if len(data) <= limits.size:
            if data.count(b"%TAG") > _MOST_TAG_DIRECTIVES:
                raise YamlError(f"more than {_MOST_TAG_DIRECTIVES} %TAG directives")
            return data
    raise YamlError(f"more than {limits.size} bytes of YAML")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        before, character = text[: error.start], text[error.start]
        line, column = before.count("\n") + 1, error.start - before.rfind("\n")
        raise YamlError(f"{_shown(character)} is half a character", line, column) from error


def _events(data: bytes) -> Iterator[_Event]:
    """Yield PyYAML's events; whatever goes wrong in it becomes a YamlError.

    libyaml has MemoryError for nesting it cannot follow; PyYAML's own parser lets ValueError and
    the like through for a few escapes.
    """
    try:
        yield from iter(_Parser(data).get_event, None)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:
        raise _character_error(error, data) from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise YamlError(f"not YAML: {_bounded(str(error))}") from error


def _second_document(events: Iterator[_Event], limits: Limits) -> Position | None:
    """Return where a second document begins; one that has nothing in it is not counted."""
    start: Position | None = None
    try:
        for event in events:
            kind: type[object] = type(event)
            if kind is DocumentStartEvent and start is None:
                start = event.start_mark.line + 1, event.start_mark.column + 1
            elif kind is ScalarEvent and _is_absent(event):
                continue
            elif kind is not DocumentEndEvent and kind is not StreamEndEvent:
                break
        else:
            return None
    except YamlError as error:
        if not limits.several:
            raise
        start = start or (error.line or 1, error.column or 1)
    if start is not None and not limits.several:
        raise YamlError("a second document begins here; only one is allowed", *start)
    return start


def _is_absent(event: _Event) -> bool:
    return not event.value and event.implicit[0] and event.anchor is None


# --- errors -------------------------------------------------------------------------------------


def _fault(event: _Event, problem: str) -> YamlError:
    return YamlError(problem, event.start_mark.line + 1, event.start_mark.column + 1)


def _no_tags(event: _Event) -> YamlError:
    return _fault(event, f"tags are not allowed: {_shown(event.tag or '')}")


def _not_a_key(value: Value, event: _Event) -> YamlError:
    kind = "null" if value is None else "a list" if isinstance(value, list) else "a map"
    return _fault(event, f"{kind} cannot be a key")


def _not_text(value: bool | float, event: _Event) -> YamlError:
    kind = "a boolean" if isinstance(value, bool) else "a number"
    return _fault(event, f"key {as_text(value)} is {kind}, not text; put it in quotes")


def _syntax_error(error: yaml.MarkedYAMLError) -> YamlError:
    problem = _bounded(" ".join(part for part in (error.problem, error.context) if part))
    if "maximum nesting depth" in problem:
        # libyaml of PyYAML 6.0.4, which looks a thousand deep before it tells of the first.
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


def _shown(text: str) -> str:
    """Quote a piece of the text for a sentence: escaped, and not long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _bounded(problem: str) -> str:
    return repr(problem[:200])[1:-1]

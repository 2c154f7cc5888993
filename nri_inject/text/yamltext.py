"""Read one YAML text with the meaning that Go's sigs.k8s.io/yaml gives it.

The texts are pod annotations, written by anyone who may create a pod, and files. Go reads both
with yaml v2 and then treats them as JSON, so the values here are those of JSON. PyYAML's event
parser does the syntax; its constructors are not used, because they accept duplicate keys and
resolve scalars differently. What a value must be (a device, a list of mounts) is not decided here.

Where this reader is stricter than Go, on purpose:

    explicit tags               an error; Go obeys them
    a key given twice           an error; Go takes the last one unless it reads strictly
    a number beyond 64 bits     an error; Go makes a rounded float or a text of it
    a key with a fraction       an error; Go makes text of it, with 32 bits of precision

and in the dialect ANNOTATION only:

    a second document           an error; Go does not look at it
    a merge key                 may stand once in a map, above the keys that it has too; in Go
                                the later one wins, whichever that is. In a file the map's own
                                keys win, then the earlier map.
    a key that is not text      an error; Go makes text of it, of `on` for example "true"
    a %YAML line                must say 1.1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

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

from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.words import quoted
from nri_inject.text.yamlevents import YamlError as YamlError
from nri_inject.text.yamlevents import YamlEvent, fault, node
from nri_inject.text.yamlevents import events as events_of
from nri_inject.text.yamlscalars import Path as Path
from nri_inject.text.yamlscalars import Value as Value
from nri_inject.text.yamlscalars import as_text, resolve

Position: TypeAlias = tuple[int, int]


class Dialect(Enum):
    """What a text may have; the differences are in the module's docstring."""

    ANNOTATION = auto()
    """A text that only nri-inject reads: an annotation, a policy, a configuration."""
    FILE = auto()
    """A file that other programs read as well, as Go reads it: a CDI spec, a manifest."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Bound what a text may cost, and choose its dialect.

    `size` counts bytes of UTF-8 (of the file, if it is UTF-16), `depth` lists and maps inside
    each other, `nodes` values, `expanded` the characters of all scalars, keys too; an alias
    counts as all that it stands for.
    """

    size: int
    depth: int
    nodes: int
    expanded: int = 64 * 1024 * 1024
    dialect: Dialect = Dialect.ANNOTATION


# 256 KiB is what Kubernetes allows for all annotations of an object together. A thousand mounts
# with ten options each have 15 000 values; more than 20 000 would only cost time. Aliases of one
# long text would make gigabytes of it in the answer; four times the text is enough for all.
ANNOTATION: Final = TextLimits(size=256 * 1024, depth=32, nodes=20_000, expanded=1024 * 1024)
SPEC_FILE: Final = TextLimits(
    size=16 * 1024 * 1024, depth=32, nodes=2_000_000, dialect=Dialect.FILE
)
OUR_FILE: Final = TextLimits(size=16 * 1024 * 1024, depth=32, nodes=2_000_000)
"""A file that only nri-inject reads, in the dialect ANNOTATION."""


def load(text: str | bytes, limits: TextLimits = ANNOTATION, spend: Spend = unlimited) -> Value:
    """Return the value of `text`; None if there is nothing in it.

    What an alias stands for is shared, not copied: treat the value as read-only. Raises
    YamlError and what `spend` raises, and nothing else, whatever the text. `spend` is called with
    the steps of each part of the text before it is read; they are enough for reading the value
    once more, as whoever checks it does.
    """
    return _load(text, limits, spend)[0]


def load_all(text: str | bytes, limits: TextLimits) -> list[Value]:
    """Return the values of all documents in `text`; YamlError as `load` raises it."""
    events = events_of(text, limits.size)
    # The loop takes the start of a document, the builder everything up to its end.
    starts = (event for event in events if isinstance(event, DocumentStartEvent))
    return [_Builder(limits).read(events) for _ in starts]


def load_marked(text: str | bytes, limits: TextLimits = ANNOTATION) -> tuple[Value, Marks]:
    """Return the value of `text` as `load` does, and where in the text each part of it stands.

    Takes twice as long: the places are found in a second pass.
    """
    value, second = _load(text, limits)
    return value, Marks(node(text), second)


# --- where values stand -------------------------------------------------------------------------


class Marks(Mapping[Path, Position]):
    """Map the path of a value, such as ("devices", 0, "path"), to its (line, column) from 1.

    The path () is the whole value. What an alias or a merge key stands for has the place of its
    anchor. `second` is where a second document begins that was left unread, or None. `root` is
    PyYAML's node of a text that `load` has read.
    """

    def __init__(self, root: Any, second: Position | None = None) -> None:
        self._root = root
        self.second = second

    def __getitem__(self, path: Path) -> Position:
        node = self._root
        for step in path:
            node = _inside(node).get(step)
        if node is None:
            raise KeyError(path)
        return node.start_mark.line + 1, node.start_mark.column + 1

    def __iter__(self) -> Iterator[Path]:
        pending: list[tuple[Path, Any]] = [((), self._root)] if self._root else []
        while pending:
            path, node = pending.pop()
            yield path
            pending += [((*path, step), inside) for step, inside in _inside(node).items()]

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _inside(node: Any) -> dict[str | int, Any]:
    """Return the nodes of what is in a list or map, by index or key."""
    if isinstance(node, yaml.SequenceNode):
        return dict(enumerate(node.value))
    if not isinstance(node, yaml.MappingNode):
        return {}
    own: dict[str | int, Any] = {}
    merged: dict[str | int, Any] = {}
    for key, value in node.value:
        name: Any = key.value if key.style else resolve(key.value)
        if name == "<<" and not key.style:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in sources:
                merged = {**_inside(source), **merged}
        else:
            own[as_text(name)] = value
    return {**merged, **own}


# --- from events to values ----------------------------------------------------------------------


class _Anchored:
    """What an anchor names; not `done` while the parser is still inside it.

    Each alias of it counts as `nodes` values and `expanded` characters; `height` is how many
    levels of lists and maps are in it.
    """

    __slots__ = ("done", "expanded", "height", "nodes", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Value = None
        self.nodes = self.expanded = self.height = 0

    def finish(self, value: Value, nodes: int, expanded: int, height: int) -> None:
        self.value, self.nodes, self.expanded, self.height = value, nodes, expanded, height
        self.done = True


class _Frame:
    """A list or map that is being read.

    `start` is its event, `height` how many levels of lists and maps are inside, itself included.
    `before` is how many values and characters there were before it.
    """

    start: YamlEvent
    anchored: _Anchored | None = None
    before = (0, 0)
    height = 1
    wants_key = False


class _ListFrame(_Frame):
    """A list; `add` takes its next item."""

    def __init__(self) -> None:
        self.value: list[Value] = []

    def add(self, value: Value, _: YamlEvent) -> None:
        self.value.append(value)

    def close(self) -> Value:
        return self.value


class _MapFrame(_Frame):
    """A map; `add` takes the value of `key`, and then `wants_key` says that the next key is due.

    `merging` says that the value is that of a merge key. `merged` are the maps that merge keys
    have named, None before there was one.
    """

    def __init__(self, strict: bool) -> None:
        self.value: dict[str, Value] = {}
        self.strict = strict
        self.wants_key = True
        self.key = ""
        self.merging = False
        self.merged: list[dict[str, Value]] | None = None

    def add_key(self, value: Value, event: YamlEvent) -> None:
        """Take the next key."""
        if isinstance(value, str):
            key = value
        elif value is None or isinstance(value, list | dict):
            raise _not_a_key(value, event)
        elif self.strict or isinstance(value, float):
            raise _not_text(value, event)
        else:
            key = as_text(value)
        if key in self.value:
            raise fault(event, f"duplicate key {quoted(key)}")
        self.key = key
        self.wants_key = False

    def add_merge_key(self, event: YamlEvent) -> None:
        """Take `<<` for the next key."""
        if self.strict and self.merged is not None:
            raise fault(event, "'<<' appears twice; use one with a list of the maps")
        self.merging = True
        self.wants_key = False

    def add(self, value: Value, event: YamlEvent) -> None:
        if self.merging:
            self._merge(value, event)
            self.merging = False
        else:
            self.value[self.key] = value
        self.wants_key = True

    def _merge(self, value: Value, event: YamlEvent) -> None:
        if self.merged is None:
            self.merged = []
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise fault(event, "'<<' takes a map or a list of maps")
            # Which of the two counts is not for us to say.
            both = next((key for key in source if key in self.value), None) if self.strict else None
            if both is not None:
                raise fault(event, f"'<<' has {quoted(both)}, which are set above; put '<<' first")
            self.merged.append(source)

    def close(self) -> Value:
        """Return the map with what its merge keys name: its own keys go first, then the earlier."""
        for source in self.merged or ():
            for key, value in source.items():
                self.value.setdefault(key, value)
        return self.value


class _Builder:
    """Collect the events of one document into a value, without recursion.

    The bottom frame is a list that takes the document's value.
    """

    def __init__(self, limits: TextLimits, spend: Spend = unlimited) -> None:
        self._limits = limits
        self._strict = limits.dialect is Dialect.ANNOTATION
        self._count = spend
        self._nodes = 0
        self._expanded = 0
        self._anchors: dict[str, _Anchored] = {}
        self._bottom = _ListFrame()
        self._top: _ListFrame | _MapFrame = self._bottom
        self._below: list[_ListFrame | _MapFrame] = []

    def read(self, events: Iterator[YamlEvent]) -> Value:
        """Take the events up to the end of a document; return its value."""
        # In the order of how often they come.
        for event in events:
            kind: type[object] = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent:
                self._open(_MapFrame(self._strict), event)
            elif kind is SequenceStartEvent:
                self._open(_ListFrame(), event)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._start(event)
            elif kind is DocumentEndEvent:
                break
        return self._bottom.value[0] if self._bottom.value else None

    def _start(self, event: YamlEvent) -> None:
        if self._strict and event.version not in (None, (1, 1)):
            raise fault(event, "the %YAML line must say 1.1; remove it")

    def _scalar(self, event: YamlEvent) -> None:
        if event.tag:
            raise _no_tags(event)
        text = event.value
        value: Value = text
        if plain := event.implicit[0]:
            try:
                value = resolve(text)
            except ValueError as error:
                raise fault(event, str(error)) from error
        if event.anchor:
            self._anchor(event.anchor).finish(value, 1, len(text), 0)
        top = self._top
        if not (isinstance(top, _MapFrame) and top.wants_key):
            self._spend(1, len(text), event)
            top.add(value, event)
            return
        self._spend(0, len(text), event)
        if plain and value == "<<":
            top.add_merge_key(event)
        else:
            top.add_key(value, event)

    def _alias(self, event: YamlEvent) -> None:
        name = event.anchor or ""
        anchored = self._anchors.get(name)
        if anchored is None:
            raise fault(event, f"alias {quoted(name)} has no anchor")
        if not anchored.done:
            raise fault(event, f"alias {quoted(name)} is inside its own anchor")
        top = self._top
        if isinstance(top, _MapFrame) and top.wants_key:
            self._spend(0, anchored.expanded, event)
            top.add_key(anchored.value, event)
            return
        self._spend(anchored.nodes, anchored.expanded, event)
        if len(self._below) + anchored.height > self._limits.depth:
            raise self._too_deep(event)
        top.height = max(top.height, anchored.height + 1)
        top.add(anchored.value, event)

    def _open(self, frame: _ListFrame | _MapFrame, event: YamlEvent) -> None:
        if event.tag:
            raise _no_tags(event)
        if self._top.wants_key:
            raise _not_a_key(frame.value, event)
        if len(self._below) >= self._limits.depth:
            raise self._too_deep(event)
        frame.start = event
        frame.before = self._nodes, self._expanded
        self._spend(1, 0, event)
        if event.anchor:
            frame.anchored = self._anchor(event.anchor)
        self._below.append(self._top)
        self._top = frame

    def _close(self) -> None:
        done = self._top
        value = done.close()
        if done.anchored is not None:
            nodes, expanded = self._nodes - done.before[0], self._expanded - done.before[1]
            done.anchored.finish(value, nodes, expanded, done.height)
        top = self._top = self._below.pop()
        top.height = max(top.height, done.height + 1)
        top.add(value, done.start)

    def _spend(self, nodes: int, expanded: int, event: YamlEvent) -> None:
        """Count values and characters before anything is made of them."""
        self._nodes += nodes
        self._expanded += expanded
        if self._nodes > self._limits.nodes:
            raise fault(event, f"more than {self._limits.nodes} values, aliases followed")
        if self._expanded > self._limits.expanded:
            raise fault(event, f"more than {self._limits.expanded} characters, aliases followed")
        self._count(1 + nodes * _STEPS_PER_VALUE + expanded // _CHARACTERS_PER_STEP)

    def _anchor(self, name: str) -> _Anchored:
        # Known from its start on, like in Go: an alias inside it is then seen as such, and an
        # inner anchor of the same name replaces the outer one for good.
        anchored = self._anchors[name] = _Anchored()
        return anchored

    def _too_deep(self, event: YamlEvent) -> YamlError:
        return fault(event, f"lists and maps more than {self._limits.depth} deep")


# --- from text to events ------------------------------------------------------------------------


def _load(
    text: str | bytes, limits: TextLimits, spend: Spend = unlimited
) -> tuple[Value, Position | None]:
    """Return the value of a text, and where a second document begins."""
    spend(min(len(text), limits.size) // _CHARACTERS_PER_STEP)
    events = events_of(text, limits.size)
    value = _Builder(limits, spend).read(events)
    return value, _second_document(events, limits)


# A step stands for a microsecond. A value takes three to be parsed and checked. So do thirty of
# its characters, each of which some checks look at; libyaml looks at every character of the text.
_STEPS_PER_VALUE: Final = 3
_CHARACTERS_PER_STEP: Final = 32


def _second_document(events: Iterator[YamlEvent], limits: TextLimits) -> Position | None:
    """Return where a second document begins; one that has nothing in it is not counted."""
    strict = limits.dialect is Dialect.ANNOTATION
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
        if strict:
            raise
        start = start or (error.line or 1, error.column or 1)
    if start is not None and strict:
        raise YamlError("a second document begins here; only one is allowed", *start)
    return start


def _is_absent(event: YamlEvent) -> bool:
    return not event.value and event.implicit[0] and event.anchor is None


# --- errors -------------------------------------------------------------------------------------


def _no_tags(event: YamlEvent) -> YamlError:
    return fault(event, f"tags are not allowed: {quoted(event.tag or '')}")


def _not_a_key(value: Value, event: YamlEvent) -> YamlError:
    kind = "null" if value is None else "a list" if isinstance(value, list) else "a map"
    return fault(event, f"{kind} cannot be a key")


def _not_text(value: bool | float, event: YamlEvent) -> YamlError:
    kind = "a boolean" if isinstance(value, bool) else "a number"
    shown = str(value).lower()
    return fault(event, f"key {shown} is {kind}, not text; put it in quotes")

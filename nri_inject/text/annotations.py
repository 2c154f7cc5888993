"""How an annotation is found, and how a value becomes typed fields with every fault named.

Which annotations there are, and what their fields mean, is told by tables elsewhere. Keys and
their order are those of NRI's sample plugins (device-injector of NRI 0.12).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice, takewhile
from typing import Any, Final, TypeAlias, TypeVar

from nri_inject.api import Container, Pod
from nri_inject.text.fields import Fault as Fault
from nri_inject.text.fields import number_text
from nri_inject.text.words import MAX_EXCERPT, excerpt
from nri_inject.text.words import plain as plain
from nri_inject.text.words import quoted as quoted
from nri_inject.text.yamlscalars import as_integer
from nri_inject.text.yamltext import Value

T = TypeVar("T")

# A reader takes a value of YAML and returns what it means, or raises Fault.
Reader: TypeAlias = Callable[[Value], T]
# The fields of one map that were given, by name, each as its reader returned it.
Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a map, as it is written in the documentation."""

    name: str
    read: Reader[Any]
    required: bool = False


# --- finding ------------------------------------------------------------------------------------

_NAME_LABEL: Final = "io.kubernetes.container.name"


def candidates(prefix: str, old_prefix: str, container: str) -> tuple[str, ...]:
    """Return the keys that may hold a container's annotation, the one that counts first.

    `old_prefix` is the deprecated one; it may be empty.
    """
    prefixes = (prefix, old_prefix) if old_prefix else (prefix,)
    scopes = (f"/container.{container}", "/pod", "")
    return tuple(f"{name}{scope}" for scope in scopes for name in prefixes)


def find(
    annotations: Mapping[str, str], prefix: str, old_prefix: str, container: str
) -> tuple[str, str] | None:
    """Return key and text of the annotation that counts.

    It is the first that exists, even if there is nothing in it; others are not looked at.
    """
    for key in candidates(prefix, old_prefix, container):
        if key in annotations:
            return key, annotations[key]
    return None


def container_name(container: Container) -> str:
    """Return the name that annotations call the container by."""
    return container.name or container.labels.get(_NAME_LABEL, "")


def where(pod: Pod, container: Container) -> str:
    """Name the container for the beginning of an error."""
    name = container_name(container)
    return f"pod {plain(pod.namespace)}/{plain(pod.name)}, container {plain(name)}"


# --- words for sentences ------------------------------------------------------------------------


def described(value: Value) -> str:
    """Say what came instead of what was due."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a map"
    return quoted(value) if isinstance(value, str) else excerpt(str(value))


def suggestion(name: str, known: Collection[str]) -> str:
    """Return what to write instead of a name that nobody knows."""
    near = _meant(name, known)
    return f"did you mean {near}?" if near else f"known: {', '.join(known)}"


def _meant(name: str, known: Collection[str]) -> str | None:
    # What is not shown in full is not compared either: that takes time for a long name.
    return nearest(name, tuple(known)) if len(name) <= MAX_EXCERPT else None


@lru_cache(maxsize=256)
def nearest(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known name that looks like `name`, whatever the letter case.

    Words that all known names begin with, such as SCHED_, say nothing and may be missing.
    """
    prefix = _shared_words(known).casefold()
    stems = {candidate.casefold().removeprefix(prefix): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold().removeprefix(prefix), stems, n=1)
    return stems[near[0]] if near else None


def _shared_words(names: tuple[str, ...]) -> str:
    # What the first and the last in order begin with, all between them begin with, too.
    pairs = zip(min(names), max(names), strict=False)
    shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared[: shared.rfind("_") + 1]


# --- reading scalars ----------------------------------------------------------------------------

# YAML lets a half of a UTF-16 pair be written as an escape; no protobuf text can hold it.
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
# What a terminal or a log obeys rather than shows: control characters, the separators of lines
# and paragraphs, what turns the direction of writing, and what has no width. Not the joiners
# U+200C and U+200D, which some scripts need. repr(), and so `quoted`, escapes all of these.
_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]"
)
_LONGEST_LINE: Final = 4096  # bytes; PATH_MAX of Linux


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
    raise Fault(f"{described(value)} instead of text")


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
        raise Fault(f"{quoted(text)} has a control character")


def check_length(text: str) -> None:
    """Raise Fault if the kernel could not take the text in one piece."""
    if len(text) > _LONGEST_LINE or len(text.encode()) > _LONGEST_LINE:
        raise Fault(f"{quoted(text)} is longer than {_LONGEST_LINE} bytes")


def integer(least: int, greatest: int) -> Reader[int]:
    """Return a reader of whole numbers; those from YAML such as 0o644 and 420.0 are some too."""

    def read(value: Value) -> int:
        number = as_integer(value)
        if number is None or _is_negative_zero(value):
            raise Fault(_no_integer(value))
        if not least <= number <= greatest:
            raise Fault(f"{number} is not between {least} and {greatest}")
        return number

    return read


def _is_negative_zero(value: Value) -> bool:
    return isinstance(value, float) and value == 0 and math.copysign(1, value) < 0


def _no_integer(value: Value) -> str:
    hint = "; leave out the quotes" if isinstance(value, str) and _is_number(value) else ""
    return f"{described(value)} is not an integer{hint}"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,20}|0[xob][0-9a-fA-F]{1,20}", text) is not None


def choice(names: Mapping[str, T]) -> Reader[T]:
    """Return a reader of one of these names, spelled exactly so."""

    def read(value: Value) -> T:
        name = read_text(value)
        if name not in names:
            raise Fault(f"{quoted(name)} is unknown; {suggestion(name, names)}")
        return names[name]

    return read


# --- reading lists and maps ---------------------------------------------------------------------

# A text of 256 KiB can be wrong in many thousand places, and an error shows the first ten.
MAX_FAULTS: Final = 20
# No container has so many devices or mounts. Each takes longer to read than its text does.
MAX_ITEMS: Final = 1000


def list_of(read: Reader[T]) -> Reader[list[T]]:
    """Return a reader of lists of up to 1000 items; null is the empty one."""

    def read_list(value: Value) -> list[T]:
        results, faults = read_items(read, value)
        if faults:
            raise Fault(*(sentence for sentences in faults.values() for sentence in sentences))
        return [*results.values()]

    return read_list


def read_items(read: Reader[T], value: Value) -> tuple[dict[int, T], dict[int, list[str]]]:
    """Return what is right and what is wrong in a list, by the item's number from 1."""
    if value is None:
        return {}, {}
    if not isinstance(value, list):
        raise Fault(f"{described(value)} instead of a list")
    check_count(len(value), "items")
    results: dict[int, T] = {}
    faults: dict[int, list[str]] = {}
    count = 0
    for number, item in enumerate(value, 1):
        try:
            results[number] = read(item)
        except Fault as fault:
            faults[number] = fault.at(f"item {number}")
            count += len(faults[number])
            if count >= MAX_FAULTS:
                break
    return results, faults


def check_count(count: int, what: str) -> None:
    """Raise Fault if a list or map has too much in it."""
    if count > MAX_ITEMS:
        raise Fault(f"{count} {what}, at most {MAX_ITEMS} allowed")


def map_of(fields: Sequence[Field]) -> Reader[Values]:
    """Return a reader of maps with these keys, in any case of ASCII letters.

    Go also takes U+017F for an s and the like; nobody writes that on purpose. The result has the
    fields that were given; null counts as not given.
    """
    return partial(_read_map, {field.name.lower(): field for field in fields})


def _read_map(fields: Mapping[str, Field], value: Value) -> Values:
    if not isinstance(value, dict):
        raise Fault(f"{described(value)} instead of a map with {', '.join(_names(fields))}")
    spellings: dict[str, str] = {}
    values: Values = {}
    faults: list[str] = []
    for key, item in value.items():
        try:
            field = _field(fields, key, spellings)
            if item is not None:
                values[field.name] = _read_field(field, item)
        except Fault as fault:
            faults += fault.sentences
            if len(faults) >= MAX_FAULTS:
                break
    given = {name for name, key in spellings.items() if value[key] is not None}
    if missing := _missing(fields, given, value):
        faults += (f"{name} is missing" for name in missing)
    if faults:
        raise Fault(*faults)
    return values


def _missing(fields: Mapping[str, Field], given: set[str], keys: Collection[str]) -> list[str]:
    """Return what must be given and is not, but for what an unknown key was meant to be."""
    missing = [f.name for f in fields.values() if f.required and f.name not in given]
    if not missing:
        return []
    unknown = islice((key for key in keys if _known(fields, key) is None), MAX_FAULTS)
    meant = {_meant(key, _names(fields)) for key in unknown}
    return [name for name in missing if name not in meant]


def _known(fields: Mapping[str, Field], key: str) -> Field | None:
    return fields.get(key.lower()) if key.isascii() else None


def _field(fields: Mapping[str, Field], key: str, spellings: dict[str, str]) -> Field:
    """Return the field that a key names, and note how it was spelled."""
    field = _known(fields, key)
    if field is None:
        raise Fault(f"unknown key {quoted(key)}; {suggestion(key, _names(fields))}")
    before = spellings.setdefault(field.name, key)
    if before != key:
        raise Fault(f"{field.name} is given twice, as {quoted(before)} and {quoted(key)}")
    return field


def _read_field(field: Field, item: Value) -> Any:
    try:
        return field.read(item)
    except Fault as fault:
        raise Fault(*fault.at(field.name)) from fault


def _names(fields: Mapping[str, Field]) -> tuple[str, ...]:
    return tuple(field.name for field in fields.values())

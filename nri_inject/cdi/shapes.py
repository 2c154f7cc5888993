"""Find the devices of a spec's text that are written alike, so that one of each shape is read.

Programs write thousands of devices that differ in a name, a path, a number. One of them becomes a
pattern: where it has those, anything may stand that is sound wherever it does, and the rest is as
it is. So what the pattern matches is sound if that one is. Whether it is so is not decided here:
whoever calls `condense` reads the text that is left, with all the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from nri_inject.cdi import quickjson, quickyaml
from nri_inject.yamltext import Value


class Form(NamedTuple):
    """What must be known of a format to find devices in its text.

    `load` reads a text, or raises NotPlain. `start` matches what comes before the first device,
    `between` what separates two, `joint` separates them as well; `end` finds where one ends.
    `scalars` matches all keys and texts, with the groups `key` and `value`, or `item` in a list.
    """

    load: Callable[[str], Value]
    start: re.Pattern[str]
    end: Callable[[str, int], int | None]
    between: re.Pattern[str]
    joint: str
    scalars: re.Pattern[str]


_ITEM: Final = re.compile(r"( *)- .*\n(?:\1  .*\n|\n)*")


def _item_end(text: str, start: int) -> int | None:
    match = _ITEM.match(text, start)
    return match.end() if match else None


JSON: Final = Form(
    load=quickjson.load,
    start=re.compile(r'"devices"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*'),
    end=quickjson.end,
    between=re.compile(r"[ \t\r\n]*,[ \t\r\n]*"),
    joint=",",
    scalars=re.compile(
        r'"(?P<key>[^"]*)"[ \t\r\n]*:[ \t\r\n]*(?P<value>"[^"]*"|[0-9]+(?=[ \t\r\n,}]))?'
        r'|(?P<item>"[^"]*")'
    ),
)
"""JSON as the json module reads it."""

YAML: Final = Form(
    load=quickyaml.load,
    start=re.compile(r"^devices:\n", re.MULTILINE),
    end=_item_end,
    between=re.compile(""),
    joint="",
    scalars=re.compile(
        r"^ *(?:- )?(?P<key>[A-Za-z][A-Za-z0-9_./-]*):(?: (?P<value>.+))?$|^ *- (?P<item>.+)$",
        re.MULTILINE,
    ),
)
"""YAML as `quickyaml` reads it, whose last line has an end."""


class Condensed(NamedTuple):
    """What is left to read of a text, and the devices that are in the whole.

    `text` has the devices of the indices `kept` only. `texts` is how each device is written,
    `names` its name, or nothing if it has no pattern.
    """

    text: str
    kept: list[int]
    names: list[str]
    texts: list[str]


def condense(text: str, form: Form) -> Condensed | None:
    """Return a shorter text of which the same is to be said, or None if there is none.

    The same is to be said if `form.load` reads the shorter text, nothing is wrong in it, nothing
    is to be warned of, and it has the devices `kept` and no others. That no name is there twice,
    and no device has too many annotations, is the caller's to see.
    """
    # With an escape a quotation mark might not end a text.
    start = form.start.search(text) if len(text) > _LEAST and "\\" not in text else None
    if start is None:
        return None
    found = Condensed("", [], [], [])
    end = _find(text, start.end(), form, found)
    if end is None or len(found.kept) == len(found.texts):
        return None
    devices = form.joint.join([found.texts[index] for index in found.kept])
    return found._replace(text=f"{text[: start.end()]}{devices}{text[end:]}")


def value(text: str) -> Value:
    """Return the value of a device's text that `condense` has found; NotPlain for any other."""
    if text.startswith("{"):
        return quickjson.load(text)
    match quickyaml.load(f"devices:\n{text}"):
        case {"devices": [device]}:
            return device
    raise quickyaml.NotPlain


# --- devices ------------------------------------------------------------------------------------

# To make a pattern takes as long as to read some thirty devices. It must pay in the file that it
# is made for; for others the module re remembers it.
_PAYS: Final = 32
_MOST_PATTERNS: Final = 16
_LEAST: Final = 8 * 1024
# Where more than half of so many devices have no pattern, looking for more would only cost time.
_ENOUGH: Final = 8


def _find(text: str, position: int, form: Form, found: Condensed) -> int | None:
    """Note the devices from `position` on, and return where the last ends; None if unlike."""
    patterns: list[re.Pattern[str]] = []
    outlines: set[str] = set()
    end = position
    while len(found.kept) <= max(_ENOUGH, len(found.texts) // 2):
        match = _matched(patterns, text, position)
        if match is None:
            stop = form.end(text, position)
            if stop is None:
                return end
            found.kept.append(len(found.texts))
            if _pays(stop - position, len(text) - stop, len(patterns)):
                patterns[:0] = _repeated(text[position:stop], form, outlines)
                match = _matched(patterns, text, position)
            end = stop
        if match is not None:
            end = match.end()
        found.names.append(match[1] if match else "")
        found.texts.append(text[position:end])
        between = form.between.match(text, end)
        if between is None:
            return end
        position = between.end()
    return None


def _matched(patterns: list[re.Pattern[str]], text: str, position: int) -> re.Match[str] | None:
    for index, pattern in enumerate(patterns):
        match = pattern.match(text, position)
        if match is not None:
            if index:  # the next device is most likely like this one
                patterns.insert(0, patterns.pop(index))
            return match
    return None


def _pays(size: int, left: int, patterns: int) -> bool:
    return patterns < _MOST_PATTERNS and left > _PAYS * (patterns + 1) * size


def _repeated(device: str, form: Form, outlines: set[str]) -> list[re.Pattern[str]]:
    """Return a pattern for a device if one of the same outline has been there; else note it."""
    outline = form.scalars.sub("", device)
    if outline in outlines:
        return _patterns(device, form)
    outlines.add(outline)
    return []


# --- patterns -----------------------------------------------------------------------------------


def _patterns(device: str, form: Form) -> list[re.Pattern[str]]:
    """Return a pattern for devices like this one, with the name as its group; none if no name."""
    parts: list[str] = []
    names = end = 0
    for scalar in form.scalars.finditer(device):
        key = scalar["key"]
        names += key == "name"
        group = "item" if key is None else "value"
        varying = _varying(key, scalar[group]) if scalar[group] else None
        if varying is not None:
            parts += [re.escape(device[end : scalar.start(group)]), varying]
            end = scalar.end(group)
    pattern = re.compile("".join([*parts, re.escape(device[end:])]))
    # Network devices have names, too, and those must differ from each other.
    return [pattern] if names == pattern.groups == 1 else []


# Printable ASCII without quotation marks and escapes, and what YAML takes without them.
_QUOTED: Final = r"[ !#-&(-\[\]-~]*"
_PLAIN: Final = quickyaml.REST
_WORDS: Final = "|".join(word for word in quickyaml.WORDS if word.isalpha())
_NO_WORD: Final = rf"(?!(?:{_WORDS})(?![A-Za-z0-9_./=@+,%:-]))"
_NO_NUMBER: Final = "(?:[A-Za-z_/]|[0-9]+-)"

_PATHS: Final = frozenset({"path", "hostPath", "containerPath"})
_NUMBERS: Final = frozenset({"major", "minor", "uid", "gid"})


def _varying(key: str | None, scalar: str) -> str | None:
    """Return a pattern for what may stand in place of a scalar, or None for nothing else.

    `key` is what it is the value of, None if it is in a list.
    """
    mark = scalar[0] if scalar[0] in "\"'" else ""
    text = scalar[1:-1] if mark else scalar
    pattern = _pattern(key, text, bool(mark))
    if pattern is None or not re.fullmatch(pattern, text):
        return None
    return f"{mark}{pattern}{mark}"


def _pattern(key: str | None, text: str, quoted: bool) -> str | None:
    rest = _QUOTED if quoted else _PLAIN
    if key is None and "=" in text:  # it may be a variable
        return f"[A-Za-z_][A-Za-z0-9_]*={rest}"
    if key is None or "/" in key:  # no key of CDI has a slash, so this one is of an annotation
        return rest if quoted else f"{_NO_WORD}{_NO_NUMBER}{rest}"
    if key == "name":
        return _name(text, quoted)
    if key in _PATHS:
        return f"/{rest}"
    if key in _NUMBERS and not quoted:
        return "(?:0|[1-9][0-9]{0,2})"
    return None


def _name(text: str, quoted: bool) -> str:
    # Names that begin with a digit need a newer version.
    first = "[0-9]" if quoted and text[:1].isdigit() else "[A-Za-z]"
    more = "[A-Za-z0-9_.:-]" if quoted else "[A-Za-z0-9_.-]"
    return f"({'' if quoted else _NO_WORD}{first}(?:{more}*[A-Za-z0-9])?)"

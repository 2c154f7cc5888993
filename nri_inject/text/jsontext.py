"""JSON, read by the json module in two ways: as Go's encoding/json, and as a YAML parser.

Both find repeated keys, which the json module hides.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

from nri_inject.text import yamltext

# --- as Go's encoding/json reads it -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Object:
    """An object's members in the order of the text, repeated keys included."""

    members: tuple[tuple[str, JsonValue], ...] = ()


JsonValue: TypeAlias = Union[str, int, float, bool, "list[JsonValue]", Object, None]


class Malformed(ValueError):
    """A text that is not JSON; `place` is its line and column from 1, or empty if unknown."""

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(f"{place}: {sentence}" if place else sentence)
        self.sentence = sentence
        self.place = place


def load_members(data: bytes) -> JsonValue:
    """Return the value of a JSON text, as encoding/json of Go 1.24 reads it; Malformed if none.

    Each byte that is not UTF-8, and each half of a UTF-16 pair, becomes U+FFFD. A number with a
    fraction or an exponent is a float, and so is one of more than 30 digits.
    """
    # The error handler turns each bad byte into half of a pair.
    text = _HALF.sub("\ufffd", data.decode("utf-8", "surrogateescape"))
    try:
        value: JsonValue = _MEMBERS.decode(_ESCAPE.sub(_without_half, text))
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at").removesuffix(" starting")
        sentence = f"not JSON: {problem[:1].lower()}{problem[1:]}"
        raise Malformed(sentence, f"line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:  # raised from some thousand levels on; the C stack is guarded
        raise Malformed("too many levels of lists and objects") from error
    return value


_HALF: Final = re.compile("[\ud800-\udfff]")
_ESCAPE: Final = re.compile(
    r"\\(?:[^u]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
"""An escape; with a group if it is half of a pair whose other half is missing."""


def _without_half(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape[1] else escape[0]


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_WHOLE else float(text)


_MAX_WHOLE: Final = 30  # characters; int() takes quadratic time, and refuses 4301 digits


def _no_constant(text: str) -> JsonValue:
    raise Malformed(f"not JSON: {text} is not a value")


_MEMBERS: Final = json.JSONDecoder(
    object_pairs_hook=lambda pairs: Object(tuple(pairs)),
    parse_int=_whole,
    parse_constant=_no_constant,
)


# --- as a YAML parser reads it ------------------------------------------------------------------


class Unsure(ValueError):
    """A text that YAML may read differently, or that is wrong."""


def load_as_yaml(data: bytes) -> yamltext.Value:
    """Return the value that `yamltext` gives to a JSON text, some twenty times faster.

    Raises Unsure if it may be another value or none; the caller then asks yamltext.
    """
    # An escape may be half a character, which json takes and YAML does not.
    if b"\\u" in data:
        raise Unsure
    try:
        value: yamltext.Value = _YAML.decode(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unsure from error
    return value


def _unique(pairs: list[tuple[str, yamltext.Value]]) -> dict[str, yamltext.Value]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Unsure
    return result


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise Unsure
    return number


def _in_range(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise Unsure
    return int(text)


def _no_word(_: str) -> yamltext.Value:
    raise Unsure  # NaN and Infinity are words to YAML


_MAX_DIGITS: Final = 18  # a number of so many has no more than 64 bits
_YAML: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_finite,
    parse_int=_in_range,
    parse_constant=_no_word,
)

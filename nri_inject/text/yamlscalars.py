"""The values of plain YAML scalars, as Go's sigs.k8s.io/yaml has them, and their texts.

PyYAML's own resolver is not used: it makes base-60 numbers and dates, and does not know `y`,
`0o17` or `5e2`.
"""

from __future__ import annotations

import math
import re
from typing import Final, TypeAlias

from nri_inject.text.words import quoted

Value: TypeAlias = bool | int | float | str | list["Value"] | dict[str, "Value"] | None
"""What a text means."""
Path: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a value in it."""


def as_text(value: bool | int | str) -> str:
    """Return what Go makes of a plain scalar where text is due."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def float_text(value: float) -> str | None:
    """Return the text of a whole number such as 08 or 1e3, where Go prints its digits, too.

    None for all other floats: Go prints those with 32 bits of precision, 1e6 as 1e+06
    (convertToJSONableObject in sigs.k8s.io/yaml). Nobody means that text.
    """
    if not value.is_integer() or abs(value) >= 1e6 or is_negative_zero(value):
        return None
    return str(int(value))


def is_negative_zero(value: object) -> bool:
    """Tell whether a value is -0.0, which Go decodes to no whole number."""
    return isinstance(value, float) and value == 0 and math.copysign(1, value) < 0


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


def _whole(value: float) -> int:
    if abs(value) < 1e16:
        return int(value)
    # On the way through JSON Go prints the shortest digits and pads with zeros, so that
    # 1.2345678901234567e18 ends in 700, not in the 768 that the binary value has.
    mantissa, _, exponent = repr(value).partition("e")
    head, _, fraction = mantissa.partition(".")
    return int(head + fraction + "0" * (int(exponent) - len(fraction)))


# --- from text to value -------------------------------------------------------------------------

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

_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1


def resolve(text: str) -> bool | int | float | str | None:
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
    digits = text.replace("_", "")  # underscores may stand anywhere
    match = _INTEGER.fullmatch(digits)
    if match is not None and match.lastindex is not None:
        return _integer(text, digits[0] == "-", match[match.lastindex], _BASES[match.lastindex])
    if _FLOAT.fullmatch(digits):
        return _float(text, digits)
    return text


def _integer(text: str, negative: bool, digits: str, base: int) -> int:
    digits = digits.lstrip("0")
    # 64 bits have at most 64 digits. int() takes quadratic time, and refuses 4301 of them.
    size = int(digits or "0", base) if len(digits) <= 64 else _MAX_INTEGER + 1
    number = -size if negative else size
    if not _MIN_INTEGER <= number <= _MAX_INTEGER:
        raise ValueError(_out_of_range(text))
    return number


def _float(text: str, digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(_out_of_range(text))
    return number


def _out_of_range(text: str) -> str:
    shown = quoted(text)[1:-1]
    return f"number out of range: {shown}; put it in quotes if it is meant as text"

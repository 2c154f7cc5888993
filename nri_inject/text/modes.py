"""The mode of a file as people write it: in decimal instead of octal, as text, as `ls` does."""

from __future__ import annotations

import re
from typing import Final

from nri_inject.text.flow import Octal

_OCTAL: Final = re.compile("(?:0o?)?([0-7]{3,4})")
_SYMBOLIC: Final = re.compile("[bcup-]?((?:[r-][w-][x-]){3})")


def octal_of(value: object) -> Octal | None:
    """Return the mode that a number or text was meant to be; None where that is not clear."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return decimal_mode(value) or Octal(value)
    if not isinstance(value, str):
        return None
    if match := _OCTAL.fullmatch(value.strip()):
        return Octal(int(match[1], 8))
    if match := _SYMBOLIC.fullmatch(value.strip()):
        return Octal(int("".join("0" if bit == "-" else "1" for bit in match[1]), 2))
    return None


def decimal_mode(number: int) -> Octal | None:
    """Return the mode of a number that was written in decimal and meant in octal, as 666.

    As a number it is 01232: with bits that make no sense for a device. One such as 420, which is
    0644, is taken as it is.
    """
    digits = str(number)
    if len(digits) not in (3, 4) or not {*digits} <= {*"01234567"}:
        return None
    meant = Octal(int(digits, 8))
    sticky, execute = 0o7000, 0o111
    is_odd = number & sticky or (number & execute and not meant & execute)
    return meant if is_odd else None

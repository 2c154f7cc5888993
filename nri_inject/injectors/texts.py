"""The texts of annotations; a text that several containers have is parsed once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeVar

from nri_inject.text import yamltext
from nri_inject.text.budget import Spend
from nri_inject.text.fields import Fault, Reader

T = TypeVar("T")

# Pods come in replicas, with the same few texts. Only aliases can make the result many times as
# long as its text. So a text with the mark of an alias is read again each time, and so is a long
# one: even the worst texts together take no more than some 8 MiB.
_MAX_LENGTH: Final = 4096
_MAX_REMEMBERED: Final = 64

# A wrong word is compared with all known ones, to say which of them was meant.
_STEPS_PER_FAULT: Final = 50


def read_text(reader: Reader[T], text: str, spend: Spend) -> T | Fault | None:
    """Return the value of an annotation's text: None for null, Fault for a faulty text.

    Each call spends the steps that reading the text costs, cached or not. The result is shared and
    must not be changed.
    """
    if len(text) > _MAX_LENGTH or "*" in text:
        return _read(reader, text, spend)
    meaning: T | Fault | None
    meaning, steps = _remembered(reader, text)
    spend(steps)
    return meaning


@lru_cache(maxsize=_MAX_REMEMBERED)
def _remembered(reader: Reader[Any], text: str) -> tuple[Any, int]:
    steps: list[int] = []
    return _read(reader, text, steps.append), sum(steps)


def _read(reader: Reader[T], text: str, spend: Spend) -> T | Fault | None:
    try:
        value = yamltext.load(text, spend=spend)
        return None if value is None else reader(value)
    except yamltext.YamlError as error:
        return Fault(str(error))
    except Fault as fault:
        spend(len(fault.problems) * _STEPS_PER_FAULT)
        return Fault(*fault.problems)  # without the traceback and all that hangs on it

"""Lists of CPUs or memory nodes as the kernel writes them: `0-3,8` (Linux, cpuset(7))."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from nri_inject.text.words import quoted

Cpus = frozenset[int]

_PART: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MAX_CPUS: Final = 1 << 15  # more than any kernel is built for (NR_CPUS), and soon counted


def read(text: str) -> Cpus:
    """Return the numbers of a list; ValueError names the part that is none."""
    numbers: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MAX_CPUS:
            raise ValueError(f"{quoted(part)} is not a CPU or a range of CPUs, as in 0-3,8")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def format_cpu_list(numbers: Iterable[int]) -> str:
    """Return the list of some numbers, empty for none."""
    # In a run, each number is as far from its place in the order as the others are.
    runs = groupby(enumerate(sorted(numbers)), key=lambda placed: placed[1] - placed[0])
    return ",".join(_run([number for _, number in run]) for _, run in runs)


def _run(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"

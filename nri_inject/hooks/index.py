"""An index of definitions: the candidates for a container, found without asking each definition.

The time for a container must not grow with the number of files on its node, as most of them do not
apply to it. A definition that is not a candidate cannot match; each candidate is then compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Self

from nri_inject.hooks.definition import Definition, When
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.regex import BEGINNING, Regex, remembering, steps, utf8, which

_STEPS_PER_KEY: Final = 3

# In characters. A pod's keys are about so long together; most texts make no new states of the
# index's automaton. What is beyond that is counted as if each character made one.
_USUAL_LENGTH: Final = 4096

_MAX_REMEMBERED: Final = 512  # texts: the keys of many pods, and no more than 200 kB


class HookIndex(tuple[Definition, ...]):  # noqa: SLOT001 - a tuple can have no slots
    """Definitions in the order of injection, with an index over the patterns of their conditions.

    `candidates` finds those that a container's annotations and command leave in question.
    """

    _keys: _PatternIndex
    _commands: _PatternIndex
    _always: frozenset[int]

    def __new__(cls, definitions: Iterable[Definition] = ()) -> Self:
        """Build the index too; it takes some milliseconds for a thousand."""
        self = super().__new__(cls, definitions)
        gates = [_required_patterns(definition.when) for definition in self]
        self._keys = _PatternIndex(keys for keys, _ in gates)
        self._commands = _PatternIndex(commands for _, commands in gates)
        self._always = frozenset(
            number for number, (keys, commands) in enumerate(gates) if not keys and not commands
        )
        return self

    def candidates(
        self, keys: Iterable[str], command: str | None, spend: Spend = unlimited
    ) -> Sequence[Definition]:
        """Return, in order, all that could match annotations with these keys and this command.

        `command` is the first of argv, None if there is none. `spend` is called with the steps
        that each key costs.
        """
        by_command = self._commands.everyone if command is None else self._commands.find(command)
        numbers = {*self._always, *by_command}
        usual = _USUAL_LENGTH
        for key in keys:
            if len(numbers) == len(self):
                break
            usual -= len(key)
            unusual = 0 if usual >= 0 else self._keys.steps(key)
            found = self._keys.find(key)
            spend(_STEPS_PER_KEY + unusual + len(found) // 8)
            numbers |= found
        return self if len(numbers) == len(self) else [self[number] for number in sorted(numbers)]


def _required_patterns(when: When) -> tuple[Sequence[Regex], Sequence[Regex]]:
    """Return patterns for keys and for the command; a match needs one of them to occur.

    None if a match is possible without. If all conditions must hold, one of them is enough: an
    annotation's key is rarer than a command, which whole images share.
    """
    keys = [condition.key for condition in when.annotations]
    if not when.any_of:
        return (keys[:1], ()) if keys else ((), when.commands)
    if when.always is not None or when.has_bind_mounts is not None:
        return (), ()
    return keys, when.commands


class _PatternIndex:
    """From a text to the numbers of the definitions of which a pattern occurs in it."""

    def __init__(self, patterns: Iterable[Sequence[Regex]]) -> None:
        by_pattern: dict[Regex, set[int]] = {}
        for number, of_one in enumerate(patterns):
            for pattern in of_one:
                by_pattern.setdefault(pattern, set()).add(number)
        self._numbers: Final = [*by_pattern.values()]
        # By how a text must begin to keep a program busy; "" is for those that any text may.
        self._instructions: Final = Counter[str]()
        for pattern in by_pattern:
            self._instructions[pattern.beginning] += pattern.instructions
        self.everyone: Final = frozenset[int]().union(*self._numbers)
        self._which: Final = which(by_pattern)
        self.find: Final = remembering(self._find, _MAX_REMEMBERED) if by_pattern else _empty

    def steps(self, text: str) -> int:
        """Return what it costs at most to find a text, for a budget."""
        busy = {"", text[:BEGINNING]}
        return steps(len(text), sum(self._instructions[beginning] for beginning in busy))

    def _find(self, text: str) -> frozenset[int]:
        slots = self._which(utf8(text))
        if slots is None:  # the patterns have to be asked one by one
            return self.everyone
        return frozenset[int]().union(*(self._numbers[slot] for slot in slots))


def _empty(_: str) -> frozenset[int]:
    return frozenset()

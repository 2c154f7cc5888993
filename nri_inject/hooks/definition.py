"""What a hook file says, as values: a hook and its conditions, or its faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nri_inject.text.regex import Regex

# Stage in a file -> field of NRI's Hooks. OCI deprecates prestart, and the library puts such
# hooks into the list of createRuntime.
STAGES: Final[Mapping[str, str]] = {
    "prestart": "create_runtime",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
"""The stages of the OCI runtime specification, and the lists that their hooks go to."""


class FaultKind(Enum):
    """The kind of a fault."""

    JSON_SYNTAX = "json-syntax"
    JSON_TYPE = "json-type"
    VERSION = "version"
    MISSING = "missing-property"
    CONFLICT = "conflicting-properties"
    PROGRAM_MISSING = "hook-path-missing"
    PROGRAM_UNUSABLE = "hook-path-unusable"
    PROGRAM_UNTRUSTED = "hook-path-untrusted"
    PATTERN = "regex"
    STAGE = "stage"
    UNREADABLE = "unreadable"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class HookFault:
    """One thing that is wrong with a file; `place` is where in the document, or empty."""

    kind: FaultKind
    place: str
    sentence: str

    def __str__(self) -> str:
        """Put the place in front."""
        return f"{self.place}: {self.sentence}" if self.place else self.sentence


@dataclass(frozen=True, slots=True)
class Annotation:
    """A condition on annotations: one of them has a key and a value that match these."""

    key: Regex
    value: Regex


@dataclass(frozen=True, slots=True)
class When:
    """The conditions of a hook; None and empty ones are none.

    All must hold, or with `any_of` (schema 0.1.0) one of them.
    """

    always: bool | None = None
    has_bind_mounts: bool | None = None
    annotations: tuple[Annotation, ...] = ()
    commands: tuple[Regex, ...] = ()
    any_of: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A hook: its program, its conditions and its stages, in the words of the file.

    `timeout` is in seconds. `stages` are keys of STAGES, repeated if the file repeats them.
    `warnings` are sentences about valid values that are probably mistakes. `file` is the file's
    path, and `unusable` the reason why its program cannot be run although the file is good; the
    reader of the host sets both.
    """

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None
    when: When = When()
    stages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    file: str = ""
    unusable: str = ""

    @property
    def runs_on_host(self) -> bool:
        """Whether a stage runs the program outside of the container: all but startContainer do."""
        return not self.stages or any(stage != "startContainer" for stage in self.stages)


@dataclass(frozen=True, slots=True)
class HookReading:
    """What came out of a file: a definition, or faults, the library's own choice first.

    `program` is the path of the hook, known in spite of faults elsewhere, or empty.
    """

    definition: Definition | None
    faults: tuple[HookFault, ...] = ()
    program: str = ""


def in_order(reading: HookReading, program: HookFault | None) -> tuple[HookFault, ...]:
    """Return a reading's faults with that of its program, in the library's order."""
    if program is None:
        return reading.faults
    earlier = tuple(fault for fault in reading.faults if fault.kind in _BEFORE_PROGRAM)
    return (*earlier, program, *reading.faults[len(earlier) :])


_BEFORE_PROGRAM: Final = frozenset(
    {FaultKind.JSON_SYNTAX, FaultKind.JSON_TYPE, FaultKind.VERSION, FaultKind.CONFLICT}
)

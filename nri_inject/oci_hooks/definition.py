"""Hook definitions: from the text of a file to a value, or to everything that is wrong with it.

Both schemas of podman's hook library are read, 1.0.0 and 0.1.0, with its rules for keys, nulls
and defaults (go.podman.io/common/pkg/hooks 0.66.2). That library reports the first fault only;
here it is the first of the faults.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from nri_inject import jsontext
from nri_inject.jsontext import Number, Object, Value
from nri_inject.oci_hooks.patterns import BadPattern, Pattern, compiled

T = TypeVar("T")

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


class Kind(Enum):
    """What sort of fault it is."""

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
class Fault:
    """One thing that is wrong with a file; `place` is where in the document, or empty."""

    kind: Kind
    place: str
    sentence: str

    def __str__(self) -> str:
        """Put the place in front."""
        return f"{self.place}: {self.sentence}" if self.place else self.sentence


@dataclass(frozen=True, slots=True)
class Annotation:
    """A condition on annotations: one of them has a key and a value that match these."""

    key: Pattern
    value: Pattern


@dataclass(frozen=True, slots=True)
class When:
    """The conditions of a hook; None and empty ones are none.

    All must hold, or with `any_of` (schema 0.1.0) one of them.
    """

    always: bool | None = None
    has_bind_mounts: bool | None = None
    annotations: tuple[Annotation, ...] = ()
    commands: tuple[Pattern, ...] = ()
    any_of: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A hook: the program, when it is wanted and at which stages, in the words of the file.

    `timeout` is in seconds. `stages` are keys of STAGES, repeated if the file repeats them;
    stages that only the reader's caller knows are in `extension_stages`. `warnings` are
    sentences about what is allowed and hardly meant. `file` is where it was read, and
    `unusable` why its program cannot be run although the file is good; both are set by
    whoever looks at the host.
    """

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None
    when: When = When()
    stages: tuple[str, ...] = ()
    extension_stages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    file: str = ""
    unusable: str = ""

    @property
    def runs_on_host(self) -> bool:
        """Whether a stage runs the program outside of the container: all but startContainer do."""
        return not self.stages or any(stage != "startContainer" for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came out of a file: a definition, or faults, the library's own choice first.

    `program` is the path of the hook, known in spite of faults elsewhere, or empty.
    """

    definition: Definition | None
    faults: tuple[Fault, ...] = ()
    program: str = ""


def read(data: bytes, extension_stages: Collection[str] = ()) -> Reading:
    """Read the content of a hook file.

    `extension_stages` are stages beyond OCI's that the caller has a use for; one of OCI's own
    among them is diverted to it. Whether there is a program is not looked at.
    """
    try:
        document = jsontext.load_members(data)
    except jsontext.Malformed as error:
        return Reading(None, (Fault(Kind.JSON_SYNTAX, error.place, error.sentence),))
    reader = _Reader()
    root = reader.root(document)
    version = "" if root is None else reader.text(root, "version")
    if reader.faults or root is None:
        return Reading(None, tuple(reader.faults))
    schema = _SCHEMAS.get(version)
    if schema is None:
        sentence = f'"{_shown(version)}" is neither 1.0.0 nor 0.1.0'
        return Reading(None, (Fault(Kind.VERSION, "version", sentence),))
    draft = schema(reader, root)
    when = reader.when(draft)
    reader.check_stages(draft, extension_stages)
    if reader.faults:
        return Reading(None, tuple(reader.faults), draft.path)
    return Reading(_finished(draft, when, reader.warnings, extension_stages), (), draft.path)


def in_order(reading: Reading, program: Fault | None) -> tuple[Fault, ...]:
    """Return a reading's faults with that of its program, in the library's order."""
    if program is None:
        return reading.faults
    earlier = tuple(fault for fault in reading.faults if fault.kind in _BEFORE_PROGRAM)
    return (*earlier, program, *reading.faults[len(earlier) :])


_BEFORE_PROGRAM: Final = frozenset({Kind.JSON_SYNTAX, Kind.JSON_TYPE, Kind.VERSION, Kind.CONFLICT})


@dataclass(slots=True)
class _Draft:
    """A hook whose patterns and stages have not been looked at.

    Of lists None means absent. `annotations` are pairs of place and two patterns' texts.
    """

    path: str
    args: Sequence[str] = ()
    env: Sequence[str] = ()
    timeout: int | None = None
    stages: Sequence[str] | None = None
    stages_key: str = "stages"
    always: bool | None = None
    has_bind_mounts: bool | None = None
    annotations: Sequence[tuple[str, str, str]] = ()
    commands: Sequence[str] = ()
    commands_key: str = "when.commands"
    any_of: bool = False


class _Reader:
    """Takes typed values out of objects, and notes what is wrong or odd on the way."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []

    def root(self, document: Value) -> _Members | None:
        """Return the document's members; null is an empty object to Go."""
        if document is None:
            return _Members((), "")
        if isinstance(document, Object):
            return _Members((document,), "")
        self.wrong("", document, "an object")
        return None

    def wrong(self, place: str, value: Value, expected: str) -> None:
        sentence = f"{_described(value)} instead of {expected}"
        self.fault(Kind.JSON_TYPE, place, sentence)

    def fault(self, kind: Kind, place: str, sentence: str) -> None:
        self.faults.append(Fault(kind, place, sentence))

    def text(self, members: _Members, key: str) -> str:
        """Return a string; null has no effect, so an earlier one stays."""
        result = ""
        for place, value in members.named(key):
            if isinstance(value, str):
                result = value
            elif value is not None:
                self.wrong(place, value, "a string")
        return result

    def optional_text(self, members: _Members, key: str, hint: str = "") -> str | None:
        """Return a string or None; here null makes it absent again."""
        return self._last(members, key, str, f"a string{hint}")

    def boolean(self, members: _Members, key: str) -> bool | None:
        return self._last(members, key, bool, "true or false")

    def integer(self, members: _Members, key: str) -> int | None:
        """Return a whole number of 64 bits, written without fraction and exponent."""
        result = None
        for place, value in members.named(key):
            result = None
            if isinstance(value, Number):
                result = _integer(value.text)
                if result is None:
                    self.fault(
                        Kind.JSON_TYPE, place, f"{_shown(value.text)} is not an integer of 64 bits"
                    )
            elif value is not None:
                self.wrong(place, value, "an integer")
        return result

    def _last(self, members: _Members, key: str, kind: type[T], expected: str) -> T | None:
        result = None
        for place, value in members.named(key):
            result = value if isinstance(value, kind) else None
            if result is None and value is not None:
                self.wrong(place, value, expected)
        return result

    def texts(self, members: _Members, key: str) -> list[str] | None:
        """Return a list of strings, or None if there is none."""
        result = None
        for place, value in members.named(key):
            result = None
            if isinstance(value, list):
                result = [
                    self._item(f"{place}[{number}]", item) for number, item in enumerate(value)
                ]
            elif value is not None:
                self.wrong(place, value, "a list of strings")
        return result

    def mapping(self, members: _Members, key: str) -> dict[str, str]:
        """Return an object of strings, whose keys are data."""
        result: dict[str, str] = {}
        for place, value in members.named(key):
            if value is None:
                result = {}
            elif isinstance(value, Object):
                for name, item in value.members:
                    result[name] = self._item(f"{place}[{_quoted(name)}]", item)
            else:
                self.wrong(place, value, "an object of strings")
        return result

    def _item(self, place: str, value: Value) -> str:
        if isinstance(value, str):
            return value
        if value is not None:
            self.wrong(place, value, "a string")
        return ""

    def members(self, parent: _Members, key: str) -> _Members:
        """Return an object's members; objects given under one key are read as one."""
        objects = []
        for place, value in parent.named(key):
            if isinstance(value, Object):
                objects.append(value)
            elif value is not None:
                self.wrong(place, value, "an object")
        return _Members(objects, f"{parent.place}{key}.")

    def only(self, members: _Members, *keys: str) -> tuple[str, list[str] | None]:
        """Return key and list of the one that is given of two names for the same thing."""
        given = [(key, self.texts(members, key)) for key in keys]
        present = [(key, texts) for key, texts in given if texts is not None]
        if len(present) > 1:
            sentence = f"given beside {keys[0]}, which means the same"
            self.fault(Kind.CONFLICT, keys[1], sentence)
        return present[0] if present else (keys[0], None)

    def when(self, draft: _Draft) -> When:
        """Check the path, then compile the patterns, in the library's order."""
        place = "hook" if draft.any_of else "hook.path"
        if not draft.path and not self._has_fault_at(place, "hook"):
            self.fault(Kind.MISSING, place, "the path of the program is missing")
        annotations = [
            Annotation(key, value)
            for place, key_text, value_text in draft.annotations
            for key in self._pattern(f"{place}, key", key_text)
            for value in self._pattern(place, value_text)
        ]
        commands = [
            pattern
            for number, text in enumerate(draft.commands)
            for pattern in self._pattern(f"{draft.commands_key}[{number}]", text)
        ]
        return When(
            always=draft.always,
            has_bind_mounts=draft.has_bind_mounts,
            annotations=tuple(annotations),
            commands=tuple(commands),
            any_of=draft.any_of,
        )

    def _has_fault_at(self, *places: str) -> bool:
        """Tell whether a value was wrong itself, so that nothing follows from what it lacks."""
        return any(
            fault.place == place or fault.place.startswith(f"{place}[")
            for fault in self.faults
            for place in places
        )

    def _pattern(self, place: str, text: str) -> Iterator[Pattern]:
        try:
            yield compiled(text)
        except BadPattern as error:
            self.fault(Kind.PATTERN, place, f"{_quoted(text)} is no pattern: {error}")

    def check_stages(self, draft: _Draft, extension_stages: Collection[str]) -> None:
        """Check that there is a list of stages, and that each is known."""
        if self._has_fault_at(draft.stages_key):
            return
        if draft.stages is None:
            self.fault(Kind.MISSING, draft.stages_key, "the list of stages is missing")
        known = {*STAGES, *extension_stages}
        for number, stage in enumerate(draft.stages or ()):
            if stage not in known:
                sentence = f"{_quoted(stage)} is no stage; known: {', '.join(sorted(known))}"
                self.fault(Kind.STAGE, f"{draft.stages_key}[{number}]", sentence)


class _Members:
    """The members of one object, or of several that are read as one, by name without case."""

    def __init__(self, objects: Iterable[Object], place: str) -> None:
        self.place = place
        self.spellings: dict[str, list[str]] = {}
        self._values: dict[str, list[Value]] = {}
        for thing in objects:
            for key, value in thing.members:
                name = folded(key)
                self._values.setdefault(name, []).append(value)
                self.spellings.setdefault(name, []).append(key)

    def named(self, key: str) -> Iterator[tuple[str, Value]]:
        """Yield the place and the values of a key, in the order of the text."""
        for value in self._values.get(folded(key), ()):
            yield self.place + key, value


def folded(key: str) -> str:
    """Return a key as Go compares it with a known one: A like a, U+017F like s, U+212A like k."""
    return key.translate(_FOLD)


_FOLD: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)} | {
    0x17F: ord("s"),
    0x212A: ord("k"),
}


# --- the two schemas ----------------------------------------------------------------------------


def _read_1_0_0(reader: _Reader, root: _Members) -> _Draft:
    hook, when = reader.members(root, "hook"), reader.members(root, "when")
    draft = _Draft(
        path=reader.text(hook, "path"),
        args=reader.texts(hook, "args") or (),
        env=reader.texts(hook, "env") or (),
        timeout=reader.integer(hook, "timeout"),
        stages=reader.texts(root, "stages"),
        always=reader.boolean(when, "always"),
        has_bind_mounts=reader.boolean(when, "hasBindMounts"),
        annotations=[
            (f"when.annotations[{_quoted(key)}]", key, value)
            for key, value in reader.mapping(when, "annotations").items()
        ],
        commands=reader.texts(when, "commands") or (),
    )
    _note_keys(reader, root, ("version", "hook", "when", "stages"))
    _note_keys(reader, hook, ("path", "args", "env", "timeout"))
    _note_keys(reader, when, ("always", "annotations", "commands", "hasBindMounts"))
    return draft


def _read_0_1_0(reader: _Reader, root: _Members) -> _Draft:
    hint = '; with "version": "1.0.0" it is an object' if not root.spellings.get("version") else ""
    path = reader.optional_text(root, "hook", hint)
    arguments = reader.texts(root, "arguments")
    if path is None and not reader.faults:
        reader.fault(Kind.MISSING, "hook", "the path of the program is missing")
    stages_key, stages = reader.only(root, "stages", "stage")
    commands_key, commands = reader.only(root, "cmds", "cmd")
    values_key, values = reader.only(root, "annotations", "annotation")
    _note_keys(reader, root, _KEYS_0_1_0)
    if values == []:
        reader.warnings.append(f"{values_key} is empty, and so matches any annotation")
    reader.warnings.append("schema 0.1.0 is deprecated; write it as 1.0.0")
    return _Draft(
        path=path or "",
        args=() if arguments is None else (path or "", *arguments),
        stages=stages,
        stages_key=stages_key,
        has_bind_mounts=reader.boolean(root, "hasbindmounts"),
        # One condition: any key, and a value that one of the patterns finds.
        annotations=[] if values is None else [(values_key, "", "|".join(values))],
        commands=commands or (),
        commands_key=commands_key,
        any_of=True,
    )


_KEYS_0_1_0: Final = (
    *("version", "hook", "arguments", "stages", "stage", "cmds", "cmd"),
    *("annotations", "annotation", "hasbindmounts"),
)
_SCHEMAS: Final[Mapping[str, Callable[[_Reader, _Members], _Draft]]] = {
    "1.0.0": _read_1_0_0,
    "0.1.0": _read_0_1_0,
    "": _read_0_1_0,
}


def _finished(
    draft: _Draft, when: When, warnings: Sequence[str], extension_stages: Collection[str]
) -> Definition:
    stages = draft.stages or ()
    return Definition(
        path=draft.path,
        args=tuple(draft.args),
        env=tuple(draft.env),
        timeout=draft.timeout,
        when=when,
        stages=tuple(stage for stage in stages if stage not in extension_stages),
        extension_stages=tuple(stage for stage in stages if stage in extension_stages),
        warnings=(*warnings, *_oddities(draft)),
    )


# --- what is allowed and hardly meant -----------------------------------------------------------


def _note_keys(reader: _Reader, members: _Members, known: Collection[str]) -> None:
    """Warn of keys that Go reads in silence, or in silence does not read."""
    names = {folded(name): name for name in known}
    for folded_name, spellings in members.spellings.items():
        name = names.get(folded_name)
        place = members.place + _shown(name or spellings[0])
        if name is None:
            reader.warnings.append(f"{place} is an unknown key, and ignored")
            continue
        if len(spellings) > 1:
            reader.warnings.append(f"{place} is given {len(spellings)} times")
        reader.warnings += [
            f"{place} is spelled {_quoted(spelling)}"
            for spelling in spellings
            if spelling not in (name, "hasBindMounts")
        ]


def _oddities(draft: _Draft) -> Iterator[str]:
    stages = draft.stages or ()
    for condition, sentence in (
        (_never_matches(draft), "the conditions can never hold"),
        (not stages, "no stages, so nothing is ever injected"),
        (len(set(stages)) < len(stages), "a stage is named twice, and the hook runs twice there"),
        (
            {"prestart", "createRuntime"} <= {*stages},
            "prestart and createRuntime are one list, so the hook runs twice there",
        ),
        (not draft.path.startswith("/"), f"{_quoted(draft.path)} is not an absolute path"),
        (
            draft.timeout is not None and draft.timeout <= 0,
            f"a timeout of {draft.timeout} s, where OCI wants more than 0",
        ),
        (
            bool(draft.args) and draft.args[0].startswith("-"),
            "args begins with an option; its first item is argv[0]",
        ),
    ):
        if condition:
            yield sentence
    for entry in draft.env:
        if "=" not in entry[1:]:
            yield f"env has {_quoted(entry)}, which is not NAME=value"


def _never_matches(draft: _Draft) -> bool:
    needs = (draft.always, draft.has_bind_mounts)
    if not draft.any_of and False in needs:
        return True
    return True not in needs and not draft.annotations and not draft.commands


# --- words --------------------------------------------------------------------------------------

_LONGEST: Final = 80


def _integer(text: str) -> int | None:
    if not text.lstrip("-").isdigit() or len(text) > len(str(-(2**63))):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _described(value: Value) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Number):
        return _shown(value.text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return "a list" if isinstance(value, list) else "an object"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")[1:-1]


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")

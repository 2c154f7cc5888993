"""Hook files: from the text of a file to a definition, or to everything that is wrong with it.

Both schemas of podman's hook library are read, 1.0.0 and 0.1.0, with its rules for keys, nulls
and defaults (go.podman.io/common/pkg/hooks 0.66.2). That library reports the first fault only;
here it is the first of the faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from nri_inject.hooks.definition import (
    STAGES,
    Annotation,
    Definition,
    FaultKind,
    HookFault,
    HookReading,
    When,
)
from nri_inject.host import hook_environment
from nri_inject.text import fields, jsontext
from nri_inject.text.fields import (
    Findings,
    dotted,
    folded,
    not_one_of,
    read_flag,
    read_string,
    unknown_key,
    wrong_type,
)
from nri_inject.text.jsontext import JsonValue, Object
from nri_inject.text.regex import BadPattern, Regex, compiled
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Path

T = TypeVar("T")


def read(data: bytes) -> HookReading:
    """Read the content of a hook file; whether there is a program is not looked at."""
    try:
        document = jsontext.load_members(data)
    except jsontext.Malformed as error:
        return HookReading(None, (HookFault(FaultKind.JSON_SYNTAX, error.place, error.sentence),))
    reader = _HookFileReader()
    root = reader.root(document)
    version = reader.text(root, "version")
    if reader.faults:
        return HookReading(None, tuple(reader.faults))
    schema = _SCHEMAS.get(version)
    if schema is None:
        sentence = not_one_of(version, ("1.0.0", "0.1.0"))
        return HookReading(None, (HookFault(FaultKind.VERSION, "version", sentence),))
    draft = schema(reader, root)
    when = reader.when(draft)
    reader.check_stages(draft)
    if reader.faults:
        return HookReading(None, tuple(reader.faults), draft.path)
    return HookReading(_finished(draft, when, reader.warnings), (), draft.path)


@dataclass(slots=True)
class _Draft:
    """A hook whose patterns and stages are not checked yet.

    None means an absent list. `annotations` are places with two patterns' texts.
    """

    path: str
    args: Sequence[str] = ()
    env: Sequence[str] = ()
    timeout: int | None = None
    stages: Sequence[str] | None = None
    stages_key: str = "stages"
    always: bool | None = None
    has_bind_mounts: bool | None = None
    annotations: Sequence[tuple[Path, str, str]] = ()
    commands: Sequence[str] = ()
    commands_path: Path = ("when", "commands")
    any_of: bool = False


class _HookFileReader:
    """Takes typed values out of objects, and notes what is wrong or odd on the way."""

    def __init__(self) -> None:
        self.faults: list[HookFault] = []
        self.warnings: list[str] = []

    def root(self, document: JsonValue) -> _Members:
        """Return the document's members; null is an empty object to Go."""
        found = None if document is None else self._checked((), _object, document)
        return _Members(() if found is None else (found,), ())

    def _checked(self, path: Path, read: Callable[[JsonValue], T], value: JsonValue) -> T | None:
        """Return the meaning of a value, or None after noting its fault."""
        try:
            return read(value)
        except fields.Fault as fault:
            for problem in fault.problems:
                self.fault(FaultKind.JSON_TYPE, (*path, *problem.path), problem.sentence)
            return None

    def fault(self, kind: FaultKind, path: Path, sentence: str) -> None:
        self.faults.append(HookFault(kind, dotted(path), sentence))

    def text(self, members: _Members, key: str) -> str:
        """Return a text; null has no effect, so an earlier one stays."""
        result = ""
        for path, value in members.named(key):
            if value is not None:
                result = self._checked(path, read_string, value) or ""
        return result

    def last(self, members: _Members, key: str, read: Callable[[JsonValue], T]) -> T | None:
        """Return what the last value of a key means; null makes it absent again."""
        result = None
        for path, value in members.named(key):
            result = None if value is None else self._checked(path, read, value)
        return result

    def texts(self, members: _Members, key: str) -> list[str] | None:
        """Return a list of texts, or None if there is none."""
        return self.last(members, key, _texts)

    def mapping(self, members: _Members, key: str) -> dict[str, str]:
        """Return an object of texts, whose keys are data; several are read as one."""
        result: dict[str, str] = {}
        for path, value in members.named(key):
            if value is None:
                result = {}
            else:
                result |= self._checked(path, _texts_by_key, value) or {}
        return result

    def members(self, parent: _Members, key: str) -> _Members:
        """Return an object's members; objects given under one key are read as one."""
        objects = [
            self._checked(path, _object, value)
            for path, value in parent.named(key)
            if value is not None
        ]
        return _Members([found for found in objects if found is not None], (*parent.path, key))

    def only(self, members: _Members, *keys: str) -> tuple[str, list[str] | None]:
        """Return key and list of the one that is given of two names for the same thing."""
        given = [(key, self.texts(members, key)) for key in keys]
        present = [(key, texts) for key, texts in given if texts is not None]
        if len(present) > 1:
            sentence = f"set beside {keys[0]}, which means the same"
            self.fault(FaultKind.CONFLICT, (keys[1],), sentence)
        return present[0] if present else (keys[0], None)

    def when(self, draft: _Draft) -> When:
        """Check the path, then compile the patterns, in the library's order."""
        place = "hook" if draft.any_of else "hook.path"
        if not draft.path and not self._has_fault_at(place, "hook"):
            self.faults.append(HookFault(FaultKind.MISSING, "", f"{place} is missing"))
        annotations: list[Annotation] = []
        for path, key_text, value_text in draft.annotations:
            key = self._pattern(path, key_text, "the key")
            value = self._pattern(path, value_text)
            if key is not None and value is not None:
                annotations.append(Annotation(key, value))
        commands = [
            self._pattern((*draft.commands_path, number), text)
            for number, text in enumerate(draft.commands)
        ]
        return When(
            always=draft.always,
            has_bind_mounts=draft.has_bind_mounts,
            annotations=tuple(annotations),
            commands=tuple(command for command in commands if command is not None),
            any_of=draft.any_of,
        )

    def _has_fault_at(self, *places: str) -> bool:
        """Tell whether a value was wrong itself, so that nothing follows from what it lacks."""
        return any(
            fault.place == place or fault.place.startswith(f"{place}[")
            for fault in self.faults
            for place in places
        )

    def _pattern(self, path: Path, text: str, name: str = "") -> Regex | None:
        try:
            return compiled(text)
        except BadPattern as error:
            self.fault(FaultKind.PATTERN, path, f"{name or quoted(text)} is not a pattern: {error}")
            return None

    def check_stages(self, draft: _Draft) -> None:
        """Check that there is a list of stages, and that each is known."""
        if self._has_fault_at(draft.stages_key):
            return
        if draft.stages is None:
            self.faults.append(HookFault(FaultKind.MISSING, "", f"{draft.stages_key} is missing"))
        known = sorted(STAGES)
        for number, stage in enumerate(draft.stages or ()):
            if stage not in known:
                self.fault(FaultKind.STAGE, (draft.stages_key, number), not_one_of(stage, known))


class _Members:
    """The members of one object, or of several that are read as one, by name without case."""

    def __init__(self, objects: Iterable[Object], path: Path) -> None:
        self.path = path
        self.spellings: dict[str, list[str]] = {}
        self._values: dict[str, list[JsonValue]] = {}
        for thing in objects:
            for key, value in thing.members:
                name = folded(key)
                self._values.setdefault(name, []).append(value)
                self.spellings.setdefault(name, []).append(key)

    def named(self, key: str) -> Iterator[tuple[Path, JsonValue]]:
        """Yield the path and the values of a key, in the order of the text."""
        for value in self._values.get(folded(key), ()):
            yield (*self.path, key), value


def _object(value: JsonValue) -> Object:
    if not isinstance(value, Object):
        raise wrong_type(value, "a map")
    return value


def _text_before_1_0_0(value: JsonValue) -> str:
    if isinstance(value, Object):
        raise wrong_type(value, 'text; with "version": "1.0.0" it is a map')
    return read_string(value)


def _text_or_null(value: JsonValue) -> str:
    return "" if value is None else read_string(value)


def _texts(value: JsonValue) -> list[str]:
    """Read a list of texts; null among them is the empty text, as in Go."""
    found = Findings()
    texts = found.read_list(_text_or_null, value)
    found.check()
    return [text or "" for text in texts]


def _texts_by_key(value: JsonValue) -> dict[str, str]:
    found = Findings()
    texts = [(key, found.read(key, _text_or_null, item)) for key, item in _object(value).members]
    found.check()
    return {key: text or "" for key, text in texts}


def _integer(value: JsonValue) -> int:
    """Read a whole number of 64 bits, written without fraction and exponent."""
    if isinstance(value, float):
        raise wrong_type(value, "an integer")
    return _INT64(value)


_INT64: Final = fields.integer(-(2**63), 2**63 - 1)


# --- the two schemas ----------------------------------------------------------------------------


def _read_1_0_0(reader: _HookFileReader, root: _Members) -> _Draft:
    hook, when = reader.members(root, "hook"), reader.members(root, "when")
    draft = _Draft(
        path=reader.text(hook, "path"),
        args=reader.texts(hook, "args") or (),
        env=reader.texts(hook, "env") or (),
        timeout=reader.last(hook, "timeout", _integer),
        stages=reader.texts(root, "stages"),
        always=reader.last(when, "always", read_flag),
        has_bind_mounts=reader.last(when, "hasBindMounts", read_flag),
        annotations=[
            (("when", "annotations", key), key, value)
            for key, value in reader.mapping(when, "annotations").items()
        ],
        commands=reader.texts(when, "commands") or (),
    )
    _note_keys(reader, root, ("version", "hook", "when", "stages"))
    _note_keys(reader, hook, ("path", "args", "env", "timeout"))
    _note_keys(reader, when, ("always", "annotations", "commands", "hasBindMounts"))
    return draft


def _read_0_1_0(reader: _HookFileReader, root: _Members) -> _Draft:
    has_version = "version" in root.spellings
    path = reader.last(root, "hook", read_string if has_version else _text_before_1_0_0)
    arguments = reader.texts(root, "arguments")
    if path is None and not reader.faults:
        reader.fault(FaultKind.MISSING, (), "hook is missing")
    stages_key, stages = reader.only(root, "stages", "stage")
    commands_key, commands = reader.only(root, "cmds", "cmd")
    values_key, values = reader.only(root, "annotations", "annotation")
    _note_keys(reader, root, _KEYS_0_1_0)
    if values == []:
        reader.warnings.append(f"{values_key} is empty, so it matches any annotation")
    reader.warnings.append("schema 0.1.0 is deprecated; write it as 1.0.0")
    return _Draft(
        path=path or "",
        args=() if arguments is None else (path or "", *arguments),
        stages=stages,
        stages_key=stages_key,
        has_bind_mounts=reader.last(root, "hasbindmounts", read_flag),
        # One condition: any key, and a value that one of the patterns finds.
        annotations=[] if values is None else [((values_key,), "", "|".join(values))],
        commands=commands or (),
        commands_path=(commands_key,),
        any_of=True,
    )


_KEYS_0_1_0: Final = (
    *("version", "hook", "arguments", "stages", "stage", "cmds", "cmd"),
    *("annotations", "annotation", "hasbindmounts"),
)
_SCHEMAS: Final[Mapping[str, Callable[[_HookFileReader, _Members], _Draft]]] = {
    "1.0.0": _read_1_0_0,
    "0.1.0": _read_0_1_0,
    "": _read_0_1_0,
}


def _finished(draft: _Draft, when: When, warnings: Sequence[str]) -> Definition:
    return Definition(
        path=draft.path,
        args=tuple(draft.args),
        env=tuple(draft.env),
        timeout=draft.timeout,
        when=when,
        stages=tuple(draft.stages or ()),
        warnings=(*warnings, *_oddities(draft)),
    )


# --- what is allowed and hardly meant -----------------------------------------------------------


def _note_keys(reader: _HookFileReader, members: _Members, known: Sequence[str]) -> None:
    """Warn of keys that Go reads in silence, or in silence does not read."""
    names = {folded(name): name for name in known}
    for folded_name, spellings in members.spellings.items():
        name = names.get(folded_name)
        if name is None:
            problem = unknown_key(spellings[0], known).below(*members.path)
            reader.warnings.append(f"{problem}; it is ignored")
            continue
        place = dotted((*members.path, name))
        if len(spellings) > 1:
            reader.warnings.append(f"{place} is set {len(spellings)} times")
        reader.warnings += [
            f"{place} is spelled {quoted(spelling)}"
            for spelling in spellings
            if spelling not in (name, "hasBindMounts")
        ]


_NO_ENV: Final = (
    f"env is empty, so the program gets only {hook_environment.PATH}; CRI-O"
    " and podman read these files, too, and may pass it the container's variables"
)


def _oddities(draft: _Draft) -> Iterator[str]:
    stages = draft.stages or ()
    for condition, sentence in (
        (_never_matches(draft), "the conditions can never match"),
        (not stages, "no stages, so it is never injected"),
        (len(set(stages)) < len(stages), "a stage is named twice, and the hook runs twice there"),
        (
            {"prestart", "createRuntime"} <= {*stages},
            "prestart and createRuntime are one list, so the hook runs twice there",
        ),
        (not draft.path.startswith("/"), f"{quoted(draft.path)} is not an absolute path"),
        (
            draft.timeout is not None and draft.timeout <= 0,
            f"timeout {draft.timeout}: must be more than 0 seconds in OCI",
        ),
        (
            bool(draft.args) and draft.args[0].startswith("-"),
            "args begins with an option; its first item is argv[0]",
        ),
        (not draft.env, _NO_ENV),
    ):
        if condition:
            yield sentence
    for entry in draft.env:
        if "=" not in entry[1:]:
            yield f"env has {quoted(entry)}, which is not NAME=value"


def _never_matches(draft: _Draft) -> bool:
    needs = (draft.always, draft.has_bind_mounts)
    if not draft.any_of and False in needs:
        return True
    return True not in needs and not draft.annotations and not draft.commands

"""Read one CDI spec: from bytes to records, with all faults.

Keys, versions and rules are those of CDI 0.3.0 to 1.1.0, and of the Go library's `none` for
permissions, which is newer than 1.1.0. Errors take a file out of use, as in Go; warnings are about
values that runtimes accept and that are probably mistakes. This module knows no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from nri_inject.cdi.reading import ORDER, SpecReader
from nri_inject.cdi.records import VERSIONS, Spec
from nri_inject.text import jsontext, yamltext
from nri_inject.text.fields import Findings, Problem
from nri_inject.text.words import quoted
from nri_inject.text.yamlscalars import as_text, float_text
from nri_inject.text.yamltext import Value


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of a text: a spec unless one of the problems is an error.

    `kind` is what it would be the spec of, as far as that could be read; `minimum` the version
    that what could be read needs.
    """

    spec: Spec | None
    problems: tuple[Problem, ...]
    kind: str
    minimum: str

    @property
    def errors(self) -> list[Problem]:
        """The problems that take the spec out of use."""
        return [problem for problem in self.problems if not problem.warning]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that do not."""
        return [problem for problem in self.problems if problem.warning]


# --- from bytes to a value ----------------------------------------------------------------------

_JSON_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_DUPLICATE_KEY: Final = "duplicate key "


def load(data: bytes) -> Value:
    """Return the value of a spec's text, the same for JSON as YAML has it; YamlError if none.

    Most files are JSON, which the json module reads some twenty times faster than a YAML parser.
    """
    if _JSON_START.match(data) and len(data) <= yamltext.SPEC_FILE.size:
        try:
            return jsontext.load_as_yaml(data)
        except jsontext.Unsure:
            pass
    return yamltext.load(data, yamltext.SPEC_FILE)


def parse(data: bytes) -> Parsed:
    """Read the text of a spec, JSON or YAML; never raises, whatever the text.

    The problems have no line and column; `located` adds them.
    """
    try:
        value = load(data)
    except yamltext.YamlError as error:
        return Parsed(None, (_unreadable(error),), "", VERSIONS[2])
    return check(value)


def _unreadable(error: yamltext.YamlError) -> Problem:
    key = error.problem.removeprefix(_DUPLICATE_KEY)
    if key == error.problem:
        return Problem("syntax", (), error.problem, {}, False, error.line, error.column)
    details = {"key": key[1:-1]}
    return Problem("duplicate-key", (), error.problem, details, False, error.line, error.column)


def located(data: bytes, parsed: Parsed) -> tuple[Problem, ...]:
    """Return the problems of a text with line and column, in that order, and one more kind.

    That is a further document, which is not read. Takes longer than `parse`.
    """
    try:
        _, marks = yamltext.load_marked(data, yamltext.SPEC_FILE)
    except yamltext.YamlError:
        return parsed.problems
    problems = [_at(problem, marks) for problem in parsed.problems]
    if marks.second:
        sentence = "a second document begins here; runtimes read only the first"
        problems.append(Problem("further-document", (), sentence, {}, True, *marks.second))
    return tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))


def _at(problem: Problem, marks: yamltext.Marks) -> Problem:
    if problem.line:
        return problem
    # The sentence names a key, or the path leads to what is not there.
    path = (*problem.path, problem.details.get("field", problem.details.get("key", "")))
    while path and path not in marks:
        path = path[:-1]
    line, column = marks.get(path, (1, 1))
    return replace(problem, line=line, column=column)


# --- from a value to records --------------------------------------------------------------------


def check(value: Value) -> Parsed:
    """Return what the value of a document is as a spec, and its problems without lines."""
    reader = SpecReader()
    if value is None:
        reader.found.error("no-document", "the file contains no document")
        return Parsed(None, tuple(reader.found.problems), "", VERSIONS[reader.minimum])
    spec = reader.read(value)
    minimum = VERSIONS[reader.minimum]
    kind = version = ""
    if isinstance(value, dict):
        kind, version = _given(value, "kind"), _given(value, "cdiVersion")
        _check_version(version, minimum, reader.found)
    problems = tuple(_finished(problem, version) for problem in reader.found.problems)
    if any(not problem.warning for problem in problems) or spec is None:
        return Parsed(None, problems, kind, minimum)
    return Parsed(spec._replace(minimum=minimum), problems, kind, minimum)


def _given(value: Mapping[str, Value], key: str) -> str:
    """Return the text of a top-level key, in whatever letter case it is written."""
    found = value.get(key)
    if found is None:
        others = [item for name, item in value.items() if name.casefold() == key.casefold()]
        found = next((item for item in others if item is not None), None)
    if isinstance(found, float):
        return float_text(found) or str(found)
    return as_text(found) if isinstance(found, bool | int | str) else ""


def _check_version(given: str, minimum: str, found: Findings) -> None:
    order = ORDER.get(given.removeprefix("v"))
    if order is None:
        sentence = f"{quoted(given)} is not a version of CDI; {_version_hint(given)}"
        found.error("invalid-version", sentence, "cdiVersion", version=given)
    elif order < ORDER[minimum]:
        sentence = (
            f"{quoted(given)} is too low for the fields that the spec uses; raise it to {minimum}"
        )
        found.error("version-too-low", sentence, "cdiVersion", minimum=minimum)


def _version_hint(given: str) -> str:
    numbers = re.fullmatch(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})", given)
    newest = tuple(map(int, VERSIONS[-1].split(".")))
    if numbers and tuple(map(int, numbers.groups())) > newest:
        return f"newer than {VERSIONS[-1]}, the newest known version; use that one"
    for version in VERSIONS:
        if given and version.startswith(f"{given}."):
            return f"did you mean '{version}', in quotes?"
    return f"known: {', '.join(VERSIONS[2:])}"


_HAD_DROPPED_KEYS: Final = ("0.7.0", "0.8.0", "1.0.0")


def _finished(problem: Problem, version: str) -> Problem:
    """Return a problem with what follows from its place or from the version of its document."""
    if problem.code == "wrong-type":
        names = [step for step in problem.path if isinstance(step, str)]
        if "annotations" in names:
            del names[names.index("annotations") + 1 :]
        return replace(problem, details={"field": ".".join(names)} if names else {})
    if problem.code == "dropped-key" and version.removeprefix("v") not in _HAD_DROPPED_KEYS:
        *path, key = problem.path
        sentence = f"unknown key {key!r}; only versions 0.7.0 to 1.0.0 have it"
        return Problem("unknown-field", tuple(path), sentence, {"field": str(key)})
    return problem

"""Which hooks a container gets, and why: conditions against what the container looks like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from nri_inject import api
from nri_inject.hooks.definition import STAGES, Annotation, Definition, When
from nri_inject.hooks.index import HookIndex
from nri_inject.host.hook_environment import environment
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.regex import Regex, utf8
from nri_inject.text.words import quoted


class NoCommand(ValueError):
    """Say why a container has no command that a pattern could be matched with."""


MAX_COMMAND: Final = 4096
"""The length of a command in bytes up to which Linux runs it (PATH_MAX)."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices in which we differ from podman's library and NRI's hook-injector by default.

    - `bind_mounts`: "real" counts mounts that the pod requests and that are bind mounts,
      "any" counts every mount, /proc included.
    - `empty_command`: the result of `commands` for a container without argv: no match, or the
      container fails.
    - `unusable_program`: a hook whose program is missing or not trusted is skipped, or
      fails the containers that should get it.
    - `present`: a hook that the container already has is dropped, or is there twice.
    """

    bind_mounts: Literal["real", "any"] = "real"
    empty_command: Literal["no-match", "fail"] = "no-match"
    unusable_program: Literal["skip", "fail"] = "skip"
    present: Literal["drop", "keep"] = "drop"


AS_GO: Final = Choices(bind_mounts="any", empty_command="fail", present="keep")
"""The choices with which a container gets what the Go plugin gives it."""


class HookSubject:
    """What conditions are held against: a container's annotations, command and mounts.

    `argv` is None where there is no process at all; then `commands` is no condition. Few
    definitions request mounts, so `has_bind_mounts` may be a function that looks at them. `spend`
    is called with the steps that each search for a pattern costs.
    """

    def __init__(
        self,
        annotations: Mapping[str, str],
        argv: Sequence[str] | None,
        has_bind_mounts: bool | Callable[[], bool],
        choices: Choices = Choices(),
        spend: Spend = unlimited,
    ) -> None:
        self.annotations = annotations
        self.names = sorted(annotations)  # so that a search costs the same each time
        self.argv = argv
        self.choices = choices
        self.spend = spend
        self._has_bind_mounts = has_bind_mounts
        self._keys: Mapping[bytes, str] | None = None
        self._values: dict[bytes, bytes] = {}

    # No cached_property: before Python 3.12 it takes a lock, for longer than this takes.

    @property
    def has_bind_mounts(self) -> bool:
        """Whether the container has any."""
        if not isinstance(self._has_bind_mounts, bool):
            self._has_bind_mounts = self._has_bind_mounts()
        return self._has_bind_mounts

    @property
    def command(self) -> bytes:
        """The first of argv as patterns search it; NoCommand if Linux could not run it."""
        command = utf8(self.argv[0]) if self.argv else b""
        if len(command) > MAX_COMMAND:
            raise NoCommand(f"the container's command has more than {MAX_COMMAND} bytes")
        return command

    @property
    def keys(self) -> Mapping[bytes, str]:
        """The annotations' keys by what patterns search, encoded once and not for each pattern."""
        if self._keys is None:
            self._keys = {utf8(name): name for name in self.names}
        return self._keys

    def value(self, key: bytes) -> bytes:
        """Return the value under one of `keys` as patterns search it, encoded once as well."""
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = utf8(self.annotations[self.keys[key]])
        return value


class ConditionResult(NamedTuple):
    """Whether one condition holds, and how to say so; words are made on demand only."""

    holds: bool
    words: Callable[..., str]
    about: tuple[object, ...] = ()


class HookDecision(NamedTuple):
    """Whether a hook matches, and the findings that made it so."""

    matched: bool
    findings: tuple[ConditionResult, ...]

    @property
    def because(self) -> str:
        """The reason as a sentence; what a pod's author wrote is escaped and cut."""
        verdict = "matched" if self.matched else "did not match"
        if not self.findings:
            return f"{verdict} because it has no conditions"
        reasons = " and ".join(finding.words(*finding.about) for finding in self.findings)
        return f"{verdict} because {reasons}"


def decide(when: When, subject: HookSubject) -> HookDecision:
    """Hold the conditions against a container, in the library's order and no further than needed.

    Raises NoCommand if a condition needs a command that is too long, or that is missing where the
    choice is to fail.
    """
    findings = []
    for finding in _findings(when, subject):
        # One that holds settles "any of", one that fails settles "all of".
        if finding.holds is when.any_of:
            return HookDecision(when.any_of, (finding,))
        findings.append(finding)
    return HookDecision(bool(findings) and not when.any_of, tuple(findings))


def _findings(when: When, subject: HookSubject) -> Iterator[ConditionResult]:
    if when.always is not None:
        yield ConditionResult(when.always, _always_words, (when.always,))
    if when.has_bind_mounts is not None:
        # False never holds, whatever the container has: so it is in the library.
        holds = when.has_bind_mounts and subject.has_bind_mounts
        yield ConditionResult(holds, _mounts_words, (when.has_bind_mounts, subject.has_bind_mounts))
    for condition in when.annotations:
        yield _annotation_finding(condition, subject)
    if when.commands and subject.argv is not None:
        yield _command_finding(when.commands, subject)


def _annotation_finding(condition: Annotation, subject: HookSubject) -> ConditionResult:
    for key in _keys_matched(condition.key, subject):
        value = subject.value(key)
        subject.spend(condition.value.steps(len(value)))
        if condition.value.search(value):
            return ConditionResult(True, _annotation_words, (key, value, condition))
    return ConditionResult(False, _no_annotation_words, (condition,))


def _keys_matched(pattern: Regex, subject: HookSubject) -> Iterable[bytes]:
    keys = subject.keys
    if pattern.exact is None:
        subject.spend(len(keys) + pattern.steps(sum(map(len, keys))))
        return filter(pattern.search, keys)
    return (pattern.exact,) if pattern.exact in keys else ()


def _command_finding(patterns: Iterable[Regex], subject: HookSubject) -> ConditionResult:
    if not subject.argv:
        if subject.choices.empty_command == "fail":
            raise NoCommand("the container has no command to match")
        return ConditionResult(False, _no_argv_words)
    command = subject.command
    for pattern in patterns:
        subject.spend(pattern.steps(len(command)))
        if pattern.search(command):
            return ConditionResult(True, _command_words, (command, pattern))
    return ConditionResult(False, _no_command_words, (command, patterns))


# --- words --------------------------------------------------------------------------------------


def _always_words(always: bool) -> str:
    return f"always is {'true' if always else 'false'}"


def _mounts_words(wanted: bool, has: bool) -> str:
    if not wanted:
        return "hasBindMounts is false, which never matches"
    return f"the container has {'' if has else 'no '}bind mounts"


def _annotation_words(key: bytes, value: bytes, condition: Annotation) -> str:
    return f"annotation {_shown(key)} = {_shown(value)} matches {_condition(condition)}"


def _no_annotation_words(condition: Annotation) -> str:
    return f"no annotation matches {_condition(condition)}"


def _command_words(command: bytes, pattern: Regex) -> str:
    return f"command {_shown(command)} matches {quoted(pattern.text)}"


def _no_command_words(command: bytes, patterns: Iterable[Regex]) -> str:
    return f"command {_shown(command)} matches none of {_listed(patterns)}"


def _no_argv_words() -> str:
    return "the container has no command"


def _listed(patterns: Iterable[Regex]) -> str:
    return ", ".join(quoted(pattern.text) for pattern in patterns)


def _condition(condition: Annotation) -> str:
    return f"{quoted(condition.key.text)} = {quoted(condition.value.text)}"


def _shown(data: bytes) -> str:
    return quoted(data.decode("utf-8", "replace"))


# --- hooks of a container -----------------------------------------------------------------------


class Match(NamedTuple):
    """A definition and what was decided about it."""

    definition: Definition
    decision: HookDecision


class Injection(NamedTuple):
    """The hooks for a container, and the definitions that they are from.

    `skipped` are matches whose program cannot be run; they are not among the `matched`.
    """

    hooks: api.Hooks
    matched: tuple[Match, ...]
    skipped: tuple[Match, ...]


def matches(definitions: Iterable[Definition], subject: HookSubject) -> list[Match]:
    """Return the definitions that match, in their order, also those that cannot be run.

    Raises NoCommand, see `decide`.
    """
    decided = (Match(one, decide(one.when, subject)) for one in _in_question(definitions, subject))
    return [match for match in decided if match.decision.matched]


def injection(
    definitions: Iterable[Definition], subject: HookSubject, present: api.Hooks | None = None
) -> Injection:
    """Return the hooks of the definitions that match, in the order of the definitions.

    `present` are the hooks that the container has already. Raises NoCommand, see `decide`.
    """
    return injection_of(matches(definitions, subject), subject, present)


def injection_of(
    found: Sequence[Match], subject: HookSubject, present: api.Hooks | None = None
) -> Injection:
    """Return the hooks of definitions that have matched; `present` is as for `injection`."""
    hooks = api.Hooks()
    matched = [match for match in found if not match.definition.unusable]
    for definition, _ in matched:
        hook = message(definition)
        for stage in definition.stages:
            getattr(hooks, STAGES[stage]).append(hook)
    skipped = [match for match in found if match.definition.unusable]
    if present is not None and present.ListFields() and subject.choices.present == "drop":
        _drop(hooks, present)
    return Injection(hooks, tuple(matched), tuple(skipped))


def _in_question(definitions: Iterable[Definition], subject: HookSubject) -> Iterable[Definition]:
    """Leave out those of which an index says that they cannot match."""
    if not isinstance(definitions, HookIndex):
        return definitions
    command = subject.argv[0] if subject.argv else None
    return definitions.candidates(subject.names, command, subject.spend)


def message(definition: Definition) -> api.Hook:
    """Return the hook as NRI carries it; it is for all who ask, and must not be changed."""
    env = environment(definition.env)
    return _message(definition.path, definition.args, env, definition.timeout)


@lru_cache(maxsize=64)
def _message(path: str, args: Sequence[str], env: Sequence[str], timeout: int | None) -> api.Hook:
    # No timeout and a timeout of 0 are not the same.
    optional = None if timeout is None else api.OptionalInt(value=timeout)
    return api.Hook(path=path, args=args, env=env, timeout=optional)


def _drop(hooks: api.Hooks, present: api.Hooks) -> None:
    """Remove hooks that a container already has: the same program and argv at the same stage."""
    for field in {*STAGES.values()}:
        there = {_identity(hook) for hook in getattr(present, field)}
        if field == "create_runtime":  # they run at the same point of OCI's life cycle
            there |= {_identity(hook) for hook in present.prestart}
        if there:
            kept = [hook for hook in getattr(hooks, field) if _identity(hook) not in there]
            hooks.ClearField(field)
            getattr(hooks, field).extend(kept)


def _identity(hook: api.Hook) -> tuple[str, tuple[str, ...]]:
    return hook.path, tuple(hook.args)


# --- order --------------------------------------------------------------------------------------

_HALF: Final = re.compile("[\ud800-\udfff]")  # how Python holds a byte that is not UTF-8


def order(file: str) -> tuple[str, str]:
    """Return the key by which hook files are ordered: the name without its directory.

    As in the library: each character in lower case by itself, bytes that are not UTF-8 as
    U+FFFD. Names that differ in case only are ordered as they are, where the library's order
    is random.
    """
    name = file.rpartition("/")[2]
    text = "".join(
        "\ufffd" if "\ud800" <= character <= "\udfff" else character for character in name
    )
    # str.lower would make two characters of U+0130, and look around a sigma.
    lowered = "".join("i" if character == "\u0130" else character.lower() for character in text)
    return lowered, name

"""`nri-inject hooks`: the hook files, their faults, and the containers that get the hooks."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from nri_inject import api
from nri_inject.cli.group import Group
from nri_inject.hooks.definition import Definition, When
from nri_inject.hooks.match import (
    HookDecision,
    HookSubject,
    Injection,
    NoCommand,
    decide,
    injection,
)
from nri_inject.hooks.registry import DIRECTORIES, EXTENSIONS, HookRegistry, file_reading
from nri_inject.host.programs import program_warning
from nri_inject.host.unread import unread, unread_name
from nri_inject.node.files import resolve
from nri_inject.service import logs, terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import (
    DIR,
    FILE,
    directories_option,
    format_option,
    together,
    unsafe_option,
)
from nri_inject.text.regex import Regex
from nri_inject.text.words import plain

_STAGES: Final = {
    "create_runtime": "createRuntime",
    "create_container": "createContainer",
    "start_container": "startContainer",
    "poststart": "poststart",
    "poststop": "poststop",
}


@click.group(
    "hooks",
    cls=Group,
    epilog="Example: nri-inject hooks match --annotation example.com/log=on -- /bin/sh",
)
def command() -> None:
    """Inspect OCI hook files, and the containers that get the hooks."""


_host: Final = together(
    unsafe_option,
    click.option(
        "--host-root",
        default="/",
        type=DIR,
        help="Read all files below this directory, as from within a container.",
    ),
)
_directories: Final = together(directories_option("--hooks-dir", "Hook", DIRECTORIES), _host)


def _registry(directories: Sequence[str], *, unsafe: bool, host_root: str) -> HookRegistry:
    logs.configure(verbosity=0)  # what is wrong is part of the answer
    return HookRegistry(directories or DIRECTORIES, unsafe=unsafe, host_root=host_root)


def _errors(registry: HookRegistry) -> dict[str, list[str]]:
    return {file: list(sentences) for file, sentences in sorted(registry.errors.items())}


# --- list ---------------------------------------------------------------------------------------


@command.command("list", epilog="Example: nri-inject hooks list --format json")
@_directories
@format_option
def list_(*, directories: tuple[str, ...], unsafe: bool, host_root: str, output: str) -> int:
    """List the hooks in force, in order of injection, and the files that are not.

    Ends with status 0 also if files have faults; `validate` ends with status 1.
    """
    with closing(_registry(directories, unsafe=unsafe, host_root=host_root)) as registry:
        definitions, errors = registry.current(), _errors(registry)
    if output == "json":
        click.echo(json.dumps({"hooks": [*map(_as_json, definitions)], "errors": errors}))
        return 0
    for definition in definitions:
        stages = ", ".join(definition.stages) or "no stage"
        click.echo(f"{plain(definition.file)}: {plain(definition.path)} at {stages}")
        for warning in _warnings(definition, host_root):
            terminal.show_line(f"  warning: {warning}")
    _echo_errors(errors)
    for directory in directories or DIRECTORIES:
        where = str(resolve(host_root, directory))
        for path, why in unread(where, EXTENSIONS):
            shown = plain(directory.rstrip("/") + path.removeprefix(where))
            terminal.show_line(f"warning: {shown}: {why}")
    return 0


def _as_json(definition: Definition) -> dict[str, Any]:
    return {
        "file": definition.file,
        "stages": [*definition.stages],
        "path": definition.path,
        "when": _when(definition.when),
    }


def _when(when: When) -> dict[str, Any]:
    """Write conditions as a file of schema 1.0.0 does, and say where one of them is enough."""
    texts: Callable[[Sequence[Regex]], list[str]] = lambda patterns: [p.text for p in patterns]  # noqa: E731
    conditions = {
        "always": when.always,
        "hasBindMounts": when.has_bind_mounts,
        "annotations": {pair.key.text: pair.value.text for pair in when.annotations} or None,
        "commands": texts(when.commands) or None,
        "anyOf": when.any_of or None,
    }
    return {key: value for key, value in conditions.items() if value is not None}


def _warnings(definition: Definition, host_root: str) -> Iterator[str]:
    yield from definition.warnings
    warning = program_warning(definition.path, root=host_root)
    if warning and definition.runs_on_host:
        yield warning


def _echo_errors(errors: Mapping[str, Sequence[str]]) -> None:
    for file, sentences in errors.items():
        for sentence in sentences:
            terminal.show_line(f"error: {plain(file)}: {sentence}")


# --- validate -----------------------------------------------------------------------------------


@command.command(
    "validate", epilog="Example: nri-inject hooks validate /etc/containers/oci/hooks.d/log.json"
)
@click.argument("files", nargs=-1, required=True, type=FILE)
@_host
@format_option
def validate(*, files: tuple[str, ...], unsafe: bool, host_root: str, output: str) -> int:
    """Report the faults of hook files: file, place in the document and sentence, one per line.

    Warnings are about values that are probably mistakes. Ends with status 1 if a file would not
    be used.
    """
    errors: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    for file in files:
        reading, faults = file_reading(file, root=host_root, unsafe=unsafe)
        if faults:
            errors[file] = [str(fault) for fault in faults]
        why = unread_name(Path(file).name, EXTENSIONS)
        odd = [f"will not be read: {why}"] if why else []
        if reading.definition is not None:
            odd += _warnings(reading.definition, host_root)
        if odd:
            warnings[file] = odd
    if output == "json":
        click.echo(json.dumps({"errors": errors, "warnings": warnings}))
    else:
        for word, sentences_of in (("", errors), ("warning: ", warnings)):
            for file, sentences in sentences_of.items():
                for sentence in sentences:
                    terminal.show_line(f"{plain(file)}: {word}{sentence}")
    return FAILED if errors else 0


# --- match --------------------------------------------------------------------------------------


@command.command(
    "match",
    epilog="Example: nri-inject hooks match --annotation a.example/log=on --bind-mounts -- /bin/sh",
)
@_directories
@click.option(
    "--annotation",
    "annotations",
    multiple=True,
    metavar="KEY=VALUE",
    help="An annotation of the container or its pod; the value may have further = in it.",
)
@click.option("--bind-mounts", is_flag=True, help="The container has bind mounts.")
@format_option
@click.argument("args", nargs=-1, metavar="[-- ARGS...]")
def match(
    *,
    directories: tuple[str, ...],
    annotations: tuple[str, ...],
    bind_mounts: bool,
    unsafe: bool,
    host_root: str,
    output: str,
    args: tuple[str, ...],
) -> int:
    """Show the hooks that a container would get, and the reasons.

    ARGS are the container's command line.
    """
    subject = HookSubject(dict(map(_annotation, annotations)), args, bind_mounts)
    with closing(_registry(directories, unsafe=unsafe, host_root=host_root)) as registry:
        definitions, errors = registry.current(), _errors(registry)
    try:
        result = injection(definitions, subject)
    except NoCommand as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps(_match_json(definitions, subject, result, errors)))
        return 0
    for definition in definitions:
        decision = decide(definition.when, subject)
        click.echo(f"{plain(definition.file)}: {_verdict(definition, decision)}")
    for stage, hooks in _by_stage(result.hooks).items():
        for hook in hooks:
            argv = " ".join(map(plain, hook["args"]))
            click.echo(f"{stage}: {plain(hook['path'])}" + (f", argv {argv}" if argv else ""))
    _echo_errors(errors)
    return 0


def _annotation(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: KEY=VALUE expected", param_hint="--annotation")
    return key, value


def _verdict(definition: Definition, decision: HookDecision) -> str:
    if decision.matched and definition.unusable:
        return f"{decision.because}, but is not usable: {definition.unusable}"
    return decision.because


def _match_json(
    definitions: Sequence[Definition],
    subject: HookSubject,
    result: Injection,
    errors: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    matched = {match.definition.file for match in result.matched}
    reasons = [
        (definition.file, _verdict(definition, decide(definition.when, subject)))
        for definition in definitions
    ]
    return {
        "hooks": _by_stage(result.hooks),
        "matched": [{"file": f, "because": why} for f, why in reasons if f in matched],
        "unmatched": [{"file": f, "because": why} for f, why in reasons if f not in matched],
        "errors": errors,
    }


def _by_stage(hooks: api.Hooks) -> dict[str, list[dict[str, Any]]]:
    return {
        stage: [_hook_json(hook) for hook in getattr(hooks, field)]
        for field, stage in _STAGES.items()
        if getattr(hooks, field)
    }


def _hook_json(hook: api.Hook) -> dict[str, Any]:
    return {
        "path": hook.path,
        "args": list(hook.args),
        "env": list(hook.env),
        "timeout": hook.timeout.value if hook.HasField("timeout") else None,
    }


# --- monitor ------------------------------------------------------------------------------------


@command.command("monitor", epilog="Example: nri-inject hooks monitor --format json")
@_directories
@format_option
def monitor(*, directories: tuple[str, ...], unsafe: bool, host_root: str, output: str) -> int:
    """Print all hooks, and then each change as it happens, until interrupted."""
    with closing(_registry(directories, unsafe=unsafe, host_root=host_root)) as registry:
        known: dict[str, Any] = {}
        try:
            while True:
                registry.ready()
                now = _state(registry)
                for event in _events(known, now):
                    text = json.dumps(event) if output == "json" else _event_text(event)
                    click.echo(text)
                known = now
                _wait(registry)
        except KeyboardInterrupt:
            return 0


def _wait(registry: HookRegistry) -> None:
    # Mounts make no event; so have a look now and then.
    select.select([registry.fileno()], [], [], 5.0)


def _state(registry: HookRegistry) -> dict[str, Any]:
    files: dict[str, Any] = {
        definition.file: {"definition": definition, "errors": ()}
        for definition in registry.current()
    }
    for file, sentences in registry.errors.items():
        files.setdefault(file, {"definition": None, "errors": ()})["errors"] = sentences
    return files


def _events(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for file in sorted({*before, *now}, key=os.fsencode):
        old, new = before.get(file), now.get(file)
        if old == new:
            continue
        event = "removed" if new is None else "changed" if old else "added"
        errors = {} if new is None or not new["errors"] else {"errors": list(new["errors"])}
        yield {"event": event, "file": file, **errors}


def _event_text(event: Mapping[str, Any]) -> str:
    line = f"{event['event']:8}{plain(event['file'])}"
    return line + "".join(f"\n  error: {sentence}" for sentence in event.get("errors", ()))

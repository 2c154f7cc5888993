"""`nri-inject cdi`: which CDI devices there are, what is wrong with them, what they become."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf import json_format

from nri_inject import capabilities
from nri_inject.capabilities import Runtime
from nri_inject.cdi import lint, oci, schema, spec
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.records import Spec
from nri_inject.cdi.registry import (
    DEFAULT_DIRECTORIES,
    EXTENSIONS,
    CdiDevice,
    CdiRegistry,
    Snapshot,
    SpecFile,
)
from nri_inject.cdi.resolve import resolve
from nri_inject.cli import cdi_generate
from nri_inject.cli.group import Group
from nri_inject.host.nodes import HostDevices, HostFiles
from nri_inject.host.programs import program_warning
from nri_inject.host.unread import unread, unread_name
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import (
    FILE,
    directories_option,
    format_option,
    show,
    together,
    unsafe_option,
)
from nri_inject.text import yamltext
from nri_inject.text.fields import Problem, dotted
from nri_inject.text.words import plain


@click.group("cdi", cls=Group, epilog="Example: nri-inject cdi list --cdi-dir /etc/cdi")
def command() -> None:
    """Inspect CDI devices, their specs, and the edits for containers."""


command.add_command(cdi_generate.command)


_directories: Final = together(
    directories_option("--cdi-dir", "Spec", DEFAULT_DIRECTORIES), unsafe_option
)


def _registry(directories: Sequence[str], unsafe: bool, *, watched: bool = False) -> CdiRegistry:
    return CdiRegistry(directories or DEFAULT_DIRECTORIES, unsafe=unsafe, watched=watched)


def _snapshot(directories: Sequence[str], unsafe: bool) -> Snapshot:
    with (
        terminal.progress("reading CDI specs"),
        closing(_registry(directories, unsafe)) as registry,
    ):
        return registry.current()


# --- list, dirs, specs --------------------------------------------------------------------------


@command.command("list", epilog="Example: nri-inject cdi list --format json")
@_directories
@format_option
def list_(*, directories: tuple[str, ...], unsafe: bool, output: str) -> int:
    """List the devices that containers can request, and the faults of specs.

    Ends with status 0 also if specs have errors; `validate` ends with status 1.
    """
    found = _snapshot(directories, unsafe)
    show(output, _listing(found), _listing_lines(found))
    return 0


def _listing(found: Snapshot) -> dict[str, Any]:
    return {
        "devices": sorted(found.devices),
        "vendors": [*found.vendors],
        "classes": [*found.classes],
        "errors": {file: [*sentences] for file, sentences in found.errors.items()},
    }


def _listing_lines(found: Snapshot) -> Iterator[str]:
    for name in sorted(found.devices):
        yield f"{name}  ({plain(found.devices[name].file)})"
    if not found.devices:
        yield f"no devices in {', '.join(map(plain, found.priorities))}"
    for word, faults in (("error", found.errors), ("warning", _warnings(found))):
        for file, sentences in faults.items():
            for sentence in sentences:
                yield f"{word}: {plain(file)}: {sentence}"


def _warnings(found: Snapshot) -> dict[str, list[str]]:
    """Return the warnings by file: its own, what the host lacks for it, and files not read."""
    warnings = {file: [*sentences] for file, sentences in found.warnings.items()}
    for directory in found.priorities:
        for path, why in unread(directory, EXTENSIONS):
            warnings[path] = [why]
    for file in found.files:
        for problem in on_this_host(file.spec) if file.spec else ():
            warnings.setdefault(file.path, []).append(str(problem))
    return {file: warnings[file] for file in sorted(warnings)}


def on_this_host(found: Spec) -> Iterator[Problem]:
    """Return what containers here do not get of a spec: groups, and what is not on this host."""
    yield from (problem for problem in lint.warnings(found) if problem.code != "hook-without-env")
    yield from lint.absent(found, HostDevices(), HostFiles(), program_warning)


@command.command(epilog="Example: nri-inject cdi dirs --cdi-dir /etc/cdi --cdi-dir /run/cdi")
@_directories
@format_option
def dirs(*, directories: tuple[str, ...], unsafe: bool, output: str) -> int:
    """List the directories with their priority and their faults; the highest priority wins."""
    found = _snapshot(directories, unsafe)
    rows = [_directory(found, path) for path in found.priorities]
    lines = (_directory_line(row) for row in rows)
    show(output, {"directories": rows}, lines)
    return FAILED if any(row["errors"] for row in rows) else 0


def _directory(found: Snapshot, path: str) -> dict[str, Any]:
    return {
        "path": path,
        "priority": found.priorities[path],
        "exists": path not in found.missing,
        "specs": sum(file.directory == path for file in found.files),
        "errors": [*found.errors.get(path, ())],
    }


def _directory_line(row: dict[str, Any]) -> str:
    state = f"{row['specs']} specs" if row["exists"] else "does not exist"
    errors = "".join(f"; error: {error}" for error in row["errors"])
    return f"{row['priority']}  {plain(row['path'])}  {state}{errors}"


@command.command(epilog="Example: nri-inject cdi specs vendor.com")
@click.argument("vendors", nargs=-1, metavar="[VENDOR]...")
@_directories
@format_option
def specs(
    *, vendors: tuple[str, ...], directories: tuple[str, ...], unsafe: bool, output: str
) -> int:
    """List the spec files, those of some vendors or all: kind, version, devices and faults."""
    found = _snapshot(directories, unsafe)
    files = [file for file in found.files if not vendors or _vendor(file) in vendors]
    rows = [_spec(found, file) for file in files]
    show(output, {"specs": rows}, (line for row in rows for line in _spec_lines(row)))
    unknown = {*vendors} - {_vendor(file) for file in files}
    for vendor in sorted(unknown):
        terminal.show_error(f"no spec of vendor {vendor!r}")
    return FAILED if unknown else 0


def _vendor(file: SpecFile) -> str:
    return file.kind.partition("/")[0]


def _spec(found: Snapshot, file: SpecFile) -> dict[str, Any]:
    return {
        "file": file.path,
        "priority": found.priorities[file.directory],
        "kind": file.kind,
        "cdiVersion": file.spec.version if file.spec else "",
        "minimumVersion": file.spec.minimum if file.spec else "",
        "devices": sorted(file.devices),
        "inUse": sorted(
            name
            for name in file.devices
            if name in found.devices and found.devices[name].file == file.path
        ),
        "stale": file.stale,
        "errors": [*found.errors.get(file.path, ())],
        "warnings": [*found.warnings.get(file.path, ())],
    }


def _spec_lines(row: dict[str, Any]) -> Iterator[str]:
    version = f", version {row['cdiVersion']}, needs {row['minimumVersion']}"
    yield f"{plain(row['file'])}: {plain(row['kind']) or 'no kind'}" + (
        version if row["cdiVersion"] else ""
    )
    for name in row["devices"]:
        yield f"  {name}" + ("" if name in row["inUse"] else "  (not in use)")
    for word in ("error", "warning"):
        for sentence in row[f"{word}s"]:
            yield f"  {word}: {sentence}"


# --- monitor ------------------------------------------------------------------------------------


@command.command(epilog="Example: nri-inject cdi monitor --format json")
@_directories
@format_option
def monitor(*, directories: tuple[str, ...], unsafe: bool, output: str) -> int:
    """Print the devices and faults, and then each change as it happens.

    JSON: a line for each change, {"added": [...], "removed": [...], "errors": {...}}; `changed`
    has devices that are there as before but with other edits. Ends on an interrupt.
    """
    with closing(_registry(directories, unsafe, watched=True)) as registry:
        before = Snapshot()
        try:
            while True:
                found = registry.current()
                _show_change(before, found, output)
                before = found
                # No longer than that, since some file systems report no changes.
                select.select([registry.fileno()], [], [], 5.0)
        except KeyboardInterrupt:
            return 0


def _show_change(before: Snapshot, found: Snapshot, output: str) -> None:
    change = difference(before, found)
    if any(change.values()) or before.errors != found.errors:
        show(output, change, _change_lines(change))
        sys.stdout.flush()


def difference(before: Snapshot, found: Snapshot) -> dict[str, Any]:
    """Return what one snapshot has and the other has not; `errors` are all of the later one."""
    both = before.devices.keys() & found.devices.keys()
    changed = (name for name in both if not _equal(before.devices[name], found.devices[name]))
    return {
        "added": sorted(found.devices.keys() - before.devices.keys()),
        "removed": sorted(before.devices.keys() - found.devices.keys()),
        "changed": sorted(changed),
        "errors": {file: [*sentences] for file, sentences in found.errors.items()},
    }


def _equal(one: CdiDevice, other: CdiDevice) -> bool:
    """Tell whether containers get the same, however it is written."""
    if one == other:
        return True
    return (one.file, one.edits, one.spec_edits) == (other.file, other.edits, other.spec_edits)


def _change_lines(change: dict[str, Any]) -> Iterator[str]:
    for word, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for name in change[word]:
            yield f"{sign} {name}"
    for file, sentences in change["errors"].items():
        for sentence in sentences:
            yield f"error: {plain(file)}: {sentence}"


# --- validate -----------------------------------------------------------------------------------


@command.command(epilog="Example: nri-inject cdi validate /etc/cdi/vendor.yaml")
@click.argument("files", nargs=-1, required=True, type=FILE)
@unsafe_option
@format_option
def validate(
    *,
    files: tuple[str, ...],
    unsafe: bool,  # noqa: ARG001 - taken as all commands here take it
    output: str,
) -> int:
    """Report all errors and warnings of spec files, with line and column.

    Ends with status 1 if there is an error in any. Owners and modes are not checked here, with
    or without --unsafe-files, since the files may not be on their node yet; `list` checks
    them.
    """
    with terminal.progress(f"checking {len(files)} files"):
        found = {file: _validated(file) for file in files}
    document = {"files": {file: [*map(_problem, problems)] for file, problems in found.items()}}
    lines = (
        f"{plain(file)}: {'warning: ' if problem.warning else ''}{problem}"
        for file, problems in found.items()
        for problem in problems
    )
    show(output, document, lines)
    errors = (problem for problems in found.values() for problem in problems if not problem.warning)
    return FAILED if any(errors) else 0


def _validated(file: str) -> list[Problem]:
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(yamltext.SPEC_FILE.size + 1)
    except OSError as error:
        return [Problem("unreadable", (), f"cannot be read: {error.strerror}")]
    parsed = spec.parse(data)
    advice: list[Problem] = []
    if parsed.spec is not None:
        advice += lint.warnings(parsed.spec)
        advice += lint.absent(parsed.spec, HostDevices(), HostFiles(), program_warning)
    schema_faults = _against_schema(data, parsed.problems)
    problems = (*parsed.problems, *advice)
    located = spec.located(data, replace(parsed, problems=problems))
    return [*_name_fault(file), *located, *schema_faults]


def _name_fault(file: str) -> Iterator[Problem]:
    if why := unread_name(Path(file).name, EXTENSIONS):
        yield Problem("name", (), f"will not be read: {why}", warning=True)


def _against_schema(data: bytes, problems: Sequence[Problem]) -> list[Problem]:
    """Return what only the schema finds: it says the same as our own check, less clearly."""
    if problems:
        return []
    return schema.check(spec.load(data))


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": "warning" if problem.warning else "error",
        "line": problem.line,
        "column": problem.column,
        "path": dotted(problem.path),
        "message": problem.sentence,
    }


# --- resolve and inject -------------------------------------------------------------------------


@command.command("resolve", epilog="Example: nri-inject cdi resolve --format json vendor.com/gpu=0")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--runtime", metavar="NAME/VERSION", help="Runtime and version; default: the newest.")
@_directories
@format_option
def resolve_(
    *,
    names: tuple[str, ...],
    runtime: str | None,
    directories: tuple[str, ...],
    unsafe: bool,
    output: str,
) -> int:
    """Show the NRI adjustment for devices, and the edits that NRI can't carry.

    Ends with status 1 if a name is unknown or a device node does not exist.
    """
    found = _snapshot(directories, unsafe)
    try:
        resolution = resolve(
            names, found, HostDevices(), files=HostFiles(), unsafe=unsafe, runtime=_runtime(runtime)
        )
    except CdiError as error:
        return _refuse(error, output)
    adjust = json_format.MessageToDict(resolution.adjust)
    document = {"adjust": adjust, "unsupported": [*resolution.unsupported]}
    lines = [
        json.dumps(adjust, indent=2),
        *(f"not carried: {sentence}" for sentence in resolution.unsupported),
        *(f"warning: {sentence}" for sentence in resolution.warnings),
    ]
    show(output, document, lines)
    return 0


def _runtime(text: str | None) -> Runtime:
    return capabilities.NEWEST if text is None else capabilities.named(text, "--runtime")


def _refuse(error: CdiError, output: str) -> int:
    document = {"error": str(error), "unresolved": [*dict.fromkeys(error.unresolved)]}
    if output == "json":
        click.echo(json.dumps(document))
    else:
        terminal.show_error(error)
    return FAILED


_STDIN: Final = "-"


@command.command(
    "inject", epilog="Example: nri-inject cdi inject --spec config.json vendor.com/gpu=0"
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--spec", "file", required=True, type=FILE, help="OCI spec (JSON); - is stdin.")
@_directories
def inject(*, names: tuple[str, ...], file: str, directories: tuple[str, ...], unsafe: bool) -> int:
    """Print an OCI spec with devices injected, as JSON.

    Otherwise prints {"error": "sentence", "unresolved": [names]} and ends with status 1.
    """
    try:
        before = _oci_spec(file)
        after = oci.inject(before, names, _snapshot(directories, unsafe), HostDevices())
    except CdiError as error:
        return _refuse(error, "json")
    click.echo(json.dumps(after, indent=2))
    return 0


def _oci_spec(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == _STDIN else Path(file).read_text("utf-8")
        value = json.loads(text, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CdiError([f"cannot read OCI spec {plain(file)}: {why}"]) from error
    if not isinstance(value, dict):
        raise CdiError([f"OCI spec {plain(file)}: a JSON object expected"])
    return value


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")

"""`nri-inject cdi generate`: CDI specs for the host's own hardware."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click
import yaml

from nri_inject.cdi import spec as specs
from nri_inject.cli.devices import root_option
from nri_inject.host.devices import inventory
from nri_inject.host.devices.classes import CLASSES
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.source import HostInventory
from nri_inject.host.devices.specs import spec_of
from nri_inject.node.files import make_directory, write
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import DIR, Helped, format_option
from nri_inject.text.words import plain

MARK: Final = "# Made by nri-inject cdi generate, which replaces and removes this file.\n"
_GENERATED: Final = tuple(name for name, kind in CLASSES.items() if kind.generated)


class _Refusal(Exception):
    """Say why specs cannot be made or written."""


@click.command(
    "generate", cls=Helped, epilog="Example: nri-inject cdi generate --output /etc/cdi --watch"
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    type=click.Choice([*CLASSES]),
    metavar="CLASS",
    help=f"Repeatable; {', '.join(_GENERATED)} unless given.",
)
@click.option(
    "--output", "directory", type=DIR, help="Write one file per class into this directory."
)
@click.option(
    "--cdi-version", metavar="V", help="Version of CDI; default: the lowest that has all fields."
)
@click.option("--watch", is_flag=True, help="Keep running, and write changed files again.")
@root_option
@format_option
def command(
    *,
    classes: tuple[str, ...],
    directory: str | None,
    cdi_version: str | None,
    watch: bool,
    root: str,
    output: str,
) -> int:
    """Write CDI specs for the devices that this host has, a spec for each class.

    Without --output the specs are printed. With it, a file is replaced in one step if its content
    changes, and removed if the host has no such device any longer. Files of other programs stay.
    """
    if watch and directory is None:
        raise click.UsageError("--watch needs --output")
    wanted = classes or _GENERATED
    try:
        if not watch or directory is None:
            _once(wanted, directory, cdi_version, inventory.read(root), output)
        else:
            _for_ever(wanted, directory, cdi_version, root, output)
    except _Refusal as refusal:
        terminal.show_error(refusal)
        return FAILED
    return 0


def _once(
    classes: tuple[str, ...],
    directory: str | None,
    version: str | None,
    found: Inventory,
    output: str,
) -> None:
    made = texts(classes, version, found)
    if directory is None:
        _print(made, output)
        return
    _tell(_store(Path(directory), made), output)


def _tell(done: Mapping[str, list[str]], output: str) -> None:
    if output == "text":
        for word, files in done.items():
            for file in files:
                click.echo(f"{word} {plain(file)}")
    elif any(done.values()):
        click.echo(json.dumps(done))


def _for_ever(
    classes: tuple[str, ...], directory: str, version: str | None, root: str, output: str
) -> None:
    """Write changed files again at each event of a device, until a signal ends it.

    Unchanged files are not reported.
    """
    with closing(HostInventory(root)) as source, _ended_by_sigterm() as signals:
        try:
            while True:
                done = _store(Path(directory), texts(classes, version, source.inventory()))
                _tell({word: done[word] for word in ("wrote", "removed")}, output)
                select.select([source.fileno(), signals], [], [])
        except KeyboardInterrupt:
            return


@contextmanager
def _ended_by_sigterm() -> Iterator[int]:
    """Take SIGTERM, with which services are ended, for an interrupt.

    Give a descriptor that can be read after a signal: one that comes just before a wait begins
    would be slept over otherwise.
    """
    woken, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    woken_before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(woken_before)
        signal.signal(signal.SIGTERM, before)
        os.close(woken)
        os.close(tell)


# --- texts --------------------------------------------------------------------------------------


def texts(
    classes: tuple[str, ...], version: str | None, found: Inventory
) -> dict[str, tuple[dict[str, Any] | None, str]]:
    """Return, by file name, each class's spec and its text; None and nothing without a device.

    The text depends on the devices alone: the same ones give the same bytes.
    """
    return {f"nri-inject-{name}.yaml": _text(name, version, found) for name in classes}


def _text(name: str, version: str | None, found: Inventory) -> tuple[dict[str, Any] | None, str]:
    body = spec_of(name, found)
    if body is None:
        return None, ""
    spec = {"cdiVersion": _version(name, version, body), **body}
    return spec, MARK + yaml.safe_dump(spec, sort_keys=False, allow_unicode=False, width=1000)


def _version(name: str, version: str | None, body: dict[str, Any]) -> str:
    least = specs.check({"cdiVersion": _HIGHEST, **body}).spec
    if least is None:
        raise _Refusal(f"class {name}: a device's name is not valid in CDI")
    if version is None:
        return least.minimum
    faults = specs.check({"cdiVersion": version, **body}).errors
    if faults:
        raise _Refusal(f"class {name}: --cdi-version: {faults[0]}")
    return version


_HIGHEST: Final = "1.1.0"


def _print(made: Mapping[str, tuple[dict[str, Any] | None, str]], output: str) -> None:
    if output == "json":
        click.echo(json.dumps({file: spec for file, (spec, _) in made.items() if spec is not None}))
    else:
        click.echo("---\n".join(text for _, text in made.values() if text), nl=False)


# --- files --------------------------------------------------------------------------------------


def _store(
    directory: Path, made: Mapping[str, tuple[dict[str, Any] | None, str]]
) -> dict[str, list[str]]:
    """Bring the files up to date; say which were written, removed and left as they were."""
    done: dict[str, list[str]] = {"wrote": [], "removed": [], "unchanged": []}
    try:
        make_directory(directory)
        for name, (_, text) in made.items():
            file = directory / name
            before = _ours(file)
            if text and text != before:
                write(file, text.encode(), 0o644)
                done["wrote"].append(str(file))
            elif text:
                done["unchanged"].append(str(file))
            elif before is not None:
                file.unlink()
                done["removed"].append(str(file))
    except OSError as error:
        raise _Refusal(f"{plain(str(error.filename or directory))}: {error.strerror}") from error
    return done


def _ours(file: Path) -> str | None:
    """Return the content of a file that this command wrote; None if there is none."""
    try:
        text = file.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    if not text.startswith(MARK):
        raise _Refusal(f"{plain(str(file))} was not written by this command; move it")
    return text

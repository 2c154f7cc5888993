"""Putting plugins on a node and taking them away again: a plan, its steps, and a record of both.

`plan` decides and changes nothing. `install` writes the record first, so that a step that was
interrupted can be undone as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from nri_inject.errors import ConfigError
from nri_inject.node import files, texts
from nri_inject.node.record import (
    RECORD,
    UNITS,
    InstalledPath,
    PathChange,
    digest,
    digest_of,
    exists,
    is_unchanged,
    record,
    recorded,
    remove,
)
from nri_inject.node.runtime import Node
from nri_inject.plugins.programs import PROGRAMS, SUITE, load
from nri_inject.service.command import Command
from nri_inject.text.names import split_plugin
from nri_inject.text.words import quoted, suggestion

PREFIX: Final = "/opt/nri-inject"
COMMANDS: Final = "/usr/local/bin"
JOURNAL: Final = "/run/systemd/journal/socket"
DROPPED_IN: Final = ("/etc/cdi", "/etc/containers/oci/hooks.d")
"""Where admins put CDI specs and hook files; few distributions make these directories."""


@dataclass(frozen=True, slots=True)
class Program:
    """A plugin to be installed: its console script, and index and name that it is to have."""

    script: str
    idx: str
    name: str

    @property
    def file_name(self) -> str:
        """What a runtime's plugin directory calls it."""
        return f"{self.idx}-{self.name}"


@dataclass(frozen=True, slots=True)
class Build:
    """Where the programs are: a self-contained folder to be copied, or scripts to be linked to.

    `release` names the content, so that two of them can be there at a time: a running plugin
    goes on to load its parts from the folder that it was started from. `programs` are to be on
    PATH.
    """

    folder: str
    release: str = ""
    programs: tuple[str, ...] = (SUITE,)

    @property
    def is_copied(self) -> bool:
        """Whether it goes to the host."""
        return bool(self.release)


@dataclass(frozen=True, slots=True)
class TreeStep:
    """A copy of a folder of ours."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class FileStep:
    """A file of ours; an admin's version of it stays. `text` is its content."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class LinkStep:
    """A symbolic link to a program of ours, relative, so that it also holds below a root."""

    path: str
    to: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory for files of others; with `logs` for our own, which only a purge removes."""

    path: str
    logs: bool = False


InstallStep: TypeAlias = TreeStep | FileStep | LinkStep | Directory
What = Literal["new", "same", "changed", "kept"]


def find_program(name: str) -> Program:
    """Return the program of a plugin's name, which may have an index `NN-` in front.

    ConfigError for a name that no plugin of ours has.
    """
    idx, base = split_plugin(name)
    script = base if base in PROGRAMS else f"nri-{base}"
    command = load(script) if script in PROGRAMS else None
    if script == SUITE:
        from nri_inject.plugins.suite import main as command
    if not isinstance(command, Command):
        plugins = sorted(one.removeprefix("nri-") for one in PROGRAMS if one != SUITE)
        raise ConfigError(f"no plugin {quoted(base)}; {suggestion(base, [SUITE, *plugins])}")
    return Program(script, idx or command.idx, command.name)


# --- what is to be done -------------------------------------------------------------------------


def plan(
    node: Node,
    build: Build,
    programs: Sequence[Program],
    *,
    prefix: str = PREFIX,
    systemd: bool = False,
    shared: Mapping[str, str] = MappingProxyType({}),
) -> list[InstallStep]:
    """Return the steps in their order: a plugin comes last, when all it needs is there.

    `shared` are the texts for shells and the manual, by path.
    """
    steps: list[InstallStep] = []
    home = build.folder
    if build.is_copied:
        home = f"{prefix}/current"
        steps += [
            TreeStep(f"{prefix}/{build.release}", build.folder),
            LinkStep(home, f"{prefix}/{build.release}"),
        ]
    if home != COMMANDS:
        steps += [LinkStep(f"{COMMANDS}/{name}", f"{home}/{name}") for name in build.programs]
    steps += [FileStep(path, text) for path, text in shared.items()]
    steps += [Directory(path) for path in DROPPED_IN]
    steps.append(FileStep(texts.POLICY_FILE, texts.POLICY))
    if systemd:
        return [*steps, *_service(node, home, programs)]
    journal = files.resolve(node.root, JOURNAL).exists()
    if not journal:
        steps.append(Directory(texts.LOGS, logs=True))
    for program in programs:
        conf = f"{node.nri.configurations}/{program.file_name}.conf"
        steps.append(FileStep(conf, texts.drop_in(program.file_name, journal=journal)))
    for program in programs:
        steps.append(
            LinkStep(f"{node.nri.plugins}/{program.file_name}", f"{home}/{program.script}")
        )
    return steps


def _service(node: Node, home: str, programs: Sequence[Program]) -> Iterator[InstallStep]:
    yield FileStep(texts.CONFIG_FILE, texts.CONFIG)
    unit = node.distribution.unit.partition(" ")[0]
    for program in programs:
        run = " run" if program.script == "nri-inject" else ""
        flags = f"--idx {program.idx} --name {program.name} --socket-path {node.nri.socket}"
        command = f"{home}/{program.script}{run} {flags} --config {texts.CONFIG_FILE}"
        reload = f"{home}/{SUITE} upgrade --plugin {program.file_name}"
        yield FileStep(f"{UNITS}/{program.script}.service", texts.unit(command, reload, unit))


def enabling(node: Node) -> FileStep:
    """Return the file that switches NRI on; ConfigError if only an edit by hand can do it."""
    runtime, config = node.distribution.runtime, node.distribution.config
    lines = texts.enabling(runtime)
    if node.distribution.drop_ins:
        return FileStep(f"{node.distribution.drop_ins}/99-nri-inject.conf", lines)
    for pattern in node.nri.imports:
        if pattern.endswith("/*.toml"):
            version = files.read(node.root, config).decode(errors="replace")
            number = 3 if "version = 3" in version else 2
            text = texts.enabling(runtime, version=number)
            return FileStep(f"{PurePosixPath(pattern).parent}/nri-inject.toml", text)
    if not node.distribution.template and not files.resolve(node.root, config).exists():
        return FileStep(config, texts.enabling(runtime, version=2))
    raise ConfigError(
        f"{node.distribution.config} reads no drop-in directory; install without --enable-nri, and"
        f" {how_to_enable(node)}"
    )


def how_to_enable(node: Node) -> str:
    """Say what to write where to switch NRI on."""
    place = node.distribution.template or node.distribution.config
    table, *settings = texts.enabling(node.distribution.runtime).splitlines()
    return f"enable NRI in {place}: {' and '.join(settings)} in {table}"


# --- doing it -----------------------------------------------------------------------------------


def install(
    root: str,
    steps: Sequence[InstallStep],
    *,
    replaced: Sequence[InstalledPath] = (),
    dry: bool = False,
) -> list[PathChange]:
    """Take the steps that are not taken yet, and return what changed; `dry` changes nothing.

    `replaced` is removed first, but for what somebody has changed. Raises ConfigError before
    anything has been changed where something that is not ours is in the way, and OSError where
    the system refuses.
    """
    before = recorded(root)
    known = {entry.path: entry for entry in before}
    changes = [(step, _what(root, step, known.get(step.path))) for step in steps]
    gone = [entry for entry in replaced if exists(root, entry)]
    removed = [
        PathChange("removed" if is_unchanged(root, one) else "kept", one.path) for one in gone
    ]
    if not dry:
        made = [step for step, what in changes if what != "kept"]
        record(root, _merged(root, before, made))
        forget(root, [entry for entry in gone if is_unchanged(root, entry)])
        for step, what in changes:
            if what in ("new", "changed"):
                _take(root, step)
    return [*removed, *(PathChange(what, step.path) for step, what in changes)]


def _what(root: str, step: InstallStep, entry: InstalledPath | None) -> What:
    """Return what a step would do to what is there now."""
    where = files.resolve_parent(root, step.path)
    if not os.path.lexists(where):
        return "new"
    if isinstance(step, TreeStep | Directory):
        return "same"  # a tree's name has its content's digest
    if isinstance(step, LinkStep):
        if where.is_symlink() and str(where.readlink()) == _target(root, step):
            return "same"
        if entry is None and step.path.startswith(COMMANDS):
            return "kept"
        if entry is None:
            raise ConfigError(
                f"{step.path} exists, and install did not write it; remove it, or use another --idx"
            )
        return "changed"
    now = digest_of(where)
    if now == digest(step.text):
        return "same"
    return "changed" if entry is not None and entry.mark == now else "kept"


def _take(root: str, step: InstallStep) -> None:
    where = files.resolve_parent(root, step.path)
    files.make_directory(where.parent)
    if isinstance(step, Directory):
        files.make_directory(where, 0o750 if step.logs else 0o755)
    elif isinstance(step, TreeStep):
        _copy(Path(step.source), where)
    elif isinstance(step, LinkStep):
        files.link(where, _target(root, step))
    else:
        files.write(where, step.text.encode(), 0o644)


def _copy(source: Path, where: Path) -> None:
    """Copy a folder with modes of our own: the source may be writable by others.

    Until the modes are set, only root can enter the directory that holds the copy.
    """
    holder = Path(tempfile.mkdtemp(prefix=f".{where.name}.", dir=where.parent))
    try:
        copy = holder / where.name
        shutil.copytree(source, copy, symlinks=True)
        _seal(copy)
        os.sync()
        copy.replace(where)
    finally:
        shutil.rmtree(holder, ignore_errors=True)
    files.sync(where.parent)


def _seal(folder: Path) -> None:
    """Make a folder's content readable and executable for all, and writable for its owner only."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


def _target(root: str, link: LinkStep) -> str:
    """Return a link's text: the way from where it really is to what it is to lead to."""
    start = files.resolve(root, str(PurePosixPath(link.path).parent))
    to = PurePosixPath(link.to)
    # Not through `current`, which is to choose the copy when the link is used.
    return os.path.relpath(files.resolve_parent(root, str(to.parent)) / to.name, start)


# --- undoing it ---------------------------------------------------------------------------------


def uninstall(root: str, *, purge: bool = False, dry: bool = False) -> list[PathChange]:
    """Remove the recorded files, and return the outcome for each.

    Files and links that were changed since are kept, and stay recorded, unless `purge`. Directories
    that install created are removed when they are empty.
    """
    entries = recorded(root)
    left: list[InstalledPath] = []
    changes: list[PathChange] = []
    for entry in reversed(entries):  # the runtime's plugins first, so that no half of one starts
        if entry.kind == "directory" or not exists(root, entry):
            continue
        is_removed = purge or is_unchanged(root, entry)
        if is_removed and not dry:
            remove(root, entry)
        if not is_removed:
            left.append(entry)
        changes.append(PathChange("removed" if is_removed else "kept", entry.path))
    if not dry:
        changes += _remove_directories(root, entries, left)
    return changes


def _remove_directories(
    root: str, entries: Sequence[InstalledPath], left: list[InstalledPath]
) -> list[PathChange]:
    """Remove the record, or what is done of it, and the directories that nothing is left in."""
    removed: list[PathChange] = []
    directories = [entry for entry in entries if entry.kind == "directory"]
    if not left:
        files.resolve_parent(root, RECORD).unlink(missing_ok=True)
    for entry in sorted(directories, key=lambda entry: entry.path, reverse=True):
        try:
            files.resolve(root, entry.path).rmdir()
            removed.append(PathChange("removed", entry.path))
        except FileNotFoundError:
            continue
        except OSError:  # not empty: it has other files, too
            left.append(entry)
    if any(entry.kind != "directory" for entry in left):
        record(root, left)
    return removed


# --- the record ---------------------------------------------------------------------------------


def _merged(
    root: str, before: Sequence[InstalledPath], steps: Sequence[InstallStep]
) -> list[InstalledPath]:
    """Return the record with what these steps make, and with the directories that they need."""
    entries: dict[str, InstalledPath] = {entry.path: entry for entry in before}
    for step in steps:
        for directory in _missing_directories(root, step.path):
            entries.setdefault(directory, InstalledPath("directory", directory))
        if isinstance(step, TreeStep):
            entries[step.path] = InstalledPath("tree", step.path)
        elif isinstance(step, LinkStep):
            entries[step.path] = InstalledPath("link", step.path, _target(root, step))
        elif isinstance(step, Directory):
            if not files.resolve(root, step.path).exists():
                entries[step.path] = InstalledPath("logs" if step.logs else "directory", step.path)
        elif not _is_foreign(root, step, entries):
            entries[step.path] = InstalledPath("file", step.path, digest(step.text))
    for directory in _missing_directories(root, RECORD):
        entries.setdefault(directory, InstalledPath("directory", directory))
    return list(entries.values())


def _is_foreign(root: str, step: FileStep, entries: Mapping[str, Any]) -> bool:
    """Tell whether a file of the same words was there before us."""
    return step.path not in entries and files.resolve_parent(root, step.path).exists()


def _missing_directories(root: str, path: str) -> Iterator[str]:
    for parent in PurePosixPath(path).parents:
        if not files.resolve(root, str(parent)).exists():
            yield str(parent)


def release_of(folder: Path, version: str) -> str:
    """Return a name for a folder's content: our version and a digest of all files in it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{version}-{digest.hexdigest()[:8]}"


def outdated(root: str, build: Build, *, prefix: str = PREFIX) -> list[InstalledPath]:
    """Return the copies that are neither this one nor the one that is in use before it.

    That one stays: plugins that run go on to load their parts from it. Call it before `install`.
    """
    try:
        in_use = files.resolve_parent(root, f"{prefix}/current").readlink().name
    except OSError:
        return []
    if in_use == build.release:
        return []
    return [
        entry
        for entry in recorded(root)
        if entry.kind == "tree" and PurePosixPath(entry.path).name not in (in_use, build.release)
    ]


def forget(root: str, entries: Sequence[InstalledPath]) -> list[PathChange]:
    """Remove things, and what the record says of them."""
    for entry in entries:
        remove(root, entry)
    if entries:
        record(root, [entry for entry in recorded(root) if entry not in entries])
    return [PathChange("removed", entry.path) for entry in entries]

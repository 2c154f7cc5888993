"""Know the CDI specs in some directories, and keep knowing them as they change.

`CdiRegistry` looks at the disk; the `Snapshot` that it gives is a value. Which file defines which
device follows the Go library of CDI, except that a conflict in one directory does not take away
a sound definition in a higher one, and that a file which turns bad keeps what it had before.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from nri_inject.cdi import names, spec
from nri_inject.cdi.records import Edits, Spec, SpecDevice
from nri_inject.host import trust
from nri_inject.host.watch import FileWatch
from nri_inject.text import yamltext
from nri_inject.text.fields import Problem
from nri_inject.text.words import plain, quoted

DEFAULT_DIRECTORIES: Final = ("/etc/cdi", "/var/run/cdi")
"""The directories that CDI names, in rising priority: for people, and for programs."""

_EXTENSIONS: Final = (".json", ".yaml")
_ALMOST: Final = (".yml", ".JSON", ".YAML", ".YML")
_MOST_BYTES: Final = yamltext.SPEC_FILE.size


# --- what is known ------------------------------------------------------------------------------


class CdiDevice(NamedTuple):
    """A device that a spec file defines; `name` is the qualified one.

    `spec_edits` are the edits of the whole file, `file` its path. They are applied once for all
    devices of a file.
    """

    name: str
    file: str
    device: SpecDevice
    spec_edits: Edits

    @property
    def edits(self) -> Edits:
        """What the device itself changes in a container."""
        return self.device.edits


@dataclass(frozen=True, slots=True)
class SpecFile:
    """One file, and the result of reading it.

    `spec` is the last good version; `stale` says that the file now contains another. `problems` are
    those of the current content, `kind` is its kind, if it could be read.
    """

    path: str
    directory: str
    spec: Spec | None
    kind: str
    problems: tuple[Problem, ...]
    devices: Mapping[str, CdiDevice]
    stale: bool = False

    @property
    def errors(self) -> list[Problem]:
        """The errors that take the file, as it is now, out of use."""
        return [problem for problem in self.problems if not problem.warning]


def _nothing() -> Mapping[str, tuple[str, ...]]:
    return _NOTHING


_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known of CDI at one moment; treat its mappings as read-only.

    `errors` and `warnings` map files and directories to sentences; `conflicts` maps the names
    that several files of one directory define to those files, whether or not a higher directory
    defines the device; `shadowed` maps those that have lost against a higher directory.
    `priorities` ranks the directories; missing ones are in `missing`.
    """

    devices: Mapping[str, CdiDevice] = field(default_factory=lambda: MappingProxyType({}))
    vendors: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    errors: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    conflicts: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    shadowed: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    priorities: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    missing: tuple[str, ...] = ()
    files: tuple[SpecFile, ...] = ()


EMPTY: Final = Snapshot()
"""The snapshot of no directory."""


def snapshot(
    directories: Sequence[str],
    files: Iterable[SpecFile],
    *,
    missing: Sequence[str] = (),
    faults: Mapping[str, Sequence[str]] = _NOTHING,
    notes: Mapping[str, Sequence[str]] = _NOTHING,
) -> Snapshot:
    """Join files: choose the definition of each device, and collect the faults.

    `directories` have rising priority; `faults` and `notes` are errors and warnings with a cause
    other than a file's content.
    """
    files = tuple(files)
    errors = {path: list(sentences) for path, sentences in faults.items()}
    warnings = {path: list(sentences) for path, sentences in notes.items()}
    for file in files:
        for problem in file.problems:
            (warnings if problem.warning else errors).setdefault(file.path, []).append(str(problem))
        if file.stale:
            sentence = "the previous version of the file is still in use"
            warnings.setdefault(file.path, []).append(sentence)
    devices: dict[str, CdiDevice] = {}
    conflicts: dict[str, tuple[str, ...]] = {}
    shadowed: dict[str, tuple[str, ...]] = {}
    for directory in directories:
        of_directory, of_conflicts = _one_directory(
            [file for file in files if file.directory == directory]
        )
        for name, paths in of_conflicts.items():
            conflicts[name] = (*conflicts.get(name, ()), *paths)
            # Below two that contradict each other a third is no safer guess.
            devices.pop(name, None)
            _report_conflict(name, paths, errors)
        for name in devices.keys() & of_directory.keys():
            lost = devices[name].file
            shadowed[name] = (*shadowed.get(name, ()), lost)
            sentence = f"{quoted(name)} is overridden by {plain(of_directory[name].file)}"
            warnings.setdefault(lost, []).append(sentence)
        devices.update(of_directory)
    kinds = {names.split_kind(file.spec.kind) for file in files if file.spec}
    return Snapshot(
        devices=MappingProxyType(devices),
        vendors=tuple(sorted({vendor for vendor, _ in kinds})),
        classes=tuple(sorted({class_ for _, class_ in kinds})),
        errors=MappingProxyType({path: tuple(errors[path]) for path in sorted(errors)}),
        warnings=MappingProxyType({path: tuple(warnings[path]) for path in sorted(warnings)}),
        conflicts=MappingProxyType(conflicts),
        shadowed=MappingProxyType(shadowed),
        priorities=MappingProxyType({path: rank for rank, path in enumerate(directories)}),
        missing=tuple(missing),
        files=files,
    )


def _one_directory(
    files: Sequence[SpecFile],
) -> tuple[dict[str, CdiDevice], dict[str, tuple[str, ...]]]:
    """Return the devices of one directory, and those that several of its files define."""
    devices: dict[str, CdiDevice] = {}
    twice: set[str] = set()
    for file in files:
        twice |= devices.keys() & file.devices.keys()
        devices.update(file.devices)
    conflicts = {
        name: tuple(file.path for file in files if name in file.devices) for name in sorted(twice)
    }
    for name in twice:
        del devices[name]
    return devices, conflicts


def _report_conflict(name: str, paths: Sequence[str], errors: dict[str, list[str]]) -> None:
    for path in paths:
        others = " and ".join(plain(other) for other in paths if other != path)
        sentence = f"{quoted(name)} is also defined by {others}, so neither is used"
        errors.setdefault(path, []).append(sentence)


def read(path: str, directory: str, data: bytes, before: SpecFile | None = None) -> SpecFile:
    """Return the file for this content; `before` is its previous version.

    A file that is being written is rarely a valid spec. Its previous version then stays in use,
    because its devices still exist.
    """
    parsed = spec.parse(data)
    problems = parsed.problems
    if problems or b"\n---" in data:
        problems = spec.located(data, parsed)
    if parsed.spec is None:
        return _bad(path, directory, parsed.kind, problems, before)
    devices = _devices(path, parsed.spec)
    return SpecFile(path, directory, parsed.spec, parsed.kind, problems, devices)


def _bad(
    path: str, directory: str, kind: str, problems: tuple[Problem, ...], before: SpecFile | None
) -> SpecFile:
    if before is None or before.spec is None:
        return SpecFile(path, directory, None, kind, problems, {})
    return SpecFile(
        path, directory, before.spec, before.spec.kind, problems, before.devices, stale=True
    )


def _devices(path: str, found: Spec) -> dict[str, CdiDevice]:
    prefix = f"{found.kind}="
    return {
        prefix + device.name: CdiDevice(prefix + device.name, path, device, found.edits)
        for device in found.devices
    }


# --- looking at the disk ------------------------------------------------------------------------


Distrust: TypeAlias = Callable[[str], str | None]
"""Say why the file or directory of this path is not to be believed, or None."""

# Device and inode, size, and when content and metadata changed.
_Identity: TypeAlias = tuple[int, int, int, int, int]

# The clock that files are stamped with ticks every 4 ms or so (CONFIG_HZ). A file that changes
# twice within a tick looks the same after the second change, so one that has just changed is read
# again the next time that anything has happened.
_SETTLED: Final = 50_000_000  # nanoseconds


# A file that is in error and has changed so shortly ago may be half written.
_FRESH: Final = 1_000_000_000  # nanoseconds
# How long a request waits for such files; a runtime drops a plugin that is silent for 2 s.
PATIENCE: Final = 0.1  # seconds
_GLANCE: Final = 0.01  # seconds; not all file systems tell inotify


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was looked at last; `identity` of None means to read it again.

    `content` is the hash of what was read, `written` when that was written, in nanoseconds.
    """

    file: SpecFile
    identity: _Identity | None
    content: int | None = None
    written: int = 0


# Directories that are missing, and faults and notes that no file's content is the cause of.
_Around: TypeAlias = tuple[list[str], dict[str, list[str]], dict[str, list[str]]]


class CdiRegistry:
    """The specs of some directories, with rising priority.

    `distrust` is asked about each directory and file, unless `unsafe`; what it has an answer for
    is not used. `watched` of False is for who looks only once. `report` is given each sentence
    about a file or directory that was not true before. A request waits up to `patience` seconds
    for files that are being written. Not for use by several threads at once.
    """

    def __init__(
        self,
        directories: Iterable[str] = DEFAULT_DIRECTORIES,
        *,
        unsafe: bool = False,
        distrust: Distrust = trust.untrusted,
        watched: bool = True,
        report: Callable[[str], None] | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self._report = report
        self._patience = patience
        self._clock = clock
        # A directory that is named twice counts where it is named last.
        absolute = [os.path.abspath(path) for path in directories]  # links stay
        self._directories = tuple(reversed(dict.fromkeys(reversed(absolute))))
        self._distrust = None if unsafe else distrust
        self._watch = FileWatch(self._directories) if watched else None
        self._wait = wait or (self._watch.wait if self._watch else time.sleep)
        self._in_error: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._around: _Around = ([], {}, {})
        self._snapshot: Snapshot | None = None

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories as absolute paths, in rising priority."""
        return self._directories

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when something may have changed, or -1."""
        return self._watch.fileno() if self._watch else -1

    def ready(self) -> None:
        """Take in what has changed, so that the next request need not; never raises or waits."""
        self._take_in()

    def close(self) -> None:
        """Stop watching."""
        if self._watch:
            self._watch.close()

    def current(self) -> Snapshot:
        """Return what is on disk now; never raises.

        What a request must see was there before it: so first whatever has changed is taken in.
        A file is read only if it is not the one that was read before. Rewriting a file where it
        stands destroys what it had, so one that is being written is waited for, `patience` in
        all. One that stays half written is not waited for again.
        """
        if self._take_in() and self._watch:
            self._take_in()  # what was written while we read may have been read half
        unfinished = self._unfinished()
        self._given_up &= unfinished
        if unfinished - self._given_up:
            self._await(unfinished - self._given_up)
        return self._snapshot or EMPTY

    def _await(self, files: set[str]) -> None:
        """Wait until each of these files has been seen whole once, or for as long as we may."""
        end = self._clock() + self._patience
        while files and (left := end - self._clock()) > 0:
            self._wait(min(left, _GLANCE))
            self._take_in()
            files = files & self._unfinished()
        self._given_up |= files

    def _unfinished(self) -> set[str]:
        """Return the paths, or only the names, of files that may not be whole."""
        now = time.time_ns()
        fresh = {path for path, written in self._in_error.items() if now - written < _FRESH}
        writing = self._watch.writing() if self._watch else ()
        return fresh.union(name for name in writing if name.endswith(_EXTENSIONS))

    def _take_in(self) -> bool:
        """Read the disk if anything may have changed; return whether it may."""
        # Drained first: what changes while we look makes the next call look again.
        changed = self._watch is None or self._watch.changed()
        if not changed and self._snapshot is not None:
            return False
        before = self._snapshot or EMPTY
        with _without_collection():
            self._snapshot = self._scan()
        if self._report is not None and self._snapshot is not before:
            for sentence in _news(before, self._snapshot):
                self._report(sentence)
        return True

    def _scan(self) -> Snapshot:
        around: _Around = ([], {}, {})
        found = [(path, *one) for path in self._directories for one in self._listed(path, around)]
        if self._watch:
            # Before the files are read, or a change in between would not be reported. Changes of
            # what a link leads to are not reported for the directory that has the link.
            self._watch.follow(path for _, path, link in found if link)
        seen: dict[str, _Seen] = {}
        for directory, path, link in found:
            one = self._look(path, directory, link)
            if one is not None:
                seen[path] = one
        self._in_error = {path: one.written for path, one in seen.items() if one.file.errors}
        if self._snapshot is not None and self._unchanged(seen, around):
            return self._snapshot
        self._seen = seen
        self._around = around
        missing, faults, notes = around
        files = [one.file for one in seen.values()]
        return snapshot(self._directories, files, missing=missing, faults=faults, notes=notes)

    def _listed(self, directory: str, around: _Around) -> list[tuple[str, bool]]:
        """Return the files of a directory that may be specs, and which of them are links."""
        missing, faults, notes = around
        try:
            found = list(_candidates(directory, notes))
        except FileNotFoundError:
            missing.append(directory)
            return []
        except (OSError, ValueError) as error:  # the latter for a zero byte in its name
            faults[directory] = [_why(error)]
            return []
        why = self._distrust(directory) if self._distrust else None
        if why is not None:
            faults[directory] = [why]
            return []
        return found

    def _unchanged(self, seen: dict[str, _Seen], around: _Around) -> bool:
        """Tell whether the scan has found what is known already; if so, take its identities."""
        known = self._seen
        if around != self._around or list(seen) != list(known):
            return False
        if any(found.file is not known[path].file for path, found in seen.items()):
            return False
        self._seen = seen
        return True

    def _look(self, path: str, directory: str, link: bool) -> _Seen | None:
        """Return what a file is now, reading it only if it has changed; None if it has gone."""
        before = self._seen.get(path)
        if before and before.identity and before.identity == _identity_of(path):
            return before
        known = before.file if before else None
        try:
            data, identity, written = self._read(path)
        except FileNotFoundError as error:
            if not link:
                return None  # removed since the directory was listed
            why = f"is a dangling link: {_why(error)}"
        except (OSError, ValueError) as error:
            why = _why(error)
        else:
            content = hash(data)
            if before and known and content == before.content:
                return _Seen(known, identity, content, written)
            return _Seen(read(path, directory, data, known), identity, content, written)
        problems = (Problem("unreadable", (), why),)
        if known is not None and known.spec is None and known.problems == problems:
            return _Seen(known, None)
        # The previous version of an unreadable file is dropped: its change was on purpose.
        return _Seen(_bad(path, directory, "", problems, None), None)

    def _read(self, path: str) -> tuple[bytes, _Identity | None, int]:
        # Opening a fifo waits, opening a device may do anything; so first look what it is.
        _regular(os.stat(path))
        why = self._distrust(path) if self._distrust else None
        if why is not None:
            raise OSError(None, why)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            _regular(status)
            data = _content(descriptor, status.st_size)
            after = _identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        same = after == _identity(status) and len(data) == status.st_size
        newest = max(status.st_mtime_ns, status.st_ctime_ns)
        settled = time.time_ns() - newest > _SETTLED
        return data, (after if same and settled else None), status.st_mtime_ns


def _news(before: Snapshot, now: Snapshot) -> Iterator[str]:
    """Yield what is wrong now and was not before."""
    for old, new in ((before.errors, now.errors), (before.warnings, now.warnings)):
        for path, sentences in new.items():
            known = old.get(path, ())
            yield from (f"{plain(path)}: {text}" for text in sentences if text not in known)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Put off the search for cycles: there are none in specs, and it is a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _candidates(directory: str, notes: dict[str, list[str]]) -> Iterator[tuple[str, bool]]:
    """Yield the paths that may be specs, in the order of their bytes, and whether one is a link."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        path = f"{directory}/{entry.name}"
        if entry.name.endswith(_EXTENSIONS):
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry.is_symlink()
        elif entry.name.endswith(_ALMOST):
            sentence = f"is ignored: specs end in {' or '.join(_EXTENSIONS)}"
            notes.setdefault(path, []).append(sentence)


def _content(descriptor: int, size: int) -> bytes:
    """Read a whole file, up to a byte more than is allowed."""
    if size > _MOST_BYTES:
        raise OSError(None, f"has {size} bytes, at most {_MOST_BYTES} allowed")
    data = os.read(descriptor, size + 1)
    while len(data) <= _MOST_BYTES and (more := os.read(descriptor, 1 << 16)):
        data += more
    if len(data) > _MOST_BYTES:
        raise OSError(None, f"has more than {_MOST_BYTES} bytes")
    return data


_KINDS: Final = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFIFO: "is a fifo",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}
_REASONS: Final = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is not a directory",
    errno.EACCES: "permission denied",
    errno.ELOOP: "is a loop of links",
}


def _regular(status: os.stat_result) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise OSError(None, f"{kind}, not a file")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return plain(str(error))
    return _REASONS.get(error.errno or 0) or plain(error.strerror or str(error))


def _identity(status: os.stat_result) -> _Identity:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _identity_of(path: str) -> _Identity | None:
    try:
        return _identity(os.stat(path))
    except (OSError, ValueError):
        return None

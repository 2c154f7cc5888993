"""The CDI specs of some directories, kept current.

`CdiRegistry` follows the files; the `Snapshot` that it gives is a value. Which file defines which
device follows the Go library of CDI, except that a conflict in one directory does not take away
a sound definition in a higher one, and that a file which turns bad keeps what it had before.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from nri_inject.cdi import names, spec
from nri_inject.cdi.records import Edits, Spec, SpecDevice
from nri_inject.host.follow import FollowedFile, Follower, FollowRule, ParsedFile, Trouble
from nri_inject.text import yamltext
from nri_inject.text.fields import Problem
from nri_inject.text.words import plain, quoted

DEFAULT_DIRECTORIES: Final = ("/etc/cdi", "/var/run/cdi")
"""The directories that CDI names, in rising priority: for people, and for programs."""

EXTENSIONS: Final = (".json", ".yaml")
"""The endings of the files in these directories that are specs."""

_ALMOST: Final = (".yml", ".JSON", ".YAML", ".YML")

RULE: Final = FollowRule(half_written=True, faulty=True, untrusted=False, gone=False)
"""The version of a spec that counts while the newest one cannot be used."""


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


def read(path: str, directory: str, data: bytes) -> SpecFile:
    """Return what a file with this content is."""
    parsed = spec.parse(data)
    problems = parsed.problems
    if problems or b"\n---" in data:
        problems = spec.located(data, parsed)
    devices = _devices(path, parsed.spec) if parsed.spec else {}
    return SpecFile(path, directory, parsed.spec, parsed.kind, problems, devices)


def _parse(path: str, data: bytes) -> ParsedFile[SpecFile]:
    found = read(path, path.rpartition("/")[0], data)
    return ParsedFile(found, "" if found.spec else "faulty")


def _known(file: FollowedFile[SpecFile]) -> SpecFile:
    """Return a file that is followed, with the devices that count."""
    now = file.newest or SpecFile(file.path, file.path.rpartition("/")[0], None, "", (), {})
    if not file.trouble:
        return now
    if file.error:
        now = replace(now, problems=(*now.problems, Problem("unreadable", (), file.error)))
    good = file.counts
    if good is None:
        return replace(now, spec=None, devices={})
    return replace(now, spec=good.spec, kind=good.kind, devices=good.devices, stale=True)


def _devices(path: str, found: Spec) -> dict[str, CdiDevice]:
    prefix = f"{found.kind}="
    return {
        prefix + device.name: CdiDevice(prefix + device.name, path, device, found.edits)
        for device in found.devices
    }


# --- looking at the disk ------------------------------------------------------------------------


# A file that is in error and has changed so shortly ago may be half written.
_FRESH: Final = 1_000_000_000  # nanoseconds
# How long a request waits for such files; a runtime drops a plugin that is silent for 2 s.
PATIENCE: Final = 0.1  # seconds
_GLANCE: Final = 0.01  # seconds; not all file systems tell inotify


class CdiRegistry:
    """The specs of some directories, with rising priority.

    With `unsafe` nobody asks who could have written a file. `watched` of False is for who looks
    only once. `report` is given each sentence about a file or directory that was not true before.
    A request waits up to `patience` seconds for files that are being written. Not for use by
    several threads at once.
    """

    def __init__(
        self,
        directories: Iterable[str] = DEFAULT_DIRECTORIES,
        *,
        unsafe: bool = False,
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
        self._follower = Follower(
            _parse,
            RULE,
            max_size=yamltext.SPEC_FILE.size,
            directories=self._directories,
            suffixes=EXTENSIONS,
            skip_directories=True,
            unsafe=unsafe,
            watched=watched,
        )
        self._wait = wait or self._follower.wait
        self._given_up: set[tuple[str, Trouble]] = set()
        self._bad: Sequence[FollowedFile[SpecFile]] = ()
        self._from: tuple[object, ...] = ()
        self._snapshot: Snapshot = EMPTY

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories as absolute paths, in rising priority."""
        return self._directories

    @property
    def errors(self) -> Mapping[str, Sequence[str]]:
        """The errors in files and directories, as of the last look."""
        return self._snapshot.errors

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when something may have changed, or -1."""
        return self._follower.fileno()

    def ready(self) -> None:
        """Take in what has changed, so that the next request need not; never raises or waits."""
        self._take_in()

    def close(self) -> None:
        """Stop watching."""
        self._follower.close()

    def current(self) -> Snapshot:
        """Return what is on disk now; never raises.

        What a request must see was there before it: so first whatever has changed is taken in.
        A file is read only if it is not the one that was read before. Rewriting a file where it
        stands destroys what it had, so one that is being written is waited for, `patience` in
        all. One that stays half written is not waited for again.
        """
        self._take_in()
        unfinished = self._unfinished()
        self._given_up &= unfinished
        if unfinished - self._given_up:
            self._await(unfinished - self._given_up)
        return self._snapshot

    def _await(self, files: set[tuple[str, Trouble]]) -> None:
        """Wait until each of these files has been seen whole once, or for as long as we may."""
        end = self._clock() + self._patience
        while files and (left := end - self._clock()) > 0:
            self._wait(min(left, _GLANCE))
            self._take_in()
            files = files & self._unfinished()
        self._given_up |= files

    def _unfinished(self) -> set[tuple[str, Trouble]]:
        """Return the files that may not be whole, and why."""
        now = time.time_ns()
        return {
            (file.path, file.trouble)
            for file in self._bad
            if file.trouble == "half written"
            or (file.trouble == "faulty" and now - file.written < _FRESH)
        }

    def _take_in(self) -> None:
        """Look at the disk if anything may have changed."""
        with _without_collection():
            if not self._follower.look():
                return
        follower, before = self._follower, self._snapshot
        self._bad = [file for file in follower.files.values() if file.trouble]
        found = (follower.files, follower.faults, notes := self._notes())
        if found == self._from:
            return
        self._from = found
        faults = follower.faults
        self._snapshot = snapshot(
            self._directories,
            map(_known, follower.files.values()),
            missing=[path for path, fault in faults.items() if fault.trouble == "gone"],
            faults={p: [fault.error] for p, fault in faults.items() if fault.trouble != "gone"},
            notes=notes,
        )
        if self._report is not None:
            for sentence in _news(before, self._snapshot):
                self._report(sentence)

    def _notes(self) -> dict[str, list[str]]:
        sentence = f"is ignored: specs end in {' or '.join(EXTENSIONS)}"
        return {
            f"{directory}/{name}": [sentence]
            for directory, names in self._follower.names.items()
            for name in names
            if name.endswith(_ALMOST)
        }


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

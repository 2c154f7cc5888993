"""The hook definitions of some directories: read when their files change, ready when requested."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from nri_inject.hooks import (
    Definition,
    FaultKind,
    HookFault,
    HookIndex,
    HookReading,
    in_order,
    order,
    read,
)
from nri_inject.host import trust, walk
from nri_inject.host.watch import FileWatch
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

DIRECTORIES: Final = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
"""Where packages and where admins put hook files (podman, CRI-O); the later one wins."""

MAX_FILE: Final = 1 << 20
"""How many bytes a hook file may have."""

BUDGET: Final = 1.0
"""How many seconds a request may be kept for reading files. A runtime allows a plugin two."""

# A file that changes twice within the kernel's tick of 10 ms at most has the same times after
# both; so one that had just changed when it was read is read again at the next occasion.
_TICK: Final = 100_000_000  # ns


class _FileVersion(NamedTuple):
    """The numbers that identify a version of a file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class _HookFile:
    """The cached content of a file: its current reading, and the last whole one.

    `version` is None if it must be read again in any case.
    """

    version: _FileVersion | None
    reading: HookReading
    good: Definition | None = None

    @property
    def is_stale(self) -> bool:
        return self.good is not None and self.reading.definition is None


_Files: TypeAlias = dict[str, _HookFile]


class HookRegistry:
    """Keep the definitions of directories up to date; later directories win, by file name.

    A file that cannot be parsed keeps its previous meaning, since it may be half written; any other
    fault drops it. Neither replaces the file of the same name in an earlier directory. `unsafe`
    skips the check of owners and modes of files and programs. Directories, files and programs are
    paths below `host_root`. `extension_stages` are stages of other tools that files may name.
    """

    def __init__(
        self,
        directories: Sequence[str] = DIRECTORIES,
        *,
        unsafe: bool = False,
        host_root: str = "/",
        extension_stages: Collection[str] = (),
        budget: float = BUDGET,
    ) -> None:
        self._directories = tuple(dict.fromkeys(directories))
        self._unsafe = unsafe
        self._root = host_root.rstrip("/") or "/"
        self._extension_stages = frozenset(extension_stages)
        self._budget = budget
        self._watch = FileWatch(self._directories, self._root)
        self._files: _Files = {}
        self._pending = False
        self._definitions = HookIndex()
        self._faults: Mapping[str, tuple[HookFault, ...]] = MappingProxyType({})
        self._errors: Mapping[str, tuple[str, ...]] = MappingProxyType({})
        self._rescan(None)

    def current(self) -> HookIndex:
        """Return the definitions in order of injection, as the directories are now.

        Never raises. After `budget` seconds of reading, further changed files are left for the
        next call, and are among the errors until then.
        """
        if self._watch.changed() or self._pending:
            self._rescan(self._budget)
        return self._definitions

    @property
    def errors(self) -> Mapping[str, tuple[str, ...]]:
        """Everything that is wrong, in sentences by file or directory, as of the last look."""
        return self._errors

    @property
    def faults(self) -> Mapping[str, tuple[HookFault, ...]]:
        """The faults behind `errors`, without remarks on what remains in force."""
        return self._faults

    def fileno(self) -> int:
        """Return a descriptor that can be read when something has changed."""
        return self._watch.fileno()

    def ready(self) -> None:
        """Look at what has changed, however long it takes."""
        if self._watch.changed() or self._pending:
            self._rescan(None)

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def _rescan(self, budget: float | None) -> None:
        try:
            scan = _Scan(self, budget)
            scan.run()
            self._watch.follow(scan.followed)
        except Exception:  # whatever it is, containers must be created meanwhile
            log.exception("cannot read the hook directories; the previous hooks stay in force")
            return
        self._files, self._pending = scan.files, scan.pending
        self._tell(scan)
        if scan.definitions != [*self._definitions]:
            self._definitions = HookIndex(scan.definitions)
        self._faults = MappingProxyType(scan.faults)
        self._errors = MappingProxyType(scan.errors())

    def _tell(self, scan: _Scan) -> None:
        """Log what is new."""
        for file, sentences in scan.errors().items():
            for sentence in sentences:
                if sentence not in self._errors.get(file, ()):
                    log.warning("hook file %s: %s", plain(file), sentence)
        if scan.definitions != [*self._definitions]:
            log.info("%d OCI hooks are in force", len(scan.definitions))


class _Scan:
    """One pass over all directories; unchanged files are taken from the previous pass."""

    def __init__(self, registry: HookRegistry, budget: float | None) -> None:
        self._directories = registry._directories
        self._unsafe = registry._unsafe
        self._root = registry._root
        self._extension_stages = registry._extension_stages
        self._before = registry._files
        self._until = None if budget is None else time.monotonic() + budget
        self._now = time.time_ns()
        self._programs: dict[str, HookFault | None] = {}
        self.files: _Files = {}
        self.pending = False
        self.definitions: list[Definition] = []
        self.faults: dict[str, tuple[HookFault, ...]] = {}
        self.remarks: dict[str, list[str]] = {}
        self.followed: set[str] = set()

    def run(self) -> None:
        by_name: dict[str, list[str]] = {}
        for directory in self._directories:
            walked = self._walk(directory)
            for name in self._names(directory, walked):
                file = f"{directory.rstrip('/')}/{name}"
                by_name.setdefault(name, []).append(file)
                self._visit(file, name, walked[-1])
        for files in by_name.values():
            definition = self._choose(files)
            if definition is not None:
                self.definitions.append(definition)
        self.definitions.sort(key=lambda definition: order(definition.file))

    def errors(self) -> dict[str, tuple[str, ...]]:
        files = {**self.faults, **self.remarks}
        return {
            file: (*map(str, self.faults.get(file, ())), *self.remarks.get(file, ()))
            for file in files
        }

    # --- directories ---

    def _walk(self, directory: str) -> list[walk.PathStep]:
        """Return the steps to a directory; an empty list if it cannot be read."""
        try:
            walked = list(walk.steps(directory, self._root))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            self._fault(directory, FaultKind.UNREADABLE, trust.unreachable(directory, error))
            return []
        if not stat.S_ISDIR(walked[-1].status.st_mode):
            self._fault(directory, FaultKind.UNREADABLE, f"{plain(directory)} is not a directory")
            return []
        refused = None if self._unsafe else trust.trouble(walked)
        if refused:
            self._fault(directory, FaultKind.UNTRUSTED, f"{refused}; its files are not read")
            return []
        return walked

    def _names(self, directory: str, walked: list[walk.PathStep]) -> list[str]:
        """Return the names of hook files in a directory, in the order of their bytes."""
        if not walked:
            return []
        try:
            names = os.listdir(self._below_root(walked[-1].path))
        except OSError as error:
            self._fault(directory, FaultKind.UNREADABLE, trust.unreachable(directory, error))
            return []
        return sorted((name for name in names if name.endswith(".json")), key=os.fsencode)

    # --- files ---

    def _visit(self, file: str, name: str, directory: walk.PathStep) -> None:
        """Read a file, unless it is unchanged."""
        before = self._before.get(file)
        path = f"{directory.path.rstrip('/')}/{name}"
        try:
            end = walk.PathStep(path, os.lstat(self._below_root(path)))
        except OSError:
            return  # removed since it was listed
        walked = [directory, end]
        if stat.S_ISLNK(end.status.st_mode):
            self.followed.add(path)
            try:
                walked = list(walk.steps(path, self._root))
            except (OSError, ValueError) as error:
                self._bad(file, FaultKind.UNREADABLE, _link_sentence(path, error))
                return
            end = walked[-1]
        refused = None if self._unsafe else trust.trouble(walked)
        if refused:
            self._bad(file, FaultKind.UNTRUSTED, refused)
        elif not stat.S_ISREG(end.status.st_mode):
            self._bad(file, FaultKind.UNREADABLE, "is not a regular file")
        elif end.status.st_size > MAX_FILE:
            sentence = f"has {end.status.st_size} bytes, at most {MAX_FILE} allowed"
            self._bad(file, FaultKind.UNREADABLE, sentence)
        elif before is not None and before.version == _version(end.status):
            self.files[file] = before
        elif self._until is not None and time.monotonic() > self._until:
            self.pending = True
            self._remark(file, "not read yet: too many hook files changed at the same time")
            if before is not None:
                self.files[file] = before
        else:
            self._read(file, end, before)

    def _read(self, file: str, end: walk.PathStep, before: _HookFile | None) -> None:
        try:
            data = _content(self._below_root(end.path), end.status)
        except OSError as error:
            self._bad(file, FaultKind.UNREADABLE, f"cannot be read: {error.strerror}")
            return
        reading = read(data, self._extension_stages)
        good = reading.definition and dataclasses.replace(reading.definition, file=file)
        if good is None and before is not None and _may_be_half_written(reading):
            good = before.good
        version = _version(end.status)
        is_settled = self._now - max(version.mtime_ns, version.ctime_ns) > _TICK
        self.files[file] = _HookFile(version if is_settled else None, reading, good)

    def _bad(self, file: str, kind: FaultKind, sentence: str) -> None:
        self.files[file] = _HookFile(None, HookReading(None, (HookFault(kind, "", sentence),)))

    # --- which file counts ---

    def _choose(self, files: list[str]) -> Definition | None:
        """Return the definition of files of one name, the later directory's first.

        One whose program cannot be run stands in only where there is no other.
        """
        chosen: Definition | None = None
        broken: list[str] = []
        substitute: Definition | None = None
        for file in reversed(files):
            known = self.files.get(file)
            if known is None:
                continue
            program = self._program(known)
            self._report(file, known, program)
            if known.good is None:
                broken.append(file)
            elif program is not None:
                broken.append(file)
                unusable = dataclasses.replace(known.good, unusable=program.sentence)
                substitute = substitute or unusable
            elif chosen is None:
                chosen = known.good
                for other in broken:
                    self._remark(other, f"so {plain(file)} stays in force")
        return chosen or substitute

    def _report(self, file: str, known: _HookFile, program: HookFault | None) -> None:
        faults = in_order(known.reading, program)
        if faults:
            self.faults[file] = faults
        if known.is_stale:
            self._remark(file, "stale: the previous version stays in force")

    def _program(self, known: _HookFile) -> HookFault | None:
        """Say why the program of a file cannot be run, or must not be."""
        path = known.good.path if known.good else known.reading.program
        if not path or (known.good and not known.good.runs_on_host):
            return None
        self.followed.add(path)
        if path not in self._programs:
            self._programs[path] = program_fault(path, root=self._root, unsafe=self._unsafe)
        return self._programs[path]

    # --- small things ---

    def _fault(self, file: str, kind: FaultKind, sentence: str) -> None:
        self.faults[file] = (*self.faults.get(file, ()), HookFault(kind, "", sentence))

    def _remark(self, file: str, sentence: str) -> None:
        self.remarks.setdefault(file, []).append(sentence)

    def _below_root(self, path: str) -> str:
        return self._root.rstrip("/") + path


def program_fault(path: str, *, root: str = "/", unsafe: bool = False) -> HookFault | None:
    """Say why a hook's program cannot be run or must not be; None if there is no objection.

    As in the library, a directory and a file without execute permission pass: `program_warning`
    has a word on them.
    """
    try:
        walked = list(walk.steps(path, root))
    except (OSError, ValueError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        kind = FaultKind.PROGRAM_MISSING if is_missing else FaultKind.PROGRAM_UNUSABLE
        return HookFault(kind, "hook.path", f"program {trust.unreachable(path, error, root)}")
    refused = None if unsafe else trust.trouble(walked)
    return (
        refused and HookFault(FaultKind.PROGRAM_UNTRUSTED, "hook.path", f"program {refused}")
    ) or None


def program_warning(path: str, *, root: str = "/") -> str | None:
    """Say why a program that is there would not run."""
    try:
        *_, end = walk.steps(path, root)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(end.status.st_mode):
        return f"program {plain(path)} is not a regular file"
    if not end.status.st_mode & 0o111:
        return f"program {plain(path)} is not executable"
    return None


def file_reading(
    file: str, *, root: str = "/", unsafe: bool = False, extension_stages: Collection[str] = ()
) -> tuple[HookReading, tuple[HookFault, ...]]:
    """Read one file by itself: what it says, and every fault, those of its program included."""
    try:
        walked = list(walk.steps(file, root))
        refused = None if unsafe else trust.trouble(walked)
        if refused:
            faults = (HookFault(FaultKind.UNTRUSTED, "", refused),)
            return HookReading(None, faults), faults
        end = walked[-1]
        if not stat.S_ISREG(end.status.st_mode) or end.status.st_size > MAX_FILE:
            raise OSError(errno.EINVAL, f"is not a regular file of at most {MAX_FILE} bytes")
        data = _content(root.rstrip("/") + end.path, end.status)
    except (OSError, ValueError) as error:
        faults = (HookFault(FaultKind.UNREADABLE, "", trust.unreachable(file, error)),)
        return HookReading(None, faults), faults
    reading = read(data, extension_stages)
    program = None
    needed = reading.definition is None or reading.definition.runs_on_host
    if reading.program and needed:
        program = program_fault(reading.program, root=root, unsafe=unsafe)
    return reading, in_order(reading, program)


def _content(path: str, expected: os.stat_result) -> bytes:
    """Read a file that has been looked at, and no other that may have taken its place.

    Opening does not wait for a fifo's other end, and does not follow a link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
            raise OSError(errno.ESTALE, "it was replaced while it was read")
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise OSError(errno.EFBIG, f"it has more than {MAX_FILE} bytes")
    return data


def _version(status: os.stat_result) -> _FileVersion:
    return _FileVersion(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _may_be_half_written(reading: HookReading) -> bool:
    return any(fault.kind is FaultKind.JSON_SYNTAX for fault in reading.faults)


def _link_sentence(file: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename not in (None, file):
        return f"is a link to {plain(str(error.filename))}, which does not exist"
    return trust.unreachable(file, error)

"""The hook definitions of some directories: read when their files change, ready when requested."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from nri_inject.hooks.definition import Definition, FaultKind, HookFault, HookReading, in_order
from nri_inject.hooks.hook_file import read
from nri_inject.hooks.index import HookIndex
from nri_inject.hooks.match import order
from nri_inject.host import follow, trust, walk
from nri_inject.host.follow import Follower, FollowRule, ParsedFile, Trouble
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

DIRECTORIES: Final = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
"""Where packages and where admins put hook files (podman, CRI-O); the later one wins."""

MAX_FILE: Final = 1 << 20
"""How many bytes a hook file may have."""

BUDGET: Final = 1.0
"""How many seconds a request may be kept for reading files. A runtime allows a plugin two."""

EXTENSIONS: Final = (".json",)
"""The endings of the files in these directories that are hook files."""

RULE: Final = FollowRule(half_written=True, faulty=False, untrusted=False, gone=False)
"""The version of a hook file that counts while the newest one cannot be used."""

_HookFile = follow.FollowedFile[HookReading]


class HookRegistry:
    """Keep the definitions of directories up to date; later directories win, by file name.

    A file that cannot be parsed keeps its previous meaning, since it may be half written; any other
    fault drops it. Neither replaces the file of the same name in an earlier directory. `unsafe`
    skips the check of owners and modes of files and programs. Directories, files and programs are
    paths below `host_root`.
    """

    def __init__(
        self,
        directories: Sequence[str] = DIRECTORIES,
        *,
        unsafe: bool = False,
        host_root: str = "/",
        budget: float = BUDGET,
    ) -> None:
        self._root = host_root.rstrip("/") or "/"
        self._unsafe = unsafe
        self._budget = budget
        self._follower = Follower(
            _parse,
            RULE,
            max_size=MAX_FILE,
            directories=tuple(dict.fromkeys(directories)),
            suffixes=EXTENSIONS,
            root=self._root,
            unsafe=unsafe,
        )
        self._definitions = HookIndex()
        self._faults: Mapping[str, tuple[HookFault, ...]] = MappingProxyType({})
        self._errors: Mapping[str, tuple[str, ...]] = MappingProxyType({})
        self._look(None)

    def current(self) -> HookIndex:
        """Return the definitions in order of injection, as the directories are now.

        Never raises. After `budget` seconds of reading, further changed files are left for the
        next call, and are among the errors until then.
        """
        self._look(self._budget)
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
        return self._follower.fileno()

    def ready(self) -> None:
        """Look at what has changed, however long it takes."""
        self._look(None)

    def close(self) -> None:
        """Stop watching."""
        self._follower.close()

    def _look(self, budget: float | None) -> None:
        try:
            if self._follower.look(budget):
                chosen = _Choice(self._follower, self._root, unsafe=self._unsafe)
                self._follower.follow_also(chosen.programs)
                self._take(chosen)
        except Exception:  # whatever it is, containers must be created meanwhile
            log.exception("cannot read the hook directories; the previous hooks stay in force")

    def _take(self, choice: _Choice) -> None:
        """Log what is new, and put it in force."""
        errors = choice.errors()
        for file, sentences in errors.items():
            for sentence in sentences:
                if sentence not in self._errors.get(file, ()):
                    log.warning("hook file %s: %s", plain(file), sentence)
        if choice.definitions != [*self._definitions]:
            log.info("%d OCI hooks are in force", len(choice.definitions))
            self._definitions = HookIndex(choice.definitions)
        self._faults = MappingProxyType(choice.faults)
        self._errors = MappingProxyType(errors)


def _parse(path: str, data: bytes) -> ParsedFile[HookReading]:
    reading = read(data)
    if any(fault.kind is FaultKind.JSON_SYNTAX for fault in reading.faults):
        return ParsedFile(reading, "half written")
    if reading.definition is None:
        return ParsedFile(reading, "faulty")
    definition = dataclasses.replace(reading.definition, file=path)
    return ParsedFile(dataclasses.replace(reading, definition=definition))


class _Choice:
    """Which files count: of those with the same name, the one in the later directory."""

    def __init__(self, follower: Follower[HookReading], root: str, *, unsafe: bool) -> None:
        self._root = root
        self._unsafe = unsafe
        self.programs: dict[str, HookFault | None] = {}
        self.definitions: list[Definition] = []
        self.faults: dict[str, tuple[HookFault, ...]] = {
            directory: (HookFault(_KINDS[fault.trouble], "", fault.error),)
            for directory, fault in follower.faults.items()
            if fault.trouble != "gone"
        }
        self.remarks: dict[str, list[str]] = {}
        for path in follower.pending:
            self._remark(path, "not read yet: too many hook files changed at the same time")
        by_name: dict[str, list[_HookFile]] = {}
        for path, file in follower.files.items():
            by_name.setdefault(path.rpartition("/")[2], []).append(file)
        for files in by_name.values():
            definition = self._choose(files)
            if definition is not None:
                self.definitions.append(definition)
        self.definitions.sort(key=lambda definition: order(definition.file))

    def errors(self) -> dict[str, tuple[str, ...]]:
        """Return everything that is wrong, in sentences by file or directory."""
        return {
            file: (*map(str, self.faults.get(file, ())), *self.remarks.get(file, ()))
            for file in {**self.faults, **self.remarks}
        }

    def _choose(self, files: list[_HookFile]) -> Definition | None:
        """Return the definition of files of one name, the later directory's last.

        One whose program cannot be run stands in only where there is no other.
        """
        chosen: Definition | None = None
        broken: list[str] = []
        substitute: Definition | None = None
        for file in reversed(files):
            good = file.counts.definition if file.counts else None
            program = self._program(file.newest or HookReading(None), good)
            self._report(file, program)
            if good is None:
                broken.append(file.path)
            elif program is not None:
                broken.append(file.path)
                unusable = dataclasses.replace(good, unusable=program.sentence)
                substitute = substitute or unusable
            elif chosen is None:
                chosen = good
                for other in broken:
                    self._remark(other, f"so {plain(file.path)} stays in force")
        return chosen or substitute

    def _report(self, file: _HookFile, program: HookFault | None) -> None:
        faults = in_order(file.newest or HookReading(None), program)
        if file.error:
            faults = (HookFault(_KINDS[file.trouble], "", file.error), *faults)
        if faults:
            self.faults[file.path] = faults
        if file.trouble and file.counts:
            self._remark(file.path, "stale: the previous version stays in force")

    def _program(self, newest: HookReading, good: Definition | None) -> HookFault | None:
        """Say why the program of a file cannot be run, or must not be."""
        path = good.path if good else newest.program
        if not path or (good and not good.runs_on_host):
            return None
        if path not in self.programs:
            self.programs[path] = program_fault(path, root=self._root, unsafe=self._unsafe)
        return self.programs[path]

    def _remark(self, file: str, sentence: str) -> None:
        self.remarks.setdefault(file, []).append(sentence)


_KINDS: Final[Mapping[Trouble, FaultKind]] = {
    "half written": FaultKind.UNREADABLE,
    "untrusted": FaultKind.UNTRUSTED,
    "unreadable": FaultKind.UNREADABLE,
}


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


def file_reading(
    file: str, *, root: str = "/", unsafe: bool = False
) -> tuple[HookReading, tuple[HookFault, ...]]:
    """Read one file by itself: what it says, and every fault, those of its program included."""
    follower = Follower(
        _parse,
        RULE,
        max_size=MAX_FILE,
        files=[file],
        root=root,
        unsafe=unsafe,
        watched=False,
    )
    follower.look()
    found = follower.files[file]
    if found.newest is None:
        faults = (HookFault(_KINDS.get(found.trouble, FaultKind.UNREADABLE), "", found.sentence),)
        return HookReading(None, faults), faults
    reading = found.newest
    program = None
    needed = reading.definition is None or reading.definition.runs_on_host
    if reading.program and needed:
        program = program_fault(reading.program, root=root, unsafe=unsafe)
    return reading, in_order(reading, program)

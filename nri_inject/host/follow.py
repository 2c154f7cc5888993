"""The follower of files: which version of a file counts while the file changes.

Configuration, policy, CDI specs and hook files are followed here. They differ in what counts while
the newest version of a file cannot be used: that is the `FollowRule` which each kind of file has.
docs/architecture.md has the rules in a table.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from nri_inject.errors import ConfigError
from nri_inject.host import trust, walk
from nri_inject.host.walk import PathStep
from nri_inject.host.watch import FileWatch
from nri_inject.text.words import plain

T = TypeVar("T")

Trouble: TypeAlias = Literal["", "half written", "faulty", "untrusted", "unreadable", "gone"]
"""Why the newest version of a file does not count; empty if it does."""


class FollowRule(NamedTuple):
    """Whether the version before counts while the newest one cannot be used; else none does.

    `half_written`: a program still writes the file, or its text ends in the middle. `faulty`: it
    means nothing. `untrusted`: others could have written it, or it cannot be read.
    """

    half_written: bool
    faulty: bool
    untrusted: bool
    gone: bool

    def keeps(self, trouble: Trouble) -> bool:
        """Tell whether the version before counts."""
        return {
            "": False,
            "half written": self.half_written,
            "faulty": self.faulty,
            "untrusted": self.untrusted,
            "unreadable": self.untrusted,
            "gone": self.gone,
        }[trouble]


class ParsedFile(NamedTuple, Generic[T]):
    """What a text says, and why it does not count, if it does not."""

    says: T | None
    trouble: Trouble = ""
    error: str = ""


class Identity(NamedTuple):
    """Tell a version of a file from another one, without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class FollowedFile(Generic[T]):
    """A file as it is known.

    `newest` is what its newest version says, if it could be read; `counts` is what the version
    that counts says, None if there is none. `error` says why the newest one does not count: a
    predicate of the file, and a sentence of its own for an untrusted one. `written` is when the
    content was written, in nanoseconds.
    """

    path: str
    newest: T | None = None
    counts: T | None = None
    trouble: Trouble = ""
    error: str = ""
    written: int = field(default=0, compare=False)
    identity: Identity | None = field(default=None, compare=False)
    content: tuple[int, ParsedFile[T]] | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """The error with its subject; empty if there is none."""
        if not self.error or self.trouble == "faulty":
            return self.error
        if self.trouble == "untrusted":
            return f"{self.error}; refusing to read it"
        return f"{plain(self.path)} {self.error}"


class PathFault(NamedTuple):
    """What is wrong with a directory: `error` is a predicate of it, or a sentence if untrusted."""

    trouble: Trouble
    error: str


# The clock that files are stamped with ticks every 10 ms at most (CONFIG_HZ). A file that changes
# twice within a tick looks the same after the second change, so one that has just changed is read
# again the next time that anything has happened.
_SETTLED: Final = 100_000_000  # nanoseconds

# A file that changes while it is read is read again, but not for ever.
_MAX_LOOKS: Final = 3

_TYPES: Final = {
    stat.S_IFDIR: "is a directory, not a file",
    stat.S_IFIFO: "is a fifo, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


class _Unusable(Exception):
    """A file that cannot be read, or must not be."""

    def __init__(self, trouble: Trouble, error: str) -> None:
        super().__init__(error)
        self.trouble = trouble
        self.error = error


class Follower(Generic[T]):
    """Follow single files, and those in directories whose names end in one of `suffixes`.

    A directory of such a name is an unreadable file, unless `skip_directories`.

    `parse` gets the path and the content of a file of at most `max_size` bytes. With `unsafe`
    nobody asks who could have written a file; with `sealed` nobody asks for directories that are
    mounted read-only, as ConfigMaps are. `root` is put in front of every path. A follower that is
    not `watched` is for one look. Not for use by several threads at once.

    `files` are in the order of the directories and of their names' bytes, `faults` are of
    directories, `names` has what each directory that can be read lists.
    """

    def __init__(
        self,
        parse: Callable[[str, bytes], ParsedFile[T]],
        rule: FollowRule,
        *,
        max_size: int,
        files: Sequence[str] = (),
        directories: Sequence[str] = (),
        suffixes: tuple[str, ...] = (),
        skip_directories: bool = False,
        root: str = "/",
        unsafe: bool = False,
        sealed: bool = False,
        watched: bool = True,
    ) -> None:
        self._parse = parse
        self._rule = rule
        self._max_size = max_size
        self._single = files
        self._directories = directories
        self._suffixes = suffixes
        self._skip_directories = skip_directories
        self._root = root.rstrip("/")
        self._unsafe = unsafe
        self._sealed = sealed
        self._watch = FileWatch(directories, root) if watched else None
        self._links: set[str] = set()
        self._also: frozenset[str] = frozenset()
        self._looks_again = True
        self.pending: set[str] = set()
        self.files: dict[str, FollowedFile[T]] = {}
        self.faults: dict[str, PathFault] = {}
        self.names: dict[str, list[str]] = {}
        self._follow()

    def fileno(self) -> int:
        """Return a descriptor that can be read when something may have changed, or -1."""
        return self._watch.fileno() if self._watch else -1

    def close(self) -> None:
        """Stop watching."""
        if self._watch:
            self._watch.close()

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed, or until so much time has passed."""
        if self._watch:
            self._watch.wait(seconds)
        else:
            time.sleep(seconds)

    def follow_also(self, paths: Iterable[str]) -> None:
        """Look again when one of these changes, too, such as a program that a file names."""
        self._also = frozenset(paths)
        self._follow()

    def look(self, seconds: float | None = None) -> bool:
        """Look at what may have changed, and tell whether anything may have.

        After so many seconds further changed files are left for the next call, and are `pending`.
        """
        if not (self._has_changed() or self._looks_again):
            return False
        until = None if seconds is None else time.monotonic() + seconds
        for _ in range(_MAX_LOOKS):
            changed = self._look(until)
            if not changed:
                break
        self._looks_again = changed or bool(self.pending)
        return True

    def _has_changed(self) -> bool:
        return self._watch is None or self._watch.changed()

    def _follow(self) -> None:
        # Changes of what a link leads to are not reported for the directory that has the link.
        if self._watch:
            self._watch.follow({*self._single, *self._links, *self._also})

    def _look(self, until: float | None) -> bool:
        """Look at everything, and tell whether anything has changed meanwhile."""
        self.faults, self.names, self.pending = {}, {}, set()
        found = {path: (path, None) for path in self._single} | dict(self._listed())
        links: set[str] = set()
        files: dict[str, FollowedFile[T]] = {}
        ends: dict[str, str] = {}
        for path, (place, directory) in found.items():
            before = self.files.get(path, FollowedFile(path))
            try:
                walked = self._walked(place, directory, links)
                file = self._seen(before, walked, until)
                if file.content is not None:  # else it is pending, and has never been read
                    files[path] = file
                    ends[path] = walked[-1].path
            except _Unusable as why:
                if why.trouble != "gone" or directory is None:  # else removed since it was listed
                    files[path] = self._bad(before, before, why.trouble, why.error)
        self._links = links
        self._follow()
        changed = self._watch is not None and self._watch.changed()
        writing = self._watch.writing() if self._watch else set()
        for path in ends if writing else ():
            if not writing.isdisjoint(map(os.path.basename, (path, ends[path]))):
                before = self.files.get(path, FollowedFile(path))
                files[path] = self._bad(files[path], before, "half written", "is being written")
        self.files = files
        return changed

    # --- directories ---

    def _listed(self) -> Iterable[tuple[str, tuple[str, PathStep]]]:
        for directory in self._directories:
            try:
                end = self._directory(directory)
                names = sorted(os.listdir(self._root + end.path), key=os.fsencode)
            except FileNotFoundError:
                self.faults[directory] = PathFault("gone", "does not exist")
                continue
            except (OSError, ValueError) as error:
                self.faults[directory] = PathFault("unreadable", _predicate(directory, error))
                continue
            except _Unusable as why:
                self.faults[directory] = PathFault(
                    why.trouble, f"{why.error}; its files are not read"
                )
                continue
            self.names[directory] = names
            for name in names:
                if name.endswith(self._suffixes):
                    place = f"{end.path.rstrip('/')}/{name}"
                    yield f"{directory.rstrip('/')}/{name}", (place, end)

    def _directory(self, path: str) -> PathStep:
        walked = [*walk.steps(path, self._root)]
        end = walked[-1]
        if not stat.S_ISDIR(end.status.st_mode):
            raise walk.Refused(path, "is not a directory")
        if not self._unsafe and (why := trust.trouble(walked)):
            raise _Unusable("untrusted", why)
        return end

    # --- one file ---

    def _walked(self, place: str, directory: PathStep | None, links: set[str]) -> list[PathStep]:
        """Return what leads to a file, from its directory on if that has been looked at."""
        try:
            if directory is None:
                return [*walk.steps(place, self._root)]
            end = PathStep(place, os.lstat(self._root + place))
            if self._skip_directories and stat.S_ISDIR(end.status.st_mode):
                raise _Unusable("gone", "")
            if not stat.S_ISLNK(end.status.st_mode):
                return [directory, end]
        except FileNotFoundError as error:
            raise _Unusable("gone", _predicate(place, error)) from error
        except (OSError, ValueError) as error:
            raise _Unusable("unreadable", _predicate(place, error)) from error
        links.add(place)
        try:
            return [*walk.steps(place, self._root)]
        except FileNotFoundError as error:
            why = f"is a link to {plain(str(error.filename))}, which does not exist"
            raise _Unusable("unreadable", why) from error
        except OSError as error:
            raise _Unusable("unreadable", _predicate(place, error)) from error

    def _seen(
        self, before: FollowedFile[T], walked: list[PathStep], until: float | None
    ) -> FollowedFile[T]:
        """Return a file as it is now, read only if it is not the one that was read before."""
        status = walked[-1].status
        judged = trust.unsealed(walked) if self._sealed else walked
        if not self._unsafe and (why := trust.trouble(judged)):
            raise _Unusable("untrusted", why)
        if kind := _TYPES.get(stat.S_IFMT(status.st_mode)):
            raise _Unusable("unreadable", kind)
        if status.st_size > self._max_size:
            why = f"has {status.st_size} bytes, at most {self._max_size} allowed"
            raise _Unusable("unreadable", why)
        if before.identity == _identity(status):
            return before
        if until is not None and time.monotonic() > until:
            self.pending.add(before.path)
            return before
        return self._read(before, walked[-1])

    def _read(self, before: FollowedFile[T], end: PathStep) -> FollowedFile[T]:
        try:
            data, identity = _content(self._root + end.path, end.status, self._max_size)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            raise _Unusable("unreadable", why) from error
        digest = hash(data)
        known = before.content
        is_known = known is not None and known[0] == digest and not known[1].trouble
        parsed = known[1] if known and is_known else self._parse(before.path, data)
        file = FollowedFile(
            before.path,
            newest=parsed.says,
            counts=parsed.says,
            written=end.status.st_mtime_ns,
            identity=identity,
            content=(digest, parsed),
        )
        return self._bad(file, before, parsed.trouble, parsed.error) if parsed.trouble else file

    def _bad(
        self, file: FollowedFile[T], before: FollowedFile[T], trouble: Trouble, error: str
    ) -> FollowedFile[T]:
        """Return a file whose newest version does not count."""
        counts = before.counts if self._rule.keeps(trouble) else None
        is_read = trouble in ("half written", "faulty")
        return replace(
            file,
            newest=file.newest if is_read else None,
            counts=counts,
            trouble=trouble,
            error=error,
            identity=None,
        )


def _predicate(path: str, error: OSError | ValueError) -> str:
    return trust.unreachable(path, error).removeprefix(f"{plain(path)} ")


def _identity(status: os.stat_result) -> Identity:
    return Identity(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _content(path: str, expected: os.stat_result, max_size: int) -> tuple[bytes, Identity | None]:
    """Read a file that has been looked at, and no other that may have taken its place.

    Opening does not wait for a fifo's other end, and does not follow a link. There is no identity
    if the file may change without changing it. A file that changes meanwhile is half written.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not os.path.samestat(os.fstat(descriptor), expected):
            raise OSError(errno.ESTALE, "it was replaced while it was read")
        data = file.read(max_size + 1)
        status = os.fstat(descriptor)
    if len(data) > max_size:
        raise OSError(errno.EFBIG, f"it has more than {max_size} bytes")
    if _identity(status) != _identity(expected):
        raise _Unusable("half written", "is being written")
    is_settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED
    return data, _identity(status) if is_settled else None


def read(path: str, max_size: int, *, unsafe: bool = False) -> bytes:
    """Return the content of a configuration or policy file; ConfigError if it is not to be had."""
    follower: Follower[bytes] = Follower(
        lambda _, data: ParsedFile(data),
        FollowRule(half_written=False, faulty=False, untrusted=False, gone=False),
        files=[path],
        max_size=max_size,
        unsafe=unsafe,
        sealed=True,
        watched=False,
    )
    follower.look()
    file = follower.files[path]
    if file.counts is None:
        raise ConfigError(file.sentence)
    return file.counts

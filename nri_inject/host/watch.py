"""Whether anything changed in some directories: one inotify descriptor for all of them.

The three calls of the kernel come from the C library by ctypes; that is less than what a
package for it would bring.
"""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from nri_inject.host.walk import steps

# <sys/inotify.h>
_MODIFY: Final = 0x2
_ATTRIB: Final = 0x4
_CLOSE_WRITE: Final = 0x8
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_OVERFLOW: Final = 0x4000
_UNMOUNT: Final = 0x2000
_IGNORED: Final = 0x8000
_ONLYDIR: Final = 0x01000000
_MASK_ADD: Final = 0x20000000

_STRUCTURE: Final = (
    _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
)
_EVERYTHING: Final = _STRUCTURE | _MODIFY | _CLOSE_WRITE
_ABOUT_ITSELF: Final = _ATTRIB | _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED

_EVENT: Final = struct.Struct("iIII")
_READ: Final = 1 << 16  # bytes; one event is at most 272
_MAX_READS: Final = (
    64  # a file that changes all the time must not keep us here; the rest is for next time
)


class FileWatch:
    """Tell whether something changed in directories, even if these are moved or replaced.

    Everything on the paths is watched as well, so a directory that is missing, replaced, moved or
    created again is noticed, and so is a link in its path. `root` is put in front of every path and
    of the targets of absolute links. Changes below a subdirectory are not reported. A mount over a
    directory makes no event, so each call compares mounts. Without inotify, or without watches
    left, the answer is always that there may be a change.
    """

    def __init__(self, directories: Sequence[str], root: str = "/") -> None:
        self._directories = tuple(directories)
        self._files: tuple[str, ...] = ()
        self._root = root.rstrip("/")
        self._descriptor = _open()
        self._waiting = select.poll()
        if self._descriptor is not None:
            self._waiting.register(self._descriptor, select.POLLIN)
        self._never: int | None = None
        # By the kernel's number of a watch: the names in the directory that matter.
        self._names: dict[int, set[str]] = {}
        self._whole: set[int] = set()  # the numbers of those where every name matters
        self._written: set[tuple[int, str]] = set()  # since they were closed, if ever
        self._identities: list[tuple[int, int] | None] = []
        self._blind = self._descriptor is None
        self._stale = False
        self._unsure = False
        self._set()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when `changed` may return True."""
        if self._descriptor is not None:
            return self._descriptor
        if self._never is None:
            self._never = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self._never

    def follow(self, files: Iterable[str]) -> None:
        """Report changes of these files, too, and of everything on their paths.

        The previous files are no longer followed. The files need not exist.
        """
        wanted = tuple(sorted(set(files)))
        if wanted != self._files:
            self._files = wanted
            self._set()
            self._unsure = True  # they may have changed since the caller looked

    def changed(self) -> bool:
        """Tell, without waiting, whether anything may have changed since the last call."""
        changed = self._drain() or self._blind or self._unsure
        self._unsure = False
        if self._stale or self._identities != self._look():
            self._set()
            return True
        return changed

    def writing(self) -> set[str]:
        """Return the names of files that are being written, by the events that `changed` has read.

        Those are the files that were written to or cut off and not closed since.
        """
        return {name for _, name in self._written}

    def wait(self, seconds: float) -> None:
        """Wait until `changed` may return True, or until this time has passed."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """Give the descriptor back. Closing it again does nothing."""
        for descriptor in (self._descriptor, self._never):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._never = None
        self._blind = True

    def _drain(self) -> bool:
        """Read the events that are there, and tell whether one of them matters."""
        if self._descriptor is None:
            return True
        if not self._waiting.poll(0):  # as nearly always, and quicker than to be refused a read
            return False
        matters = False
        for _ in range(_MAX_READS):
            try:
                data = os.read(self._descriptor, _READ)
            except BlockingIOError:
                return matters
            at = 0
            while at < len(data):
                number, mask, _cookie, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
                self._note_writing(number, mask, name)
                matters |= self._matters(number, mask, name)
        return True

    def _note_writing(self, number: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._written.clear()
        elif name and mask & _MODIFY and self._is_ours(number, name):
            self._written.add((number, name))
        elif mask & (_CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE):
            self._written.discard((number, name))

    def _is_ours(self, number: int, name: str) -> bool:
        return number in self._whole or name in self._names.get(number, ())

    def _matters(self, number: int, mask: int, name: str) -> bool:
        if mask & _OVERFLOW:
            self._stale = True
            return True
        if number not in self._names:  # of a watch that has been taken away
            return False
        if not name:
            self._stale |= bool(mask & (_ABOUT_ITSELF & ~_ATTRIB))
            return bool(mask & _ABOUT_ITSELF)
        if name in self._names[number]:
            self._stale |= not mask & (_MODIFY | _CLOSE_WRITE)
            return True
        return number in self._whole

    def _set(self) -> None:
        """Put watches on everything that the paths lead through now, and take the others away."""
        before = self._names
        self._names = {}
        self._whole = set()
        self._stale = False
        self._blind = self._descriptor is None
        self._identities = self._look()
        for path in self._directories:
            end = self._walk(path, _STRUCTURE)
            if end is not None and (number := self._add(end, _EVERYTHING)) is not None:
                self._whole.add(number)
        for path in self._files:
            self._walk(path, _EVERYTHING)
        if self._descriptor is not None:
            for number in before.keys() - self._names.keys():
                _libc().inotify_rm_watch(self._descriptor, number)
        self._written = {key for key in self._written if key[0] in self._names}

    def _walk(self, path: str, mask: int) -> str | None:
        """Watch each directory on the way, and return the one at the end if there is one.

        `steps` waits while we put a watch on a directory, and looks for the next name after
        that, so nothing can come between.
        """
        numbers: dict[str, int | None] = {}
        end: str | None = None
        try:
            for step in steps(path, self._root):
                self._note(step.path, numbers)
                end = None
                if stat.S_ISDIR(step.status.st_mode):
                    end = step.path
                    numbers[end] = self._add(end, mask)
        except OSError as error:
            self._note(error.filename or "", numbers)
            return None
        except ValueError:  # NUL; no such path can come to be
            return None
        return end

    def _note(self, path: str, numbers: Mapping[str, int | None]) -> None:
        """Note that a name matters in the directory where it was looked for."""
        parent, _, name = path.rpartition("/")
        number = numbers.get(parent or "/")
        if name and number is not None:
            self._names[number].add(name)

    def _add(self, path: str, mask: int) -> int | None:
        """Watch a directory and return the watch's number; None if that failed."""
        if self._descriptor is None:
            return None
        try:
            number = _add_watch(self._descriptor, self._root + path, mask | _MASK_ADD)
        except (FileNotFoundError, NotADirectoryError):
            self._stale = True  # it went away meanwhile
        except OSError:
            self._blind = True  # no watches left, or no leave to look: so it may always change
        else:
            self._names.setdefault(number, set())
            return number
        return None

    def _look(self) -> list[tuple[int, int] | None]:
        return [_identity(self._root + path) for path in self._directories]


def _identity(path: str) -> tuple[int, int] | None:
    """Return the numbers that identify a directory."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _open() -> int | None:
    """Return an inotify descriptor; None where there is none to be had."""
    try:
        descriptor = int(_libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    except AttributeError:  # a system without inotify
        return None
    return descriptor if descriptor >= 0 else None


def _add_watch(descriptor: int, path: str, mask: int) -> int:
    """Return the number of a new watch; OSError if there can be none."""
    number = int(_libc().inotify_add_watch(descriptor, os.fsencode(path), mask))
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return number


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
    return libc

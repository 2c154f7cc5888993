"""A file that grows at its end and is put aside when it is full: of the log, and of the audit."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


class AppendedFile:
    """Append texts to the file of a path, which is opened anew when it is gone.

    Before a text would make it longer than `most` bytes it is renamed to PATH.1, in the place of
    the file that has that name. Several processes may append to one file.
    """

    def __init__(self, path: str, mode: int = 0o640) -> None:
        self.path = path
        self._mode = mode
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._is_torn = False

    def append(self, text: str, most: int) -> bool:
        """Append in one call, so that texts of several processes do not mix; OSError if it fails.

        Return whether the file has been put aside before.
        """
        if self._identity is None or self._identity != _identity(self.path):
            self._open()
        # The next text begins on a line of its own after one that a full disk has cut off.
        data = (f"\n{text}" if self._is_torn else text).encode("utf-8", "backslashreplace")
        is_full = os.fstat(self._descriptor).st_size > most - len(data)
        renamed = is_full and self._put_aside()
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        return renamed

    def close(self) -> None:
        """Close the file; the next text opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._identity = None

    def _put_aside(self) -> bool:
        """Rename the full file. Another process that writes it, too, may do so at the same time."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # it does, so this text is the last one of the old file
        is_ours = self._identity == _identity(self.path)
        if is_ours:
            Path(self.path).rename(f"{self.path}.1")
        self._open()
        return is_ours

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags | os.O_NOFOLLOW, self._mode)
        self._identity = _identity(self.path)


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file a path is; a rotated one is another."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

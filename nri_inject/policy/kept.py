"""The last good version of a policy file, for a process that starts with a faulty one.

It is used only where the admin has chosen `on_fault: keep`. It lies in a directory for root alone,
and its first line names its source: no other policy is taken for it.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import Final

from nri_inject.errors import ConfigError
from nri_inject.host.follow import FollowedFile, Follower, FollowRule, ParsedFile
from nri_inject.policy import document
from nri_inject.text.words import plain

DIRECTORY: Final = "/var/lib/nri-inject"
VARIABLE: Final = "NRI_INJECT_STATE_DIR"
"""The environment's word for the directory."""

_NEVER: Final = FollowRule(half_written=False, faulty=False, untrusted=False, gone=False)


class LastGoodPolicy:
    """The copy of one policy file; `source` is the absolute path of that."""

    def __init__(self, source: str, directory: str | None = None) -> None:
        self._directory = directory or os.environ.get(VARIABLE) or DIRECTORY
        self._head = f"# The last good version of {plain(source)}\n".encode()
        self.path: Final = f"{self._directory}/policy-{zlib.crc32(os.fsencode(source)):08x}.yaml"

    def read(self) -> FollowedFile[bytes]:
        """Return the copy, as long as it is root's alone; ConfigError if there is none to use."""
        follower: Follower[bytes] = Follower(
            self._parse,
            _NEVER,
            files=[self.path],
            max_size=document.LIMITS.size + len(self._head),
            watched=False,
        )
        follower.look()
        file = follower.files[self.path]
        if file.counts is None:
            raise ConfigError(file.sentence)
        return file

    def write(self, text: bytes, written: int) -> None:
        """Put a version in the place of the one before; `written` is its time in nanoseconds.

        OSError if that fails, and then the version before stays.
        """
        self._make_directory()
        new = Path(f"{self.path}.new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(self._head + text)
            file.flush()
            os.utime(file.fileno(), ns=(written, written))
            os.fsync(file.fileno())
        new.replace(self.path)

    def _make_directory(self) -> None:
        directory = Path(self._directory)
        directory.mkdir(0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "is not a directory of root's", self._directory)
        if status.st_mode & 0o077:
            directory.chmod(0o700)

    def _parse(self, _: str, data: bytes) -> ParsedFile[bytes]:
        if not data.startswith(self._head):
            return ParsedFile(None, "faulty", f"{plain(self.path)} is of another policy")
        return ParsedFile(data.removeprefix(self._head))

"""The record of the containers that were restarted: a file, so that a budget outlives the process.

A plugin that is killed again and again must not restart the same pod again and again. A restart is
recorded before the runtime is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

STATE_VARIABLE: Final = "NRI_INJECT_STATE_DIR"
"""The environment's word for the directory of files that outlive the plugin and its pod.

The last good policy (policy/kept) is there, too. Without it the record is beside the status socket.
"""

HOUR: Final = 3600.0
"""The time of a budget, in seconds."""

MAX_RECORDED: Final = 1000
"""How many restarts are recorded; a further one takes the place of the oldest."""

MAX_SIZE: Final = 1 << 20
"""How many bytes the file may have: an entry takes some 150."""


class RestartEntry(NamedTuple):
    """A container that was restarted, its pod, and when in seconds since 1970."""

    container: str
    pod: str
    time: float


class RestartRecord:
    """The record in a file of a directory for root alone; an empty path keeps none.

    The file is read each time: another process of the same plugin may have written it. OSError and
    ValueError if it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def has(self, container: str) -> bool:
        """Tell whether a container was restarted before."""
        return any(entry.container == container for entry in self._read())

    def used(self, pod: str, now: float) -> int:
        """Return how many restarts a pod has had in the last hour."""
        # The clock may have been set back.
        return sum(each.pod == pod and abs(now - each.time) < HOUR for each in self._read())

    def add(self, container: str, pod: str, now: float) -> None:
        """Record a restart; OSError or ValueError, and nothing is recorded, if that fails."""
        entries = [*self._read(), RestartEntry(container, pod, now)]
        new = Path(f"{self._path}.new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "w") as file:
            json.dump(entries[-MAX_RECORDED:], file)
        new.replace(self._path)

    def _read(self) -> list[RestartEntry]:
        if not self._path:
            raise ValueError("there is no directory for it")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            with os.fdopen(os.open(self._path, flags), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    raise ValueError("it is not a file of root's")
                entries = json.loads(file.read(MAX_SIZE))
            return [RestartEntry(str(one), str(pod), float(time)) for one, pod, time in entries]
        return []

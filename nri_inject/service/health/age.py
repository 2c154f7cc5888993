"""When a container was created, as far as the runtime or the kernel tells."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nri_inject.api import Container


def created(container: Container) -> float:
    """Return when a container was created, in seconds since 1970; 0.0 if that is unknown.

    Runtimes tell it from NRI 0.10 on. Before that it is when its first process started, which is
    not seen from another process namespace.
    """
    if container.created_at > 0:
        return container.created_at / 1e9
    if container.pid > 0:
        return _started(Path(f"/proc/{container.pid}"), container.id)
    return 0.0


def _started(process: Path, container_id: str) -> float:
    """Return when a process started, if it is in the control group of this container."""
    try:
        if not container_id or container_id not in (process / "cgroup").read_text():
            return 0.0
        # After the name, which may have spaces: starttime is field 22 of proc_pid_stat(5).
        ticks = int((process / "stat").read_text().rpartition(") ")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age

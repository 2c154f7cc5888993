"""Remove what a containerd leaves behind: processes, mounts, cgroups and files.

Everything is found by the name of the daemon's directory, so that a later run can clear up
after one that was killed and had no time to.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from . import poll

CGROUPS = Path("/sys/fs/cgroup")
BUNDLES = "state/io.containerd.runtime.v2.task/*/*"
SHIM_SOCKET = re.compile(r"unix://(/run/containerd/s/\w+)")


def claim(directory: Path) -> TextIO:
    """Mark `directory` as in use, until the returned file is closed or this process ends.

    Raises BlockingIOError when another process has claimed it.
    """
    lock = (directory / "claim").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    return lock


def sweep(parent: Path, prefix: str) -> None:
    """Clear the directories of former runs that are claimed no longer."""
    for found in parent.glob(f"{prefix}*/claim"):
        with suppress(BlockingIOError), claim(found.parent):
            clear(found.parent)


def clear(directory: Path) -> None:
    """End the processes of the daemon in `directory`, and delete all its files."""
    end(directory)
    if directory.exists():
        shutil.rmtree(directory)


def end(directory: Path) -> None:
    """End the processes of the daemon in `directory`, and remove its mounts and cgroups.

    The daemon, its shims and its plugins have the directory in their command lines; what runs
    in containers is found by their cgroup, which has the directory's name.
    """
    shim_sockets = list(_shim_sockets(directory))
    # The shims first: they must not see their containers end, and act on it.
    _kill(_mentioning, directory)
    _kill(_contained, directory)
    for mount in _mounts(directory):
        subprocess.run(["umount", "--lazy", mount], check=False)
    for cgroup in _cgroups(directory):
        _remove_cgroup(cgroup)
    for socket in shim_sockets:
        socket.unlink(missing_ok=True)


def processes_of(directory: Path) -> Iterator[int]:
    """Find the processes of the daemon in `directory`, and those in its containers."""
    yield from _mentioning(directory)
    yield from _contained(directory)


def _kill(find: Callable[[Path], Iterator[int]], directory: Path) -> None:
    """Kill what `find` finds for the directory, until it finds nothing more."""

    def none_left() -> bool:
        processes = list(find(directory))
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return not processes

    poll.until(none_left, f"the processes of {directory} to end")


def _mentioning(directory: Path) -> Iterator[int]:
    """Find the processes with a path below `directory` in their command lines."""
    wanted = f"{directory}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if wanted in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                yield int(process.name)


def _contained(directory: Path) -> Iterator[int]:
    """Find the processes of the daemon's containers."""
    for cgroup in _cgroups(directory):
        for members in cgroup.rglob("cgroup.procs"):
            with suppress(FileNotFoundError):
                yield from map(int, members.read_text().split())


def _cgroups(directory: Path) -> list[Path]:
    """Find the parents of the containers' cgroups, one for each hierarchy of version 1."""
    return [*CGROUPS.glob(directory.name), *CGROUPS.glob(f"*/{directory.name}")]


def _remove_cgroup(cgroup: Path) -> None:
    for path, _, _ in os.walk(cgroup, topdown=False):
        # The kernel may need a moment for the last process; an empty cgroup does no harm.
        with suppress(OSError):
            Path(path).rmdir()


def _mounts(directory: Path) -> list[str]:
    """List the mount points below `directory`, the deepest first."""
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return [point for point in points if point.startswith(f"{directory}/")][::-1]


def _shim_sockets(directory: Path) -> Iterator[Path]:
    """Find the sockets of shims, which lie outside of the directory.

    The bundle names its shim's socket in `address` (1.7) or `bootstrap.json` (2.x).
    """
    for bundle in directory.glob(BUNDLES):
        for name in ("address", "bootstrap.json"):
            with suppress(FileNotFoundError):
                if match := SHIM_SOCKET.search((bundle / name).read_text()):
                    yield Path(match[1])

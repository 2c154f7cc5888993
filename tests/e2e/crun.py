"""crun beside runc: a handler that each daemon has, for tests that ask for it.

crun is CRI-O's default, and differs from runc where a hook sees it: its JSON, its words, and what
becomes of a hook's output. The machine's own suite may have an old crun or none; sid's is taken.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import newer_libc
from .archive import open_closure, open_packages

HANDLER = "crun"
SUITE = "sid"

# crun refuses to run where cgroup v1 is in use and the v2 mount beside it has a controller. In a
# mount namespace without that mount it finds v1 alone.
WRAPPER = """\
#!/bin/sh
beside=/sys/fs/cgroup/unified
if [ -n "$(cat $beside/cgroup.controllers 2>/dev/null)" ]; then
    exec unshare --mount --propagation slave \
        sh -c 'umount -l "$0" && exec "$@"' $beside {program} "$@"
fi
exec {program} "$@"
"""


def write_handler(directory: Path) -> Path:
    """Write the program of the handler, which needs `install` before its first pod."""
    path = directory / "crun"
    path.write_text(WRAPPER.format(program=directory / "crun-program"))
    path.chmod(0o755)
    return path


def install(directory: Path, program: Path) -> None:
    """Give a daemon's handler its crun."""
    target = directory / "crun-program"
    if not target.exists():
        shutil.copy2(program, target)


def build(target: Path) -> Path:
    """Fetch crun, make it run here as `target`, and return that. Raises ArchiveUnavailable."""
    root = open_closure("crun", SUITE)
    patchelf = open_packages("patchelf", "patchelf") / "usr/bin/patchelf"
    newer_libc.relocate(root / "usr/bin/crun", root, target, patchelf)
    return target

"""A root file system for a daemon of its own: what containerd needs, and no Python.

The daemon has it as its root, in a mount namespace that ends with it. The daemon's directory is
there under its usual name, so sockets and logs are found as ever.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .archive import Archive
from .given import PROGRAMS

# A mount point becomes the root of a mount namespace. chroot would not do: what runc starts later
# in a running container would be in the machine's root then.
ENTER = """\
set -e
mount --bind {root} {root}
mount --rbind /proc {root}/proc
mount --rbind /sys {root}/sys
mount --rbind /dev {root}/dev
mount --bind {directory} {root}{directory}
cd {root}
mkdir -p old
pivot_root . old
/bin/busybox umount -l /old
exec "$@"
"""

DIRECTORIES = ("proc", "sys", "dev", "run", "tmp", "etc", "usr/bin", "usr/sbin", "var/lib", "bin")

FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/resolv.conf": "",
}


class HostRoot:
    """The file system, in a directory below that of its daemon."""

    def __init__(self, directory: Path, archive: Archive, tools: Path) -> None:
        self._directory = directory
        self.path = directory / "host"
        for name in (*DIRECTORIES, str(directory).lstrip("/")):
            (self.path / name).mkdir(parents=True)
        (self.path / "var/run").symlink_to("/run")
        for name, text in FILES.items():
            (self.path / name).write_text(text)
        shutil.copy2(archive.busybox, self.path / "bin/busybox")
        (self.path / "bin/sh").symlink_to("busybox")
        programs = [*(tools / name for name in PROGRAMS), archive.runc]
        for program in programs:
            shutil.copy2(program, self.path / "usr/bin" / program.name)
        for library in libraries(programs):
            copy_library(library, self.path)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Put a file there, with the directories that it needs."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(self, command: Sequence[str]) -> list[str]:
        """Return what runs a command in it."""
        script = ENTER.format(root=self.path, directory=self._directory)
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "-", *command]


def libraries(programs: Sequence[Path]) -> set[Path]:
    """Return what the dynamic linker would load for programs, and the linker itself."""
    found: set[Path] = set()
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", listed.stdout)}
    return found


def copy_library(library: Path, root: Path) -> None:
    """Put a library of this machine where a linker below a root looks for it."""
    target = root / str(library).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(library.resolve(), target)

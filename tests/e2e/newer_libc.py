"""Programs of a newer Debian suite on this machine, whose libc is older."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def relocate(program: Path, root: Path, target: Path, patchelf: Path) -> None:
    """Copy a program to `target`, and let it load all of its libraries from `root`.

    `root` has the program's package and its dependencies (`archive.open_closure`). A wrapper that
    calls the linker would not do: crun and runc start themselves again by /proc/self/exe.
    """
    asked = subprocess.run(
        [patchelf, "--print-interpreter", program], check=True, capture_output=True, text=True
    )
    linker = Path(asked.stdout.strip()).name
    interpreter = next(path for path in root.rglob(linker) if not path.is_symlink())
    shutil.copy2(program, target)
    subprocess.run(
        [
            *(patchelf, "--set-interpreter", interpreter),
            # RPATH, unlike RUNPATH, is also for the libraries of libraries.
            *("--force-rpath", "--set-rpath", interpreter.parent, target),
        ],
        check=True,
    )

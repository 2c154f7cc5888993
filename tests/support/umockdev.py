"""Programs that see another machine's devices: umockdev of Debian, fetched and not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from e2e.archive import ArchiveUnavailable, open_packages

from support.machine import Fake, umockdev

BOUND = 60
# Names of one library differ by release, so what a machine lacks is looked for under both.
_LIBRARIES = (("libglib2.0-0", "libpcap0.8"), ("libglib2.0-0t64", "libpcap0.8t64"))
_PROGRAM = ("umockdev", "libumockdev0", "libdbus-1-3", "libpcre2-8-0")

# umockdev's links lead to where it keeps its files, udev's are relative.
_MEND = """
import os, sys
base = os.environ["UMOCKDEV_DIR"]
for directory, directories, files in os.walk(base + "/dev"):
    for path in (os.path.join(directory, name) for name in files + directories):
        if os.path.islink(path):
            target = os.readlink(path)
            if target.startswith(base):
                os.unlink(path)
                os.symlink(os.path.relpath(target, directory), path)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Umockdev:
    """Run programs on a machine of fakes."""

    def __init__(self, root: Path, place: Path) -> None:
        self._root = root
        self._place = place

    def run(self, fakes: Iterable[Fake], *argv: str | Path, status: int = 0) -> str:
        """Return what a program prints that sees these devices and no others."""
        recording = self._place / "machine.umockdev"
        recording.write_text(umockdev(fakes))
        program = (sys.executable, "-c", _MEND, *map(str, argv))
        return self._started(("umockdev-run", "--device", str(recording), "--", *program), status)

    def run_testbed(self, *argv: str | Path) -> str:
        """Return what a program prints that makes and unmakes devices itself."""
        return self._started(("umockdev-wrapper", *map(str, argv)), 0)

    def _started(self, argv: tuple[str, ...], status: int) -> str:
        libraries = [path for path in self._root.glob("**/*-linux-gnu*") if path.is_dir()]
        environment = os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
        done = subprocess.run(
            (self._root / "usr/bin" / argv[0], *argv[1:]),
            env=environment,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        assert done.returncode == status, done.stderr
        return done.stdout


def open_umockdev(place: Path) -> Umockdev:
    """Return umockdev, which keeps recordings in `place`; skip where it cannot be had."""
    reason = ""
    for libraries in _LIBRARIES:
        with suppress(ArchiveUnavailable):
            return Umockdev(open_packages("umockdev", *_PROGRAM, *libraries), place)
    try:
        open_packages("umockdev", *_PROGRAM, *_LIBRARIES[0])
    except ArchiveUnavailable as error:
        reason = f"umockdev of Debian's archive cannot be used: {error}"
    pytest.skip(reason)

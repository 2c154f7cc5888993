"""Build an image archive: busybox as a whole root file system.

It serves as the pause image of a pod and as the image of its containers.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from image.layout import own_architecture, write_archive

NAME = "localhost/pause:latest"
ENTRY_COMMAND = ("/bin/sleep", "100000")

DIRECTORIES = {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1000:\n",
}


def write_image(
    busybox: Path,
    target: Path,
    *,
    name: str = NAME,
    files: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Write a tar file that `ctr images import` loads under a name.

    `files` are further files and directories, by their paths in the image.
    """
    layer = _layer(busybox, files)
    write_archive(
        target,
        name=name,
        architecture=own_architecture(),
        layers=[layer],
        settings={"Cmd": list(ENTRY_COMMAND), "Env": ["PATH=/bin"], "WorkingDir": "/"},
    )


def _layer(busybox: Path, files: Mapping[str, Path]) -> bytes:
    """Make the one layer: busybox, a link for each of its applets, two users, and the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, mode in DIRECTORIES.items():
            _add_entry(layer, name, tarfile.DIRTYPE, mode)
        for name, text in FILES.items():
            _add(layer, name, text.encode())
        _add(layer, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in _applets(busybox):
            _add_entry(layer, f"bin/{applet}", tarfile.SYMTYPE, 0o777, linkname="busybox")
        for name, path in files.items():
            layer.add(path, name)
    return buffer.getvalue()


def _applets(busybox: Path) -> list[str]:
    """Ask busybox what it can be called."""
    listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    return [name for name in listing.stdout.split() if name != "busybox"]


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add_entry(
    archive: tarfile.TarFile, name: str, kind: bytes, mode: int, linkname: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, linkname
    archive.addfile(entry)

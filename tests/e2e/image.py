"""Build an image archive by hand: busybox as a whole root file system, in OCI's layout.

It serves as the pause image of a pod and as the image of its containers.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

NAME = "localhost/pause:latest"
ENTRY_COMMAND = ("/bin/sleep", "100000")

DIRECTORIES = {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1000:\n",
}

# OCI's names for the processors that Debian has containerd for.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def write_image(
    busybox: Path,
    target: Path,
    *,
    name: str = NAME,
    files: Mapping[str, Path] = MappingProxyType({}),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a tar file that `ctr images import` loads under a name.

    `files` are further files and directories, by their paths in the image. `settings` replace those
    of the image's configuration, by OCI's names.
    """
    layer = _layer(busybox, files)
    config = _json(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Cmd": list(ENTRY_COMMAND),
                "Env": ["PATH=/bin"],
                "WorkingDir": "/",
                **settings,
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    named = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest) | {
        "annotations": {"io.containerd.image.name": name}
    }
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": [named]}))
        for blob in (layer, config, manifest):
            _add(archive, f"blobs/{_digest(blob).replace(':', '/')}", blob)


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


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}

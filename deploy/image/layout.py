"""An image as an archive: OCI's layout, which every container engine loads, with Docker's index.

The bytes depend on the content alone: entries are sorted, and have no owner and one time.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

OCI = "application/vnd.oci.image"
_Kind = Literal["config.v1+json", "layer.v1.tar", "layer.v1.tar+gzip", "manifest.v1+json"]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def own_architecture() -> str:
    """Return OCI's name of this machine's architecture, such as amd64."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def pack(root: Path, time: int) -> bytes:
    """Return a layer with all files below a directory, as if root owned them.

    `time` is the time of each entry, in seconds since 1970.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for path in sorted(root.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(root)))
            entry.mtime = time
            entry.mode = 0o755
            if path.is_symlink():
                entry.type, entry.mode = tarfile.SYMTYPE, 0o777
                entry.linkname = str(path.readlink())
                layer.addfile(entry)
            elif path.is_dir():
                entry.type = tarfile.DIRTYPE
                layer.addfile(entry)
            else:
                content = path.read_bytes()
                entry.size = len(content)
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                layer.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write_archive(
    target: Path,
    *,
    name: str,
    architecture: str,
    layers: Sequence[bytes],
    settings: Mapping[str, Any],
    created: str | None = None,
    compress: Callable[[bytes], bytes] | None = None,
) -> str:
    """Write the archive of an image, and return the image's digest.

    The layers are tar archives, which `compress` makes gzip files of. The archive itself is not
    compressed: containerd 1.7 would not load it. `settings` are those of the container, by OCI's
    names, and `created` is a time of RFC 3339.
    """
    stored = [compress(layer) for layer in layers] if compress else layers
    kind: _Kind = "layer.v1.tar+gzip" if compress else "layer.v1.tar"
    config = _json(
        {"architecture": architecture, "os": "linux", "config": settings}
        | ({"created": created} if created else {})
        | {"rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}}
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor(kind, layer) for layer in stored],
        }
    )
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [
            _descriptor("manifest.v1+json", manifest)
            | {"platform": {"architecture": architecture, "os": "linux"}, "annotations": names}
        ],
    }
    docker = {"Config": _path(config), "RepoTags": [name], "Layers": [*map(_path, stored)]}
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json([docker]),
        **{_path(blob): blob for blob in (*stored, config, manifest)},
    }
    target.write_bytes(_tar(files))
    return _digest(manifest)


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = 0o644, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _path(blob: bytes) -> str:
    return f"blobs/{_digest(blob).replace(':', '/')}"


def _descriptor(kind: _Kind, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": _digest(blob), "size": len(blob)}

"""The locked packages of Debian: where they are, what they are, and their files."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOCK = Path(__file__).parent / "debian.lock"
SUITE = "trixie"
PYTHON = "python3.13"
"""The Python of that suite."""
PACKAGES = (
    "base-files",
    "gcc-14-base",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    f"lib{PYTHON}-minimal",
    f"lib{PYTHON}-stdlib",
    "libstdc++6",
    f"{PYTHON}-minimal",
    "zlib1g",
)
"""What Python and the locked wheels load; a test looks for missing libraries.

libudev is not there: it reads only the database below its own root, which is the pod's and not the
node's. gcc-14-base has the copyright file of libgcc-s1 and libstdc++6.
"""

TIMEOUT = 60.0
"""Seconds without a byte of the mirror."""
_HEADER = 60
"""The size of a member's header in an ar archive: ar(5)."""


class ImageError(Exception):
    """The image cannot be built; the text is a sentence for the person at the terminal."""


class DebianPackage(NamedTuple):
    """A line of the lock. `path` is the file's path below the mirror's root."""

    architecture: str
    name: str
    version: str
    sha256: str
    path: str


def read_lock(path: Path = LOCK) -> list[DebianPackage]:
    """Read the lock. Raises ImageError."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    try:
        return [DebianPackage(*line.split()) for line in lines]
    except TypeError as error:
        raise ImageError(f"{path}: a line does not have five words; run make lock") from error


def fetch(package: DebianPackage, mirror: str, cache: Path) -> Path:
    """Return the package's file, from the cache or the mirror. Raises ImageError."""
    target = cache / package.sha256
    if target.exists() and _digest(target.read_bytes()) == package.sha256:
        return target
    url = f"{mirror.rstrip('/')}/{urllib.parse.quote(package.path)}"
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ImageError(f"{mirror!r} is not the http or https address of a mirror")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s), see above
            content: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise ImageError(
            f"{url}: {error}; if the mirror has a newer version of {package.name}, run make lock"
        ) from error
    if _digest(content) != package.sha256:
        raise ImageError(f"{url}: its SHA-256 is not the one in {LOCK.name}")
    cache.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def unpack(package: Path, root: Path) -> None:
    """Unpack a package's files below a directory; no script of the package runs."""
    content = package.read_bytes()
    data = next(part for name, part in _members(content) if name.startswith("data.tar"))
    with tarfile.open(fileobj=io.BytesIO(data)) as files:
        files.extractall(root, filter="tar")


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the members of a package, which is an ar archive: deb(5)."""
    place = len(b"!<arch>\n")
    while place < len(archive):
        header = archive[place : place + _HEADER]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        place += _HEADER
        yield name, archive[place : place + size]
        place += size + size % 2


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""The programs of a cluster: Kubernetes' servers and containerd built with Go, others of Debian.

All of it is kept in .cache/kubernetes.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.archive import REPOSITORY, Archive, open_archive, open_packages

CACHE = REPOSITORY / ".cache" / "kubernetes"
SOURCES = Path(__file__).parent / "go"
SUITE = "sid"
"""The suite whose etcd and kubectl are new enough; all of these programs run with an older libc."""
PACKAGES = ("containernetworking-plugins", "etcd-client", "etcd-server", "kubectl")


@dataclass(frozen=True)
class Programs:
    """The directories with programs."""

    built: Path
    """What `go/build.sh` builds."""
    debian: Path
    """The root of Debian's packages."""
    archive: Archive
    """The packages that the end-to-end tests use, too."""

    @property
    def network_plugins(self) -> Path:
        return self.debian / "usr/lib/cni"

    @property
    def path(self) -> str:
        """Return the PATH of the node's daemons."""
        own = (self.built, self.archive.runc.parent, self.debian / "usr/bin")
        return ":".join([*map(str, own), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def open_programs() -> Programs:
    """Return the programs, and fetch and build them the first time. Raises ArchiveUnavailable."""
    archive = open_archive()
    debian = open_packages("cluster", *PACKAGES, suite=SUITE, cache=CACHE)
    built = CACHE / f"programs-{_key()}"
    if not built.is_dir():
        _build(built)
    return Programs(built, debian, archive)


def _key() -> str:
    """Name the build by its sources, so that a change of them builds anew."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    return f"{hashlib.sha256(content).hexdigest()[:12]}-{platform.machine()}"


def _build(target: Path) -> None:
    """Build beside the directory's place and rename it, so that it is whole or absent."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as temporary:
        directory = Path(temporary) / "programs"
        directory.mkdir()
        subprocess.run([SOURCES / "build.sh", directory], check=True)
        directory.rename(target)


if __name__ == "__main__":
    open_programs()

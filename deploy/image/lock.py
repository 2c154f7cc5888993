"""Renew debian.lock: the newest version of each package, with its hash, as apt has verified it."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from e2e.archive import PrivateApt, Source, machine_source

from .debian import LOCK, PACKAGES, SUITE, DebianPackage

ARCHITECTURES = ("amd64", "arm64")
"""Those that an image can be built for."""
HEAD = """\
# Made by `make lock`: the packages of Debian in the image, with their SHA-256.
"""


def main() -> None:
    """Write the lock."""
    source = machine_source()
    security = Source(source.uri.replace("/debian", "/debian-security"), source.signed_by)
    sources = [source.line(SUITE), security.line(f"{SUITE}-security")]
    packages: list[DebianPackage] = []
    with tempfile.TemporaryDirectory() as directory:
        for architecture in ARCHITECTURES:
            apt = PrivateApt(Path(directory) / architecture, sources, architecture)
            apt.update()
            packages += sorted(_packages(architecture, apt.locate(PACKAGES)))
    LOCK.write_text(HEAD + "".join(" ".join(package) + "\n" for package in packages))


def _packages(architecture: str, located: str) -> Iterator[DebianPackage]:
    for line in located.splitlines():
        url, file, _, digest = shlex.split(line)
        name, version, _ = file.split("_")
        path = unquote(urlsplit(url).path).lstrip("/")
        yield DebianPackage(
            architecture, name, unquote(version), digest.removeprefix("SHA256:"), path
        )


if __name__ == "__main__":
    main()

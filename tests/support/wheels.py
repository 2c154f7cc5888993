"""A folder of wheels as a package index: nri-inject as it is built, and what is installed here.

An author's first steps begin with an index, and tests have no network. So each package that is
installed here is packed into a wheel again, from the files that it lists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from nri_inject.version import VERSION

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"
NOT_PACKED = {"INSTALLER", "REQUESTED", "direct_url.json"}


def _build(target: str, where: Path, directory: Path, mask: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", directory],
        cwd=where,
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
        umask=mask,
        check=True,
        capture_output=True,
    )


class Packages(NamedTuple):
    """A source distribution, and the wheel that is built from it."""

    source: Path
    wheel: Path


def packages(place: Path, mask: int = 0o022) -> Packages:
    """Build both of our packages in a folder."""
    _build("sdist", ROOT, place, mask)
    source = place / f"nri_inject-{VERSION}.tar.gz"
    with tarfile.open(source) as archive:
        archive.extractall(place, filter="data")
    _build("wheel", place / f"nri_inject-{VERSION}", place, mask)
    return Packages(source, place / f"nri_inject-{VERSION}-py3-none-any.whl")


def index(directory: Path, *names: str) -> Path:
    """Fill a folder with the wheels of these packages, of ours, and of all that they need."""
    packages(directory)
    packed: set[str] = {"nri-inject"}
    waiting = [*names, *_needed(distribution("nri-inject"))]
    while waiting:
        name = waiting.pop()
        if name not in packed:
            packed.add(name)
            found = distribution(name)
            _pack(found, directory)
            waiting += _needed(found)
    return directory


def _needed(package: Distribution) -> list[str]:
    wanted = map(Requirement, package.requires or ())
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def _pack(package: Distribution, directory: Path) -> None:
    """Write a wheel; scripts, which lie elsewhere, are made again by who installs it."""
    described = package.read_text("WHEEL") or ""
    tags = [line.removeprefix("Tag: ") for line in described.splitlines() if line[:4] == "Tag:"]
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    tag = "-".join(".".join(sorted({*column})) for column in columns)
    name = package.metadata["Name"].replace("-", "_").replace(".", "_")
    wheel = directory / f"{name}-{package.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.files or ():
            is_cached = "__pycache__" in file.parts
            if not (file.name in NOT_PACKED or is_cached or file.parts[0] == ".."):
                archive.write(str(file.locate()), str(file))


class Environment:
    """An environment for Python with the project of `nri-inject new demo`, made of wheels."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "env/bin"
        self.project = directory / "demo"
        wheels = directory / "wheels"
        wheels.mkdir()
        index(wheels, "hatchling", "editables", "pytest", "mypy", "types-protobuf")
        self._variables = {
            "HOME": str(directory),
            "PATH": f"{self.bin}:{os.defpath}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_INDEX": "1",
        }
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)
        self.run("python -m pip install --quiet nri-inject", directory)
        self.run("nri-inject new demo", directory)

    def run(self, command: str, directory: Path | None = None) -> str:
        """Run a command in the project, and return its output; it must succeed."""
        status, output = self.attempt(command, directory)
        assert status == 0, output
        return output

    def attempt(self, command: str, directory: Path | None = None) -> tuple[int, str]:
        """Run a command in the project, and return its status and its output."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=directory or self.project,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

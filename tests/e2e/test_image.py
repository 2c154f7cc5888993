"""The image of the DaemonSet: the same bytes in each build, whole, and for two architectures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from image.build import TRIPLETS
from image.debian import PYTHON
from image.layout import own_architecture

from nri_inject.plugins.programs import PROGRAMS
from nri_inject.version import VERSION

from .archive import open_packages

ROOT = Path(__file__).parents[2]
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def build(directory: Path, architecture: str) -> Path:
    """Build the image from empty caches, and return the archive."""
    directory.mkdir()
    (wheel,) = (ROOT / "dist").glob("nri_inject-*.whl")
    archive = directory / "image.tar"
    subprocess.run(
        [
            *(ROOT / ".venv/bin/python", "-m", "image.build", f"--architecture={architecture}"),
            *("--name=example.com/nri-inject:1", "--wheel", wheel, "--target", archive),
            *("--sbom", directory / "sbom.json", "--cache", directory),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "deploy"),
            "PIP_CACHE_DIR": str(directory / "pip"),
            "SOURCE_DATE_EPOCH": "1000000000",
        },
        check=True,
    )
    return archive


def unpack(archive: Path, root: Path) -> Path:
    """Unpack the layers of an image."""
    with tarfile.open(archive) as files:
        files.extractall(root / "image", filter="tar")
    (image,) = json.loads((root / "image/manifest.json").read_text())
    for layer in image["Layers"]:
        with tarfile.open(root / "image" / layer) as files:
            files.extractall(root / "files", filter="tar")
    return root / "files"


@pytest.fixture(scope="module")
def files(suite_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(suite_image, tmp_path_factory.mktemp("image"))


def run(files: Path, *command: str | Path) -> str:
    done = subprocess.run(
        ["chroot", files, *command], capture_output=True, text=True, check=False, env=PATH
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("suite_image")  # builds our wheel
def test_two_builds_from_empty_caches_have_the_same_bytes(tmp_path: Path) -> None:
    first, second = (build(tmp_path / name, own_architecture()) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a/sbom.json").read_text() == (tmp_path / "b/sbom.json").read_text()


def test_each_program_is_on_path_and_starts(files: Path) -> None:
    for name in PROGRAMS:
        assert run(files, f"/usr/bin/{name}", "--version").endswith(", NRI 0.12.5\n")


def test_all_that_is_loaded_late_is_there(files: Path) -> None:
    modules = "ctypes, jsonschema, re2, yaml._yaml, google._upb._message"
    code = f"import {modules}, nri_inject.service.health.metrics"
    assert run(files, "/usr/bin/python3", "-I", "-c", code) == ""


def test_a_device_has_no_properties_of_udev_without_libudev(files: Path) -> None:
    code = "from nri_inject.host.devices import udev; print(udev.properties('/devices/virtual'))"
    assert run(files, "/usr/bin/python3", "-I", "-c", code) == "{}\n"


def test_every_library_that_a_file_needs_is_in_the_image(files: Path, needed: Needed) -> None:
    directory = files / "usr/lib" / TRIPLETS[own_architecture()]
    for path in files.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
            missing = {name for name in needed(path) if not (directory / name).exists()}
            # Modules of Debian's Python that the programs do not import.
            if f"{PYTHON}/lib-dynload" not in str(path):
                assert not missing, path


Needed = Callable[[Path], set[str]]


@pytest.fixture
def needed() -> Needed:
    """Give a function that returns the names of libraries that a file needs."""

    def names(path: Path) -> set[str]:
        shown = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
        return {*re.findall(r"\(NEEDED\).*\[(.*)\]", shown.stdout)}

    return names


def test_nothing_in_it_is_compiled_at_a_start(files: Path) -> None:
    code = "import sys, nri_inject.plugins.suite as s; print(s.__cached__, sys.flags.isolated)"
    cached, isolated = run(files, "/usr/bin/python3", "-I", "-c", code).split()
    assert isolated == "1"
    assert (files / cached.lstrip("/")).is_file()


@pytest.mark.usefixtures("suite_image")
def test_the_image_for_arm64_starts_under_emulation(tmp_path: Path) -> None:
    if own_architecture() == "arm64":
        pytest.skip("this machine is arm64, and the other tests run that image")
    files = unpack(build(tmp_path / "built", "arm64"), tmp_path)
    emulator = open_packages("qemu", "qemu-user-static") / "usr/bin/qemu-aarch64-static"
    (files / "emulator").write_bytes(emulator.read_bytes())
    (files / "emulator").chmod(0o755)
    python = ("/emulator", f"/usr/bin/{PYTHON}", "-I")
    assert f"nri-inject {VERSION}, " in run(files, *python, "/usr/bin/nri-inject", "--version")
    code = "import ctypes, re2, yaml._yaml, google._upb._message, rpds"
    assert run(files, *python, "-c", code) == ""

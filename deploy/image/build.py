"""Build the image: unpack the locked packages, compile them, and write archive and SBOM.

All files come from packages with a locked hash and from our wheel. The modules are compiled by the
image's own Python. So the bytes depend on the locks and the commit, not on the building machine.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .debian import LOCK, PYTHON, ImageError, fetch, read_lock, unpack
from .layout import own_architecture, pack, write_archive
from .sbom import PythonPackage, sbom

REPOSITORY = Path(__file__).parents[2]
WHEELS = REPOSITORY / "requirements" / "image.txt"
SITE = Path("usr/lib/python3/dist-packages")
"""Where Debian's Python looks for packages."""
LINKERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
"""The dynamic linkers of the ABIs of the two architectures."""
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
MANYLINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""The platforms of wheels that Debian's C library can load; pip wants each by its name."""

LEFT_OUT = (
    "etc/apt",
    "etc/dpkg",
    "usr/lib/*/gconv",
    "usr/lib/*/engines-3",
    "usr/lib/*/ossl-modules",
    "usr/lib/locale",
    f"usr/lib/{PYTHON}/idlelib",
    f"usr/lib/{PYTHON}/pydoc_data",
    f"usr/lib/{PYTHON}/test",
    "usr/share/binfmts",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/gcc",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/gdb",
    "var/lib/dpkg",
)
"""What the programs do not use. Of usr/share/doc only the copyright files stay."""
USERS = {"etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n", "etc/group": "root:x:0:\n"}
SETTINGS = {
    "Entrypoint": ["/usr/bin/nri-inject"],
    "Cmd": ["run"],
    "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
    "WorkingDir": "/",
}
SCRIPT = """\
#!/usr/bin/{python} -I
import sys
from {module} import {function}
sys.exit({function}())
"""


def main() -> int:
    """Build the image that the arguments name; return the exit status."""
    asked = _parser().parse_args()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="image-", dir=asked.cache) as directory:
            digest = build(asked, Path(directory))
    except (ImageError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    size = asked.target.stat().st_size / 1e6
    seconds = time.monotonic() - began
    sys.stdout.write(f"{asked.name}  {asked.architecture}  {digest}\n")
    sys.stdout.write(f"{asked.target}  {size:.1f} MB, built in {seconds:.0f} s\n")
    return 0


def build(asked: argparse.Namespace, directory: Path) -> str:
    """Write archive and SBOM, and return the image's digest. Raises ImageError."""
    architecture: str = asked.architecture
    locked = read_lock()
    used = [package for package in locked if package.architecture == architecture]
    if not used:
        raise ImageError(f"{LOCK.name} has no packages for {architecture}; it has amd64 and arm64")
    mirror = asked.mirror or _own_mirror()
    system, python = directory / "system", directory / "python"
    for package in used:
        unpack(fetch(package, mirror, asked.cache / "debian"), system)
    packages = _install(python, architecture, asked.wheel)
    own = system
    if own_architecture() != architecture:
        own = directory / "own"
        for package in locked:
            if package.architecture == own_architecture():
                unpack(fetch(package, mirror, asked.cache / "debian"), own)
    _tidy(system)
    for tree, place in ((system, Path("usr/lib") / PYTHON), (python, SITE)):
        _Python(own).compile(tree, place)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    digest = write_archive(
        asked.target,
        name=asked.name,
        architecture=architecture,
        layers=[pack(tree, seconds) for tree in (system, python)],
        settings=SETTINGS,
        created=created,
        compress=_Python(own).compress,
    )
    name, _, version = asked.name.rpartition(":")
    document = sbom(
        name=name, version=version, digest=digest, time=created, debian=used, python=packages
    )
    asked.sbom.write_text(json.dumps(document, indent=2) + "\n")
    return digest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default=own_architecture(), help="amd64 or arm64")
    parser.add_argument("--name", required=True, help="the image's name, as REGISTRY/NAME:VERSION")
    parser.add_argument("--wheel", required=True, type=Path, help="our wheel")
    parser.add_argument("--target", required=True, type=Path, help="the archive")
    parser.add_argument("--sbom", required=True, type=Path, help="the bill of materials")
    parser.add_argument("--cache", required=True, type=Path, help="the directory for downloads")
    parser.add_argument("--mirror", default="", help="the root of a mirror of Debian")
    return parser


def _own_mirror() -> str:
    """Return the root of the mirror that this machine's apt uses. Raises ImageError."""
    command = ("apt-get", "indextargets", "--format=$(REPO_URI)", "Created-By: Packages")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed words
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    for url in listed.split():
        root, found, rest = url.rstrip("/").rpartition("/debian")
        if found and not rest:
            return root
    raise ImageError(
        "this machine's apt has no mirror of Debian; give one with make image DEBIAN=URL, where"
        " URL/debian/pool and URL/debian-security/pool are"
    )


def _install(root: Path, architecture: str, wheel: Path) -> list[PythonPackage]:
    """Install the locked wheels and ours below a directory, with our programs."""
    site = root / SITE
    machine = TRIPLETS[architecture].partition("-")[0]
    report = root.with_suffix(".json")
    platforms = [f"--platform={name}_{machine}" for name in MANYLINUX]
    foreign = ("--implementation=cp", f"--python-version={PYTHON.removeprefix('python')}")
    only = ("--no-deps", "--no-compile", "--only-binary=:all:", f"--target={site}")
    locked = ("--require-hashes", f"--requirement={WHEELS}", f"--report={report}")
    _run(_pip(*platforms, *foreign, *only, *locked))
    _run(_pip("--no-index", *only, "--upgrade", str(wheel)))
    _write_programs(site, root / "usr/bin")
    shutil.rmtree(site / "bin", ignore_errors=True)
    # pip writes its own facts of the machine, and lines in no fixed order.
    for pattern in ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED"):
        for path in site.glob(f"*.dist-info/{pattern}"):
            path.unlink()
    return [*_reported(report)]


def _pip(*arguments: str) -> list[str]:
    own = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    return [*own, *arguments]


def _reported(report: Path) -> Iterator[PythonPackage]:
    """Return what pip has installed, in the order of names."""
    installed = json.loads(report.read_text())["install"]
    for one in sorted(installed, key=lambda one: str(one["metadata"]["name"])):
        metadata, archive = one["metadata"], one["download_info"]["archive_info"]
        yield PythonPackage(metadata["name"], metadata["version"], archive["hashes"]["sha256"])


def _write_programs(site: Path, programs: Path) -> None:
    """Write a script for each program of our wheel."""
    (file,) = site.glob("nri_inject-*.dist-info/entry_points.txt")
    entries = configparser.ConfigParser()
    entries.read(file)
    programs.mkdir(parents=True)
    for name, place in entries["console_scripts"].items():
        module, _, function = place.partition(":")
        script = programs / name
        script.write_text(SCRIPT.format(python=PYTHON, module=module, function=function))
        script.chmod(0o755)


def _tidy(root: Path) -> None:
    """Remove what the programs do not use, and add root to the users."""
    for pattern in LEFT_OUT:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in [*(root / "usr/share/doc").glob("*/*")]:
        if path.name != "copyright":
            path.unlink(missing_ok=True)  # a package's directory may be a link to another's
    (root / "usr/bin/python3").symlink_to(PYTHON)
    for name, text in USERS.items():
        (root / name).write_text(text)


class _Python:
    """The Python of an unpacked tree for this machine, which runs without a chroot.

    Its own dynamic linker starts it, so what it writes depends on the lock alone.
    """

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def compile(self, tree: Path, place: Path) -> None:
        """Compile the modules below a place of a tree.

        They count whatever the time of their sources is: the image's files never change.
        """
        options = ("-q", "-j1", "--invalidation-mode=unchecked-hash", "-s", str(tree), "-p", "/")
        self._run("-m", "compileall", *options, str(tree / place))

    def compress(self, content: bytes) -> bytes:
        """Return a gzip file."""
        code = "import gzip, sys; i, o = sys.stdin.buffer, sys.stdout.buffer"
        return self._run("-c", f"{code}; o.write(gzip.compress(i.read(), mtime=0))", given=content)

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        architecture = own_architecture()
        libraries = self._tree / "usr/lib" / TRIPLETS[architecture]
        command = (
            *(self._tree / LINKERS[architecture], "--library-path", libraries),
            *(self._tree / "usr/bin" / PYTHON, "-s", "-P", *arguments),
        )
        environment = {"PYTHONHOME": str(self._tree / "usr"), "PYTHONHASHSEED": "0"}
        # Its own modules would get this place's path.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return _run([*map(str, command)], environment, given)


def _run(
    command: Sequence[str], environment: dict[str, str] | None = None, given: bytes = b""
) -> bytes:
    """Run a command, and return its output. Raises ImageError with the end of what it wrote."""
    done = subprocess.run(command, env=environment, input=given, capture_output=True, check=False)  # noqa: S603 - own words
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-1000:]
        raise ImageError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

"""Fetch the runtimes under test from the Debian archive, without installing anything.

`apt-get` runs with directories of its own, so the machine's packages, sources and lists stay
as they are. The mirror is the one that the machine itself uses; the suites are ours.

Nothing here starts a runtime (see `containerd`).
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_CACHE = REPOSITORY / ".cache" / "e2e"

RUNTIME_SUITES: Mapping[str, str] = {"containerd-1.7": "trixie", "containerd-2": "sid"}
"""The suite that has each runtime under test."""

CRI_API_SUITE = "trixie"
CRI_API_PROTO = "usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto"


class ArchiveUnavailable(Exception):
    """Say in one sentence why the packages cannot be had."""


@dataclass(frozen=True)
class Source:
    """Where apt finds a suite's packages, and the key that signs them ("" for apt's own keys)."""

    uri: str
    signed_by: str = ""

    def line(self, suite: str) -> str:
        """Write the one-line form that apt reads in a sources.list."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {suite} main\n"


@dataclass(frozen=True)
class Archive:
    """Hold the unpacked packages, one root directory for each suite."""

    directory: Path
    own_suite: str

    def containerd_tools(self, runtime: str) -> Path:
        """Find the directory with `runtime`'s containerd, its shim and ctr."""
        return self.directory / RUNTIME_SUITES[runtime] / "usr/bin"

    @property
    def runc(self) -> Path:
        return self.directory / self.own_suite / "usr/sbin/runc"

    @property
    def busybox(self) -> Path:
        return self.directory / self.own_suite / "bin/busybox"

    @property
    def cri_proto(self) -> Path:
        return self.directory / CRI_API_SUITE / CRI_API_PROTO


def open_archive(cache: Path = DEFAULT_CACHE) -> Archive:
    """Return the packages below `cache`, fetching them the first time.

    Delete the directory to get newer ones. Raises ArchiveUnavailable.
    """
    own_suite = machine_suite()
    directory = cache / f"debian-{own_suite}"
    with _locked(cache):
        if not directory.is_dir():
            _fetch(_packages(own_suite), directory)
    return Archive(directory, own_suite)


def open_packages(
    name: str, *packages: str, suite: str | None = None, cache: Path = DEFAULT_CACHE
) -> Path:
    """Return a root with packages of a suite, fetching them the first time.

    The suite is the machine's own unless one is given. What they depend on is not fetched.
    `name` is that of the directory. Raises ArchiveUnavailable.
    """
    suite = suite or machine_suite()
    directory = cache / f"{name}-{suite}"
    with _locked(cache):
        if not directory.is_dir():
            _fetch({suite: packages}, directory)
    return directory / suite


def open_closure(package: str, suite: str, cache: Path = DEFAULT_CACHE) -> Path:
    """Return a root with a package of any suite and all that it depends on, libc included.

    Fetched the first time. Its programs run here after `newer_libc.relocate`. Raises
    ArchiveUnavailable.
    """
    directory = cache / f"{package}-{suite}"
    with _locked(cache):
        if not directory.is_dir():
            _fetch({suite: [package]}, directory, closure=True)
    return directory / suite


def _packages(own_suite: str) -> Mapping[str, Sequence[str]]:
    """List what is needed from each suite.

    runc comes from the machine's own suite because a newer one needs a newer libc; containerd
    does not.
    """
    packages: dict[str, list[str]] = {own_suite: ["runc", "busybox-static"]}
    for suite in RUNTIME_SUITES.values():
        packages.setdefault(suite, []).append("containerd")
    packages.setdefault(CRI_API_SUITE, []).append("golang-github-kubernetes-cri-api-dev")
    return packages


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Keep two runs from fetching at the same time, and git from looking at the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(
    packages: Mapping[str, Sequence[str]], directory: Path, *, closure: bool = False
) -> None:
    """Build `directory` beside its place and rename it, so it is whole or absent.

    With `closure` the packages' dependencies are fetched as well.
    """
    for leftover in directory.parent.glob("build-*"):
        shutil.rmtree(leftover)
    source = machine_source()
    with tempfile.TemporaryDirectory(prefix="build-", dir=directory.parent) as temporary:
        build = Path(temporary)
        apt = PrivateApt(build / "apt", [source.line(suite) for suite in packages])
        apt.update()
        for suite, names in packages.items():
            root = build / "roots" / suite
            root.mkdir(parents=True)
            fetch = apt.download_closure if closure else apt.download
            for package in fetch(suite, names):
                _run("dpkg", "-x", str(package), str(root))
        (build / "roots").rename(directory)


class PrivateApt:
    """Run apt-get with all its files below one directory; `sources` are lines of a sources.list.

    The packages are those for `architecture`, which is the machine's own unless one is given.
    """

    def __init__(self, directory: Path, sources: Sequence[str], architecture: str = "") -> None:
        self._directory = directory
        self._architecture = architecture
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (directory / name).mkdir(parents=True)
        (directory / "sources.list").write_text("".join(sources))
        # apt would take an installed package of the same name for the wanted one.
        (directory / "status").touch()

    def update(self) -> None:
        self._run("--error-on=any", "update")

    def download(self, suite: str, names: Sequence[str]) -> list[Path]:
        """Fetch the named packages, without what they depend on."""
        target = self._directory / "packages" / suite
        target.mkdir()
        self._run("download", *(f"{name}/{suite}" for name in names), cwd=target)
        return sorted(target.glob("*.deb"))

    def download_closure(self, suite: str, names: Sequence[str]) -> list[Path]:
        """Fetch the named packages and their dependencies; no package counts as installed."""
        self._run(
            *("install", "--download-only", "--yes", "--no-install-recommends"),
            *(f"--target-release={suite}", *names),
        )
        return sorted((self._directory / "cache/archives").glob("*.deb"))

    def locate(self, names: Sequence[str]) -> str:
        """Return a line for the newest of each package: 'URL' NAME_VERSION_ARCH.deb SIZE HASH."""
        return self._run("--print-uris", "download", *names)

    def _run(self, *arguments: str, cwd: Path | None = None) -> str:
        settings: dict[str, str | Path] = {
            "Dir::Etc::sourcelist": self._directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": self._directory / "lists",
            "Dir::State::status": self._directory / "status",
            "Dir::Cache": self._directory / "cache",
            # The user _apt cannot look into a checkout below /root.
            "APT::Sandbox::User": "root",
            # Hooks of the machine are for the machine's own lists.
            "APT::Update::Post-Invoke-Success": "",
            "Acquire::Retries": "2",
            # What is only downloaded needs no lock on the machine's own packages.
            "Debug::NoLocking": "1",
        }
        if self._architecture:
            settings["APT::Architecture"] = self._architecture
            settings["APT::Architectures"] = self._architecture
        options = [f"--option={key}={value}" for key, value in settings.items()]
        return _run("apt-get", "--quiet", *options, *arguments, cwd=cwd)


def machine_suite() -> str:
    """Name the Debian release that the machine runs."""
    try:
        return platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError) as error:
        raise ArchiveUnavailable("the machine's os-release file names no suite") from error


def machine_source() -> Source:
    """Read the mirror of the machine's own suite from its apt configuration.

    apt itself reads it, in all the formats that it knows; it needs no package lists for that.
    """
    targets = _run(
        "apt-get",
        "indextargets",
        "--no-release-info",
        "--format=$(RELEASE) $(COMPONENT) $(REPO_URI) $(SIGNED_BY)",
        "Created-By: Packages",
    )
    own_suite = machine_suite()
    for target in targets.splitlines():
        suite, component, uri, signed_by = target.split(maxsplit=3)
        if (suite, component) == (own_suite, "main"):
            return Source(uri, signed_by if signed_by.startswith("/") else "")
    raise ArchiveUnavailable(f"the machine's apt has no source for {own_suite!r}, component main")


def _run(*command: str, cwd: Path | None = None) -> str:
    """Return what `command` prints; turn its failure into one sentence."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        result = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArchiveUnavailable(f"{command[0]} does not run: {error}") from error
    if result.returncode != 0:
        raise ArchiveUnavailable(f"{command[0]} {command[-1]} failed: {_reason(result.stderr)}")
    return result.stdout


def _reason(stderr: str) -> str:
    """Pick the first error out of what apt or dpkg wrote."""
    lines = stderr.strip().splitlines() or ["it does not say why"]
    return next((line for line in lines if line.startswith("E:")), lines[0]).strip()

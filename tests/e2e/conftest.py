"""Fixtures of the end-to-end tests: one runtime of each kind, and more on request."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from image.layout import own_architecture

from nri_inject.version import VERSION

from . import crun, given, leftovers
from .archive import RUNTIME_SUITES, Archive, ArchiveUnavailable, open_archive, open_packages
from .containerd import Containerd
from .cri import compile_api
from .crio import NAME as CRIO_NAME
from .crio import SKOPEO, CriO
from .daemon import PREFIX, Daemon, Options
from .oci_runtimes import NAMES as OCI_RUNTIMES
from .oci_runtimes import Cgroups, OciRuntime, has_cgroups, new_runc
from .suite import Suite

GIVEN = given.containerds()
CRIO = given.crio()
VERSIONS_OF_CGROUPS: list[Cgroups] = ["v1", "v2"]
CONTAINERDS = sorted({*RUNTIME_SUITES, *GIVEN})
RUNTIMES = [*CONTAINERDS, *([CRIO_NAME] if CRIO else [])]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class NewRuntime(Protocol):
    """Make a daemon of the test's own; the keywords are those of `Options`."""

    def __call__(self, **options: Any) -> Daemon: ...


class NewContainerd(Protocol):
    """The same for what only containerd can do here."""

    def __call__(self, **options: Any) -> Containerd: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def archive() -> Archive:
    """Fetch the runtimes' packages; without them there is no end-to-end test."""
    if missing := _missing():
        pytest.skip(missing)
    leftovers.sweep(Path("/tmp"), PREFIX)  # of runs that were killed
    try:
        if CRIO:
            open_packages("skopeo", *SKOPEO)
        return open_archive()
    except ArchiveUnavailable as error:
        pytest.skip(f"Debian's archive cannot be used: {error}")


@pytest.fixture(scope="session")
def cri_api(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile the messages and methods of CRI."""
    return compile_api(archive.cri_proto, tmp_path_factory.mktemp("cri"))


@pytest.fixture(scope="session")
def crun_program(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - has the archive open
    """Fetch crun for the tests that want it."""
    try:
        return crun.build(tmp_path_factory.mktemp("crun") / "crun")
    except ArchiveUnavailable as error:
        pytest.skip(f"crun cannot be had from Debian's archive: {error}")


@pytest.fixture(scope="session")
def oci_programs(
    archive: Archive, crun_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Give OCI runtimes that run on this machine, by name."""
    try:
        newer = new_runc(tmp_path_factory.mktemp("runc") / "runc")
    except ArchiveUnavailable as error:
        pytest.skip(f"a newer runc cannot be had from Debian's archive: {error}")
    return dict(zip(OCI_RUNTIMES, (archive.runc, newer, crun_program), strict=True))


@pytest.fixture(params=[*filter(has_cgroups, VERSIONS_OF_CGROUPS)])
def cgroups(request: pytest.FixtureRequest) -> Cgroups:
    """Run the test once with each version of cgroups."""
    version: Cgroups = request.param
    return version


@pytest.fixture(params=OCI_RUNTIMES)
def oci(
    request: pytest.FixtureRequest,
    oci_programs: Mapping[str, Path],
    archive: Archive,
    cgroups: Cgroups,
) -> OciRuntime:
    """Run the test once with each OCI runtime, without a daemon."""
    return OciRuntime(oci_programs[request.param], archive.busybox, cgroups)


@pytest.fixture(params=["runc", crun.HANDLER])
def handler(request: pytest.FixtureRequest, runtime: Daemon) -> str:
    """Return the handler for the test's pods, once with each low-level runtime."""
    if request.param == crun.HANDLER:
        crun.install(runtime.directory, request.getfixturevalue("crun_program"))
    return str(request.param)


@pytest.fixture(scope="session", params=RUNTIMES)
def runtime_name(request: pytest.FixtureRequest) -> str:
    """Run the test once with each runtime."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_runtime(runtime_name: str, archive: Archive, cri_api: Any) -> Iterator[Daemon]:
    """Keep the one daemon of a version that all tests share; they use `runtime`."""
    with closing(_runtime(runtime_name, archive, cri_api, Options())) as daemon:
        yield daemon


@pytest.fixture
def runtime(shared_runtime: Daemon) -> Iterator[Daemon]:
    """Give a running runtime without pods, shared with other tests.

    A test may restart it, stop it or kill it: the next one finds it running again.
    """
    if not shared_runtime.running:
        shared_runtime.start()
    yield shared_runtime
    if shared_runtime.running:
        shared_runtime.cri.remove_all()


@pytest.fixture
def suite(runtime: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path / "run"))
    made = Suite(runtime, tmp_path)
    made.start()
    yield made
    made.process.process.kill()
    made.process.process.wait()


@pytest.fixture
def new_runtime(runtime_name: str, archive: Archive, cri_api: Any) -> Iterator[NewRuntime]:
    """Give a function that makes a runtime of the test's own, to be started by the test.

    That is for plugins that have to be in `plugin_dir` before the start, and for options.
    """
    with ExitStack() as daemons:

        def new(**options: Any) -> Daemon:
            made = _runtime(runtime_name, archive, cri_api, Options(**options))
            return daemons.enter_context(closing(made))

        yield new


@pytest.fixture(params=CONTAINERDS)
def new_containerd(
    request: pytest.FixtureRequest, archive: Archive, cri_api: Any
) -> Iterator[NewContainerd]:
    """Give the same for containerds alone."""
    with ExitStack() as daemons:

        def new(**options: Any) -> Containerd:
            made = _containerd(request.param, archive, cri_api, Options(**options))
            return daemons.enter_context(closing(made))

        yield new


@pytest.fixture(scope="session")
def build() -> Path:
    """Make the self-contained build, unless it is newer than every module."""
    program = ROOT / "dist" / "nri-inject" / "nri-inject"
    newest = max(path.stat().st_mtime for path in (ROOT / "nri_inject").rglob("*.py"))
    if not program.exists() or program.stat().st_mtime < newest:
        if shutil.which("objdump") is None:
            pytest.skip("the self-contained build needs binutils")
        made = subprocess.run(
            ["make", "binaries"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return program


@pytest.fixture(scope="session")
def suite_image(archive: Archive) -> Path:  # noqa: ARG001 - fails where Debian's archive does
    """Make the image of the DaemonSet, unless it is newer than what it is made of."""
    target = ROOT / "dist" / f"nri-inject-{VERSION}-image-{own_architecture()}.tar"
    sources = [*(ROOT / "nri_inject").rglob("*.py"), *(ROOT / "deploy" / "image").iterdir()]
    newest = max(path.stat().st_mtime for path in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        made = subprocess.run(
            ["make", "image"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return target


def _runtime(name: str, archive: Archive, api: Any, options: Options) -> Daemon:
    """Make a stopped runtime."""
    if name == CRIO_NAME and CRIO:
        return CriO(CRIO, archive, api, options)
    return _containerd(name, archive, api, options)


def _containerd(name: str, archive: Archive, api: Any, options: Options) -> Containerd:
    """Make a stopped containerd, of Debian's or a given one."""
    tools = GIVEN.get(name) or archive.containerd_tools(name)
    return Containerd(name, tools, archive, api, options)


def _missing() -> str:
    """Say what the machine lacks for these tests, or nothing."""
    if sys.platform != "linux":
        return "end-to-end tests run on Linux only"
    if os.geteuid() != 0:
        return "end-to-end tests run as root only, because containerd does"
    if not importlib.util.find_spec("grpc") or not importlib.util.find_spec("grpc_tools"):
        return "end-to-end tests need the packages grpcio and grpcio-tools"
    return ""

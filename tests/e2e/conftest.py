"""Fixtures of the end-to-end tests: one containerd of each version, and more on request."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from . import crio, leftovers
from .archive import RUNTIME_SUITES, Archive, ArchiveUnavailable, open_archive
from .containerd import PREFIX, Containerd, Options
from .cri import compile_api

CRIO = crio.given()
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class NewRuntime(Protocol):
    """Make a daemon of the test's own; the keywords are those of `Options`."""

    def __call__(self, **options: Any) -> Containerd: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def archive() -> Archive:
    """Fetch the runtimes' packages; without them there is no end-to-end test."""
    if missing := _missing():
        _do_without(missing)
    try:
        return open_archive()
    except ArchiveUnavailable as error:
        _do_without(f"Debian's archive cannot be used: {error}")


@pytest.fixture(scope="session")
def cri_api(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile the messages and methods of CRI."""
    return compile_api(archive.cri_proto, tmp_path_factory.mktemp("cri"))


@pytest.fixture(scope="session", params=[*sorted(RUNTIME_SUITES), *([crio.NAME] if CRIO else [])])
def runtime_name(request: pytest.FixtureRequest) -> str:
    """Run the test once with each version of containerd, and with a CRI-O that is given."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_runtime(archive: Archive, cri_api: Any) -> Callable[[str, Options], Containerd]:
    """Make a stopped daemon by name; the first one clears up after killed runs."""
    leftovers.sweep(Path("/tmp"), PREFIX)

    def make(name: str, options: Options) -> Containerd:
        if name == crio.NAME and CRIO:
            return crio.Crio(CRIO, archive, cri_api, options)
        return Containerd(name, archive, cri_api, options)

    return make


@pytest.fixture(scope="session")
def shared_runtime(
    runtime_name: str, make_runtime: Callable[[str, Options], Containerd]
) -> Iterator[Containerd]:
    """Keep the one daemon of a version that all tests share; they use `runtime`."""
    with closing(make_runtime(runtime_name, Options())) as daemon:
        yield daemon


@pytest.fixture
def runtime(shared_runtime: Containerd) -> Iterator[Containerd]:
    """Give a running containerd without pods, shared with other tests.

    A test may restart it, stop it or kill it: the next one finds it running again.
    """
    if not shared_runtime.running:
        shared_runtime.start()
    yield shared_runtime
    if shared_runtime.running:
        shared_runtime.cri.remove_all()


@pytest.fixture
def new_runtime(
    runtime_name: str, make_runtime: Callable[[str, Options], Containerd]
) -> Iterator[NewRuntime]:
    """Give a function that makes a containerd of the test's own, to be started by the test.

    That is for plugins that have to be in `plugin_dir` before the start, and for options.
    """
    with ExitStack() as daemons:

        def new(**options: Any) -> Containerd:
            return daemons.enter_context(closing(make_runtime(runtime_name, Options(**options))))

        yield new


@pytest.fixture(scope="session")
def build() -> Path:
    """Make the self-contained build, unless it is newer than every module."""
    program = ROOT / "dist" / "nri-inject" / "nri-inject"
    newest = max(path.stat().st_mtime for path in (ROOT / "nri_inject").rglob("*.py"))
    if not program.exists() or program.stat().st_mtime < newest:
        if shutil.which("objdump") is None:
            _do_without("the self-contained build needs binutils")
        made = subprocess.run(
            ["make", "binaries"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return program


def _missing() -> str:
    """Say what the machine lacks for these tests, or nothing."""
    if sys.platform != "linux":
        return "end-to-end tests run on Linux only"
    if os.geteuid() != 0:
        return "end-to-end tests run as root only, because containerd does"
    if not importlib.util.find_spec("grpc") or not importlib.util.find_spec("grpc_tools"):
        return "end-to-end tests need the packages grpcio and grpcio-tools"
    return ""


def _do_without(reason: str) -> NoReturn:
    """Skip a test; but in CI, where nobody reads why tests were skipped, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)

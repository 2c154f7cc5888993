"""What is not imported: a plugin is started for every node, and a library by other programs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.launching import NOT_NEEDED

import nri_inject

pytestmark = pytest.mark.slow

BOUND = 30
PACKAGE = Path(nri_inject.__file__).parent
WIRE = sorted((PACKAGE / "wire").glob("*.py"))
WAITING = {
    *("_thread", "asyncio", "concurrent", "logging", "multiprocessing", "os", "select"),
    *("selectors", "signal", "socket", "ssl", "subprocess", "threading", "time"),
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a new process has after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=BOUND, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module", ["nri_inject", "nri_inject.wire", "nri_inject.stub", "nri_inject.plugin"]
)
def test_the_library_loads_no_parser_of_options_or_files(module: str) -> None:
    unwanted = {"click", "yaml", "jsonschema", "pyudev", "grpc", "asyncio"}
    assert not loaded_by(f"import {module}") & unwanted


@pytest.mark.parametrize("plugin", ["device_injector", "logger", "differ", "resource_assigner"])
def test_a_plugin_command_does_not_load_click_before_it_has_arguments(plugin: str) -> None:
    unwanted = {"click", "jsonschema", "pyudev", "grpc"}
    loaded = loaded_by(f"import nri_inject.plugins.{plugin}")
    assert not loaded & unwanted
    assert "nri_inject" in loaded


@pytest.mark.parametrize("plugin", ["cdi_injector", "device_injector", "hook_injector", "suite"])
def test_an_injector_loads_nothing_that_it_can_do_without(plugin: str) -> None:
    loaded = loaded_by(f"import nri_inject.plugins.{plugin}")
    assert not loaded & NOT_NEEDED
    assert "google.protobuf.descriptor" in loaded


def test_what_pytest_loads_for_every_run_loads_no_runtime() -> None:
    loaded = loaded_by("import nri_inject.pytest_plugin")
    assert not loaded & {"click", "jsonschema", "re2", "yaml"}
    assert "pytest" in loaded


def test_help_of_the_suite_loads_no_subcommand() -> None:
    program = (
        "import sys; from nri_inject import cli; from nri_inject.service import options;"
        " options.exit_status(cli.program, ['--help']);"
        " assert 'nri_inject.cli.try_pods' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=BOUND, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"try Show what the containers of a pod would get." in b" ".join(done.stdout.split())


@pytest.mark.parametrize("path", WIRE, ids=lambda path: path.name)
def test_the_wire_has_nothing_to_wait_with(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
        assert not (isinstance(node, ast.Name) and node.id in {"open", "__import__", "print"})
    assert not imported & WAITING


def test_the_wire_was_found() -> None:
    assert {path.name for path in WIRE} >= {"__init__.py", "mux.py", "session.py", "ttrpc.py"}

"""Which program a path calls: by its own name, or by that of what it is a link to."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from nri_inject.plugins.programs import PROGRAMS, SUITE, load, named
from nri_inject.service.command import Command
from nri_inject.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_project() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == PROGRAMS


def test_every_program_but_the_suite_is_a_plugin_command() -> None:
    for name in PROGRAMS:
        assert name == SUITE or isinstance(load(name), Command)


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/opt/nri-inject/nri-inject", "nri-inject"),
        ("nri-device-injector", "nri-device-injector"),
        ("/opt/nri/plugins/10-device-injector", "nri-device-injector"),
        ("/opt/nri/plugins/10-nri-cdi-injector", "nri-cdi-injector"),
        ("/opt/nri/plugins/20-nri-inject", "nri-inject"),
        ("/opt/nri/plugins/20-other", "nri-inject"),
        ("1x-device-injector", "nri-inject"),
        ("/venv/nri_inject/__main__.py", "nri-inject"),
    ],
)
def test_a_program_is_called_by_name(path: str, program: str) -> None:
    assert named(path) == program


def test_another_name_calls_what_it_is_a_link_to(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nri-inject").touch()
    (tmp_path / "bin/nri-hook-injector").symlink_to("nri-inject")
    (tmp_path / "33-my-hooks").symlink_to("bin/nri-hook-injector")
    assert named(str(tmp_path / "33-my-hooks")) == "nri-hook-injector"


def test_links_in_a_loop_call_the_suite(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert named(str(tmp_path / "a")) == "nri-inject"


def test_our_version_is_that_of_the_package() -> None:
    assert version("nri-inject") == VERSION

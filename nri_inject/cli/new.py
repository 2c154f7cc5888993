"""`nri-inject new`: write a small, complete project of a plugin, from the templates we ship."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import click

from nri_inject.errors import ConfigError
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.text.names import is_plugin_index
from nri_inject.text.words import quoted

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME: Final = 63  # of a DNS label, since annotations begin with it
_MAX_FIRST_LINE: Final = 253  # characters after #!, of the 256 that Linux reads
_TAKEN: Final = {"click", "google", "jsonschema", "nri_inject", "pytest", "re2", "tests", "yaml"}

_FILES: Final = {
    "gitignore": ".gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "pod.yaml": "pod.yaml",
    "module.py": "$module.py",
    "tests/test_module.py": "tests/test_$module.py",
    "deploy/drop-in.conf": "deploy/$index-$name.conf",
    "deploy/unit.service": "deploy/$name.service",
}
"""Template, and its path in the project."""


_TEST: Final = 'python -m pip install -e ".[dev]" && python -m pytest'


@click.command("new", epilog=f"Example: nri-inject new greeter && cd greeter && {_TEST}")
@click.option("--idx", metavar="NN", default="50", show_default=True, help="The plugin's index.")
@click.argument("name")
def command(name: str, idx: str) -> int:
    """Write the project of a new plugin into the directory NAME, which must not exist.

    NAME has lower-case letters, digits and single dashes. The project has a plugin, tests that
    pass, and the files to run it on a node.
    """
    try:
        write(Path.cwd() / name, checked(name), idx)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        terminal.show_error(f"cannot write {name}: {error.strerror}")
        return FAILED
    click.echo(f"wrote {name}; test it: cd {name} && {_TEST}")
    return 0


def checked(name: str) -> str:
    """Return a name that can be a plugin's, a module's and a service's; ConfigError otherwise."""
    module = _module(name)
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ConfigError(
            f"name {quoted(name)}: up to {_MAX_NAME} lower-case letters, digits and"
            " single dashes expected, a letter first"
        )
    if keyword.iskeyword(module) or module in _TAKEN | sys.stdlib_module_names:
        raise ConfigError(f"name {name!r}: {module} is a module or keyword of Python")
    return name


def write(directory: Path, name: str, index: str) -> None:
    """Write the project; all of it or nothing, and never over anything.

    ConfigError for an index that is none, and for a directory that exists.
    """
    if not is_plugin_index(index):
        raise ConfigError(f"index {quoted(index)}: two digits expected, as in 10")
    if directory.is_symlink() or directory.exists():
        raise ConfigError(f"{directory.name} already exists")
    values = {"name": name, "module": _module(name), "index": index, "python": _interpreter()}
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory.parent))
    try:
        for template, place in _FILES.items():
            _fill(template, draft / Template(place).substitute(values), values)
        draft.chmod(0o755)
        draft.rename(directory)
    except BaseException:
        shutil.rmtree(draft)
        raise


def _interpreter() -> str:
    """Return what follows `#!` in a program that a runtime launches, without a PATH."""
    path = sys.executable
    if getattr(sys, "frozen", False) or not path or " " in path or len(path) > _MAX_FIRST_LINE:
        return "/usr/bin/env python3"
    return path


def _module(name: str) -> str:
    return name.replace("-", "_")


def _fill(template: str, file: Path, values: Mapping[str, str]) -> None:
    source = resources.files("nri_inject.templates") / "plugin" / f"{template}.template"
    file.parent.mkdir(exist_ok=True)
    file.write_text(Template(source.read_text(encoding="utf-8")).substitute(values))
    if file.suffix == ".py" and file.parent.name != "tests":
        file.chmod(0o755)

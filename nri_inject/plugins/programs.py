"""The project's programs by name, and which of them is meant.

A self-contained build has one executable, and links to it under the other programs' names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from nri_inject.text.names import split_plugin

SUITE: Final = "nri-inject"
_MAX_LINKS: Final = 40  # as Linux: MAXSYMLINKS


# importlib.metadata would read them from the package, for 2.7 MiB and 16 ms of a launched suite.
PROGRAMS: Final[Mapping[str, str]] = {
    "nri-cdi-injector": "nri_inject.plugins.cdi_injector:main",
    "nri-device-injector": "nri_inject.plugins.device_injector:main",
    "nri-differ": "nri_inject.plugins.differ:main",
    "nri-hook-injector": "nri_inject.plugins.hook_injector:main",
    "nri-inject": "nri_inject.__main__:main",
    "nri-logger": "nri_inject.plugins.logger:main",
    "nri-policy-validator": "nri_inject.plugins.policy_validator:main",
    "nri-resource-assigner": "nri_inject.plugins.resource_assigner:main",
}
"""The console scripts of pyproject.toml: name -> the module and the function in it."""

PLUGIN_NAMES: Final = (*(name.removeprefix("nri-") for name in PROGRAMS), SUITE)
"""The names after the index in a runtime's plugin directory."""


def load(program: str) -> Any:
    """Return what a program calls; of a plugin that is its Command."""
    module, _, function = PROGRAMS[program].partition(":")
    return getattr(importlib.import_module(module), function)


def named(path: str) -> str:
    """Return which program a path calls: by its name, or by the name of what it is a link to.

    A runtime's plugin directory has `NN-name`; both `10-device-injector` and
    `10-nri-device-injector` call `nri-device-injector`. What calls none of them calls the suite.
    """
    for name in _names(Path(path)):
        _, base = split_plugin(name)
        for program in (base, f"nri-{base}"):
            if program in PROGRAMS:
                return program
    return SUITE


def _names(path: Path) -> Iterator[str]:
    """Yield the last part of a path, and of what it links to, link by link."""
    for _ in range(_MAX_LINKS):
        yield path.name
        try:
            path = path.parent / path.readlink()
        except OSError:  # no link, or nothing there
            return

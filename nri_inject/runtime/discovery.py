"""Pre-installed plugins: which files of a directory are plugins, and their configuration.

The rules are those of NRI's adaptation (pkg/adaptation, 0.2.0 to 0.12.2), except that one bad
file costs only itself: there, it ends the runtime.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nri_inject.errors import NriError
from nri_inject.text.names import split_plugin

PLUGINS: Final = "/opt/nri/plugins"
CONFIGURATION: Final = "/etc/nri/conf.d"
"""Where runtimes look unless they are told otherwise."""

_EXECUTABLE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_WEBASSEMBLY: Final = b"\0asm\1\0\0\0"


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin's executable, and the two parts of its file name."""

    path: Path
    index: str
    name: str


def identity(path: str | Path) -> tuple[str, str]:
    """Return index and name from a file's name, `NN-name`, cut at the first dash.

    NriError for a name of another form; what follows the dash may be anything, even nothing.
    """
    index, name = split_plugin(Path(path).name)
    if not index:
        raise NriError(f"plugin {path}: a file name such as 10-name expected")
    return index, name


def find(directory: str | Path) -> tuple[list[Installed], list[str]]:
    """Return a directory's plugins by file name, and a sentence for each file that is not one.

    A file with any execute bit counts as a plugin; a link counts, whatever its target. Without the
    directory there are none. NriError if it cannot be read.
    """
    found: list[Installed] = []
    faults: list[str] = []
    for path in _executables(Path(directory)):
        try:
            found.append(Installed(path, *identity(path)))
        except NriError as error:
            faults.append(str(error))
    return found, faults


def _executables(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if _is_candidate(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NriError(f"cannot read plugin directory {directory}: {error.strerror}") from error
    return [directory / name for name in sorted(names, key=os.fsencode)]


def _is_candidate(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        return False
    try:
        return bool(entry.stat(follow_symlinks=False).st_mode & _EXECUTABLE)
    except OSError:
        return False  # gone since it was listed


def configuration(directory: str | Path | None, index: str, name: str) -> str:
    """Return the text of a plugin's drop-in configuration, which is empty without a file.

    The first of `NN-name.conf` and `name.conf` that exists counts. NriError for one that cannot
    be read, or is no UTF-8 (protobuf carries nothing else).
    """
    if directory is None:
        return ""
    for file in (Path(directory, f"{index}-{name}.conf"), Path(directory, f"{name}.conf")):
        try:
            return file.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NriError(f"cannot read configuration {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise NriError(f"cannot read configuration {file}: {error}") from error
    return ""


def is_webassembly(path: str | Path) -> bool:
    """Tell whether a file is a WebAssembly module; one that cannot be read counts as none."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_WEBASSEMBLY)) == _WEBASSEMBLY
    except OSError:
        return False

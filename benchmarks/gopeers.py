"""The Go side of the comparison: what is built of our own module, and what somebody brings."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BIN = HERE.parent / ".cache" / "bench" / "bin"

OURS = ("driver", "floor", "stand-in", "cdi-bench")
PLUGINS = ("device-injector", "hook-injector")


@dataclass
class GoPrograms:
    """Programs by name, and a sentence for each that there is not."""

    programs: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def build(given: Mapping[str, Path | None]) -> GoPrograms:
    """Build our own module's programs; the NRI project's plugins are given as executables."""
    go = GoPrograms()
    BIN.mkdir(parents=True, exist_ok=True)
    for name in OURS:
        _note(go, name, BIN / name, _built(name))
    for name in PLUGINS:
        path = given.get(name)
        missing = f"no --go-{name} given" if path is None else _unusable(path)
        _note(go, name, (path or Path()).absolute(), missing)
    return go


def without() -> GoPrograms:
    """Return what there is where nobody asks for Go."""
    return GoPrograms(missing=dict.fromkeys((*OURS, *PLUGINS), "without Go"))


def _unusable(path: Path) -> str | None:
    return None if shutil.which(path) else f"{path} is no executable"


def _note(go: GoPrograms, name: str, program: Path, missing: str | None) -> None:
    if missing is None:
        go.programs[name] = program
    else:
        go.missing[name] = missing


def _built(name: str) -> str | None:
    """Build a program; return the last line of what Go says when that fails."""
    compiler = shutil.which("go")
    if compiler is None:
        return "there is no Go here"
    ran = subprocess.run(
        [compiler, "build", "-o", str(BIN), f"./{name}"],
        cwd=HERE / "go",
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return None
    return ran.stderr.strip().rpartition("\n")[2].strip() or f"status {ran.returncode}"

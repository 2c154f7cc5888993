"""The Go side of the comparison: what is built, from which modules, and what could not be had."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BIN = HERE.parent / ".cache" / "bench" / "bin"

NRI = "github.com/containerd/nri@v0.12.5"
PLUGIN_VERSION = "v0.0.0-20260820221634-8ec8b285eae3"
PLUGINS = ("device-injector", "hook-injector")


@dataclass
class GoSide:
    """Programs by name, and a sentence for each that could not be built."""

    programs: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def build() -> GoSide:
    """Build our own module's programs, and the Go project's plugins where they can be had."""
    side = GoSide()
    if shutil.which("go") is None:
        side.missing = dict.fromkeys(("cdi-bench", "stand-in", *PLUGINS), "there is no Go here")
        return side
    BIN.mkdir(parents=True, exist_ok=True)
    for name in ("cdi-bench", "stand-in"):
        _note(side, name, _go(HERE / "go", "build", "-o", str(BIN), f"./{name}"))
    for name in PLUGINS:
        # A binary of an earlier run would speak for a version that this run knows nothing of.
        (BIN / name).unlink(missing_ok=True)
        _note(side, name, _plugin(name))
    return side


def _plugin(name: str) -> str | None:
    """Build a plugin, which is a module of its own; return why that failed.

    `go install` refuses it, since its module file replaces NRI by a directory; a module that
    requires it does not.
    """
    module = f"github.com/containerd/nri/plugins/{name}"
    with tempfile.TemporaryDirectory() as directory:
        return (
            _go(directory, "mod", "init", "peer")
            or _go(directory, "get", f"{module}@{PLUGIN_VERSION}", NRI)
            or _go(directory, "build", "-o", str(BIN / name), module)
        )


def _note(side: GoSide, name: str, failure: str | None) -> None:
    if failure is None:
        side.programs[name] = BIN / name
    else:
        side.missing[name] = failure


def _go(directory: str | Path, *arguments: str) -> str | None:
    """Run a go command; return the last line of what it says when it fails."""
    command = ["go", *arguments]  # the one in PATH, as for any build
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return None
    return ran.stderr.strip().rpartition("\n")[2].strip() or f"status {ran.returncode}"

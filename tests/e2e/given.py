"""Runtimes that somebody has built, which the environment names.

NRI_INJECT_CONTAINERD has directories with a containerd, its shim and ctr, with ":" between them.
NRI_INJECT_CRIO is the path of a CRI-O, with pinns and conmon beside it or on PATH.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "NRI_INJECT_CONTAINERD"
CRIO_VARIABLE = "NRI_INJECT_CRIO"
PROGRAMS = ("containerd", "ctr", "containerd-shim-runc-v2")


class NotUsable(Exception):
    """Say in one sentence why what is given cannot be used."""


def containerds(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the directories by the names of their runtimes, such as containerd-2.4.2.

    A ":" separates several. Raises NotUsable.
    """
    found: dict[str, Path] = {}
    for text in filter(None, environment.get(VARIABLE, "").split(":")):
        directory = Path(text).resolve()
        name = f"containerd-{_version(directory)}"
        if name in found:
            raise NotUsable(f"{VARIABLE}: {found[name]} and {directory} both have {name}")
        found[name] = directory
    return found


def crio(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the CRI-O that the environment names, if it names one. Raises NotUsable."""
    text = environment.get(CRIO_VARIABLE, "")
    if not text:
        return None
    if not os.access(text, os.X_OK) or Path(text).is_dir():
        raise NotUsable(f"{CRIO_VARIABLE}: {text} is no program; the path of a crio is expected")
    return Path(text).resolve()


def _version(directory: Path) -> str:
    """Ask the containerd in a directory for its release, without what a builder adds to it."""
    for program in PROGRAMS:
        if not os.access(directory / program, os.X_OK):
            raise NotUsable(
                f"{VARIABLE}: {directory} has no program {program};"
                f" a directory with {', '.join(PROGRAMS)} is expected"
            )
    # "containerd github.com/containerd/containerd/v2 2.4.2+unknown" and perhaps a revision
    told = subprocess.run(
        [directory / "containerd", "--version"], capture_output=True, text=True, check=False
    )
    words = told.stdout.split()
    if len(words) < 3:
        raise NotUsable(f"{VARIABLE}: {directory}/containerd tells no version: {told.stdout!r}")
    return words[2].removeprefix("v").partition("+")[0].partition("~")[0]

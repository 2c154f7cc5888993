"""The chart's templates as helm renders them, and the kustomize base, which is made of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .schema import DEPLOY, VALUES, new_text

CHART = DEPLOY / "chart"
BASE = DEPLOY / "kubernetes" / "base"
MADE = ("configmap.yaml", "daemonset.yaml")
"""The files of the base that are templates of the chart."""
HEAD = "# Made from deploy/chart by `make manifests`.\n"


class RenderError(Exception):
    """Helm refused; the text is its error."""


def render(helm: Path, *options: str) -> str:
    """Return the documents of a release named nri-inject. Raises RenderError."""
    command: list[str | Path] = [
        helm,
        "template",
        "nri-inject",
        CHART,
        "--namespace=nri-inject",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the admin's helm
    if done.returncode:
        raise RenderError(done.stderr.strip())
    return done.stdout


def base_file(helm: Path, name: str) -> str:
    """Return the text that a file of the base should have. Raises RenderError."""
    shown = render(helm, f"--show-only=templates/{name}")
    return HEAD + shown.partition(f"/templates/{name}\n")[2].strip("\n") + "\n"


if __name__ == "__main__":
    VALUES.write_text(new_text())
    for made in MADE:
        (BASE / made).write_text(base_file(Path(sys.argv[1]), made))

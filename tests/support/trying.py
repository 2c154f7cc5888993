"""Runs of nri-inject try, and plugins for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cli import program
from nri_inject.service import options

NO_NODE = ("--root", str(Path(__file__).parent))
"""A file tree without a runtime: the node that runs the tests may have an old one."""

Outcome = tuple[int, str, str]
Try = Callable[..., Outcome]


@pytest.fixture
def attempt(capsys: pytest.CaptureFixture[str]) -> Try:
    """Give a function that runs `nri-inject try` and returns status, output and errors.

    Nothing is restricted, unless the arguments have a policy or a configuration.
    """

    def run(*arguments: str | Path) -> Outcome:
        given = {str(argument) for argument in arguments}
        open_to_all = [] if given & {"--policy", "--config"} else ["--policy", "unrestricted"]
        node = () if "--root" in given else NO_NODE
        status = options.exit_status(program, ["try", *node, *open_to_all, *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


SYSCTL = """
kind: Pod
apiVersion: v1
metadata:
  name: web
  namespace: shop
  annotations:
    sysctl.noderesource.dev/container.app: |
      net.core.somaxconn: "1024"
spec:
  containers:
  - {name: app, image: i}
  - {name: side, image: i}
"""
BROKEN = """
kind: Pod
metadata: {name: bad, annotations: {ulimits.noderesource.dev: "- {type: SPEED, hard: 1, soft: 1}"}}
spec: {containers: [{name: app, image: i}]}
"""


FOREIGN = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.stub import serve

def create(pod, container):
    {body}

serve(
    Plugin(
        name=os.environ["NRI_PLUGIN_NAME"],
        index=os.environ["NRI_PLUGIN_IDX"],
        create_container=create,
        failure_policy=api.FailurePolicy({policy}),
    )
)
"""


def foreign(folder: Path, name: str, body: str, policy: str = "") -> Path:
    text = FOREIGN.format(python=sys.executable, path=sys.path, body=body, policy=policy)
    path = file(folder, name, text)
    path.chmod(0o755)
    return path

"""The messages work with each implementation of protobuf."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from nri_inject import api

BOUND = 120
TESTS = Path(__file__).parent
FULL = api.Container(
    id="c0",
    state=api.ContainerState.CONTAINER_RUNNING,
    labels={"a": "b"},
    args=["sh"],
    linux=api.LinuxContainer(devices=[api.LinuxDevice(path="/dev/a")]),
)

WITH_PYTHON = """
import sys, pytest
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == "python"
sys.exit(pytest.main(["--quiet", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_a_message_is_copied_and_pickled() -> None:
    assert copy.copy(FULL) == copy.deepcopy(FULL) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL


@pytest.mark.slow
def test_the_wire_works_with_the_implementation_in_python() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITH_PYTHON,
            TESTS / "wire/test_session.py",
            TESTS / "test_plugin.py",
        ],
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        timeout=BOUND,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout

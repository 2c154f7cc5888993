"""Properties depend on no clock, and in CI are tried with the same examples in each run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SHOW = """
from support import properties
from hypothesis import settings
usual, own = settings(), properties.examples(300)
print(usual.derandomize, usual.deadline, usual.max_examples, own.derandomize, own.max_examples)
"""


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "False None 100 False 300"),
        ({"CI": "true"}, "True None 100 True 300"),
        ({"NRI_INJECT_EXAMPLES": "0.1"}, "False None 10 False 30"),
        ({"NRI_INJECT_EXAMPLES": "0.01"}, "False None 5 False 5"),
        ({"NRI_INJECT_EXAMPLES": "20"}, "False None 2000 False 6000"),
    ],
)
def test_the_profile(environment: dict[str, str], shown: str) -> None:
    unset = {"CI", "NRI_INJECT_EXAMPLES"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**inherited, "PYTHONPATH": str(Path(__file__).parent), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == shown

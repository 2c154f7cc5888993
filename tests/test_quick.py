"""`--quick` leaves the slow tests out, and lets no other test start a process."""

from __future__ import annotations

from pathlib import Path

import pytest

MODULE = """
import subprocess, sys
import pytest

def test_quick(): pass

@pytest.mark.slow
def test_slow(): raise AssertionError

def test_of_a_process(): subprocess.run([sys.executable, "-c", ""], check=True)
"""


pytestmark = pytest.mark.slow


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder of tests; they run in a process, because an audit hook stays for good."""
    pytester.makepyfile(test_some=MODULE)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return pytester


def test_a_test_that_starts_a_process_fails(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("-p", "support.quick", "--quick")
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*starts a process (subprocess.Popen '*'): mark the test slow"])


def test_without_the_option_all_tests_run(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess(
        "-p", "support.quick", "--deselect", "test_some.py::test_slow"
    )
    result.assert_outcomes(passed=2, deselected=1)

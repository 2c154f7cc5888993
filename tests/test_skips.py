"""A test that cannot run is skipped by name and reason, and in CI fails the run."""

from __future__ import annotations

import pytest

MODULE = """
import pytest

def test_runs(): pass

@pytest.mark.program("no-such-program")
def test_of_a_program(): raise AssertionError

@pytest.mark.program("python3")
def test_of_a_present_program(): pass

@pytest.mark.min_cpus(100_000)
def test_of_cpus(): raise AssertionError

@pytest.mark.min_cpus(1)
def test_of_one_cpu(): pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makepyfile(test_some=MODULE)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NRI_INJECT_MAY_SKIP", raising=False)
    return pytester


def outcome(run: pytest.Pytester) -> pytest.RunResult:
    return run.runpytest_inprocess("-p", "support.skips", "-ra", "--no-fold-skipped")


def test_a_test_is_skipped_for_what_the_machine_lacks(run: pytest.Pytester) -> None:
    result = outcome(run)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=3, skipped=2, deselected=0)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED test_some.py::test_of_a_program - *needs the program no-such-program, *",
            "SKIPPED test_some.py::test_of_cpus - *needs 100000 CPUs, and this machine has *",
        ]
    )


def test_a_skip_fails_the_run_in_ci(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = outcome(run)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*skipped, which fails in CI*",
            "test_some.py::test_of_a_program",
            "test_some.py::test_of_cpus",
            "*3 passed, 2 skipped*",
        ]
    )


def test_a_named_skip_is_permitted_in_ci(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("NRI_INJECT_MAY_SKIP", "test_some.py::test_of_a_program")
    result = outcome(run)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("test_some.py::test_of_a_program")
    monkeypatch.setenv(
        "NRI_INJECT_MAY_SKIP", "test_some.py::test_of_a_program\ntest_some.py::test_of_cpus\n"
    )
    assert outcome(run).ret == pytest.ExitCode.OK


def test_a_module_that_is_skipped_whole_fails_in_ci_too(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    run.makepyfile(test_some='import pytest\npytest.skip("no", allow_module_level=True)')
    result = outcome(run)
    assert result.ret == pytest.ExitCode.TESTS_FAILED

"""Commands of `nri-inject` as a user runs them, for the tests of cases."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from nri_inject.cli import program

CASES = Path(__file__).parent.parent / "cases" / "files"
"""The folders of the cases, with their input."""


def said(*arguments: object) -> tuple[int, list[str]]:
    """Run `nri-inject`; return the exit status, and the lines on both streams."""
    result = CliRunner().invoke(program, [*map(str, arguments)], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value or 0, result.output.splitlines()


def without(place: Path, lines: list[str]) -> list[str]:
    """Return the lines with the paths of files below `place` cut short."""
    return [line.replace(f"{place}/", "") for line in lines]

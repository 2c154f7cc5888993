"""The command `nri-inject` itself, as it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BOUND = 30


def ended(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("nri-inject"), *arguments],
        capture_output=True,
        timeout=BOUND,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_names_the_subcommands_and_has_an_example() -> None:
    status, output, errors = ended("--help")
    assert (status, errors) == (0, "")
    assert "  try " in output
    assert "Example: nri-inject try --plugin device-injector pod.yaml" in output


def test_version_is_ours_and_the_protocols() -> None:
    assert ended("--version") == (0, "nri-inject 0.1.0, NRI 0.12.5\n", "")


def test_help_of_a_subcommand_has_an_example() -> None:
    status, output, errors = ended("try", "--help")
    assert (status, errors) == (0, "")
    assert "Example: nri-inject try --plugin device-injector" in output


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["--fly"], ["try"], ["try", "--fly"], ["try", "--format", "xml", "p"]],
)
def test_wrong_usage_is_2_on_standard_error(arguments: list[str]) -> None:
    status, output, errors = ended(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("Usage: nri-inject")
    assert "Traceback" not in errors


def test_it_tries_a_pod_and_ends_with_0(tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app, image: i}]}\n"
    )
    assert ended("try", "--format", "json", str(manifest)) == (
        0,
        '{"pod": "default/web", "container": "app", "adjust": {}, "update": []}\n',
        "",
    )


def test_a_reader_that_has_seen_enough_is_no_reason_for_a_traceback(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    requests.write_text('{"container": {"name": "' + "x" * 200_000 + '"}}\n')
    with subprocess.Popen(
        [
            Path(sys.executable).with_name("nri-inject"),
            *("try", "--format", "json", "--requests", requests),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(BOUND)
    assert b"Traceback" not in errors

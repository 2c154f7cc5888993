"""Every hook gets an environment of its own, in the vectors as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import hooks_without_env

from nri_inject.host.hook_environment import PATH, environment

VECTORS = Path(__file__).parents[1] / "vectors"


def test_hook_without_environment_gets_roots_path_and_nothing_else() -> None:
    assert environment(()) == (PATH,)
    assert environment([]) == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


@pytest.mark.parametrize("written", [["PATH=/opt/bin"], ["A=1", "B="], [""]])
def test_environment_that_is_written_is_the_whole_environment(written: list[str]) -> None:
    assert environment(written) == tuple(written)


def outcomes(vector: Any) -> Any:
    """Return what a vector expects, at first and after each of its steps."""
    at_first = (vector.get("expect"), vector.get("expect_initial"))
    return [*at_first, *(step.get("expect") for step in vector.get("steps", ()))]


def own_programs(vector: Any) -> set[str]:
    before = (vector.get("oci_spec_in") or {}).get("hooks") or {}
    return {hook["path"] for hooks in before.values() for hook in hooks}


def test_every_vector_with_a_hook_without_environment_is_overruled_by_name() -> None:
    files = [*VECTORS.glob("cdi/*.json"), *VECTORS.glob("oci-hooks/*.json")]
    vectors = [
        vector
        for file in files
        if "table-" not in file.name
        for vector in json.loads(file.read_text())
    ]
    found = {
        vector["name"]
        for vector in vectors
        if hooks_without_env.has_hook_without(outcomes(vector), own_programs(vector))
    }
    assert found == hooks_without_env.NAMES

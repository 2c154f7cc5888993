"""The locked packages: each has its hash, none an address, and all fit pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][0-9a-z.]*)(?: ; [^\\]+)? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
)


def locked(name: str) -> dict[str, str]:
    """Return the locked version of each package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {match["name"]: match["version"] for match in ENTRY.finditer(text)}


def lowest() -> dict[str, str]:
    """Return the lower bound of each package that runs nri-inject."""
    project: Any = PROJECT["project"]
    required = project["dependencies"]
    bounds = [re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)(?:,<.*)?", one) for one in required]
    assert all(bounds)
    return {bound[1]: bound[2] for bound in bounds if bound}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_each_package_has_one_version_and_its_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    rest = ENTRY.sub("", text)
    assert all(line.startswith("#") for line in rest.splitlines()), rest
    assert not re.search(r"index|https?:|--find-links", text)


def numbers(version: str) -> list[int]:
    """Return the numbers of a version without the zeros at its end."""
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return parts


def test_the_oldest_packages_are_the_lower_bounds() -> None:
    oldest = locked("oldest")
    assert {name: numbers(oldest[name]) for name in lowest()} == {
        name: numbers(bound) for name, bound in lowest().items()
    }


@pytest.mark.parametrize("lock", ["dev", "run", "binaries", "image"])
def test_what_runs_is_locked_within_its_bounds(lock: str) -> None:
    versions = locked(lock)
    required = {re.split("[>=<]", one)[0] for one in PROJECT["project"]["dependencies"]}
    assert required <= {*versions}
    for name, bound in lowest().items():
        assert numbers(versions.get(name, bound)) >= numbers(bound)


def test_every_tool_is_locked() -> None:
    groups: Any = PROJECT["dependency-groups"]
    places = {"dev": "dev", "test": "dev", "build": "run", "binaries": "binaries"}
    places |= {"docs": "docs", "generate": "generate", "tools": "tools"}
    assert {*places} == {*groups}
    for group, lock in places.items():
        named = [one for one in groups[group] if isinstance(one, str)]
        assert {re.split("[>=<]", one)[0].lower() for one in named} <= {*locked(lock)}

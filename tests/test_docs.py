"""What the documentation shows is what the programs print, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.slow
def test_the_readme_shows_what_try_prints() -> None:
    program = Path(sys.executable).with_name("nri-inject")
    example = ROOT / "examples" / "02-devices"
    printed = subprocess.run(
        [
            program,
            "try",
            "--policy",
            example / "policy.yaml",
            "--unsafe-files",
            example / "pod.yaml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    readme = (ROOT / "README.md").read_text()
    logger = printed.stdout.partition("pod default/workshop, container careless")[0]
    logger = logger[logger.index("pod default/workshop, container logger") :]
    assert logger in readme
    failure = printed.stdout.rpartition("  fails  ")[2].strip()
    assert failure in readme.replace("\n", " ")


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("docs/differences*.md")), ROOT / "docs" / "security.md"],
    ids=lambda page: page.name,
)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", page.read_text()))
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []

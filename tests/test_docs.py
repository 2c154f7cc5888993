"""What the documentation shows is what the programs print, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    lost: list[str] = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if ":" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_links_lead_from_the_readme_to_every_page_of_docs() -> None:
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        pending += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert [page for page in ROOT.glob("docs/**/*.md") if page not in reached] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_other_hosts_are_sound(page: Path) -> None:
    outside = [link for link in links(page) if ":" in link]
    form = re.compile(r"https://[a-z0-9.-]+\.[a-z]+(?:/[\w./%~+@-]*)?(?:\?[\w=&-]+)?(?:#[\w-]+)?")
    assert [link for link in outside if not form.fullmatch(link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_error_that_a_page_explains_has_the_words_of_the_program(page: Path) -> None:
    """Those are items of lists that begin with the error alone; values in it are passed over."""
    source = "\n".join(path.read_text() for path in (ROOT / "nri_inject").rglob("*.py"))
    words = " ".join(re.sub(r'"\s+f?"', "", source).split())
    explained = re.findall(r"^- \*\*`([^`]+)`\*\*", page.read_text(), re.MULTILINE)
    parts = (part for error in explained for part in re.split(r"'[^']*'|/\S+|\d+", error))
    assert [part for part in parts if " " in part.strip() and part.strip() not in words] == []


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("docs/differences*.md")), ROOT / "docs" / "security.md"],
    ids=lambda page: page.name,
)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", page.read_text()))
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []

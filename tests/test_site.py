"""The site that `make docs` builds: it is whole, its links lead somewhere, and it asks no host."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import click
import pytest
from support.pages import ROOT

import nri_inject
from nri_inject import adjustments, api, cli, runtime, testing, wire
from nri_inject.plugins.programs import PROGRAMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.program("make"),
    pytest.mark.skipif(
        importlib.util.find_spec("sphinx") is None, reason="needs the packages of `make docs`"
    ),
]

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "use": "href"}
"""Elements whose address a browser requests by itself; `link` depends on its `rel`."""


class Reference(NamedTuple):
    """An address in a page; `fetched` says that a browser requests it to show the page."""

    address: str
    fetched: bool


class Html(HTMLParser):
    """What of a page leads elsewhere, and the places in it that a link can name."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.references: list[Reference] = []
        self.places: set[str] = set()
        self.unnamed: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places.add(given.get("id", ""))
        if tag == "img" and not given.get("alt"):
            self.unnamed.append(given.get("src", ""))
        if tag in FETCHED and FETCHED[tag] in given:
            self.references.append(Reference(given[FETCHED[tag]], fetched=True))
        elif tag == "link":
            fetched = given.get("rel") not in ("next", "prev", "search", "author")
            self.references.append(Reference(given["href"], fetched))
        elif "href" in given:
            self.references.append(Reference(given["href"], fetched=False))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, in another place."""
    target = tmp_path_factory.mktemp("docs") / "site"
    made = subprocess.run(
        [
            *("make", "docs", f"SITE={target}", f"SITE_WORK={target.parent / 'work'}"),
            *(f"BIN={Path(sys.executable).parent}", "--no-print-directory"),
            *("--old-file=.venv/.installed", "--old-file=.venv/.documented"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "WARNING" not in made.stderr
    return target


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {page: Html(page) for page in site.rglob("*.html")}


def test_every_page_of_docs_is_there(site: Path) -> None:
    pages = (page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md"))
    assert [page for page in pages if not (site / page.with_suffix(".html")).exists()] == []


def lost(page: Path, found: Html, pages: dict[Path, Html]) -> Iterator[str]:
    """Yield the addresses of a page that lead to no file, or to no place of a page."""
    for address, _ in found.references:
        if re.match(r"[a-z]+:", address):
            continue
        path, _, place = unquote(address).partition("#")
        path = path.partition("?")[0]
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (place and target in pages and place not in pages[target].places):
            yield f"{page.name}: {address}"


def test_links_lead_to_files_and_places(pages: dict[Path, Html]) -> None:
    assert [one for page, found in pages.items() for one in lost(page, found, pages)] == []


def test_a_page_requests_nothing_of_another_host(site: Path, pages: dict[Path, Html]) -> None:
    elsewhere = re.compile(r"(?:[a-z]+:)?//")
    fetched = {
        reference.address
        for found in pages.values()
        for reference in found.references
        if reference.fetched and elsewhere.match(reference.address)
    }
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    imported = re.findall(r"url\(\s*[\"']?((?:[a-z]+:)?//[^)]+)|@import", styles)
    assert (fetched, imported) == (set(), [])


def test_each_picture_has_words(pages: dict[Path, Html]) -> None:
    assert [found.unnamed for found in pages.values() if found.unnamed] == []


def test_the_references_have_every_command_and_every_public_name(site: Path) -> None:
    def text(name: str) -> str:
        return (site / "reference" / f"{name}.html").read_text()

    commands = [
        f"nri-inject {name}" for name in cli.program.list_commands(click.Context(cli.program))
    ]
    assert [name for name in commands if name not in text("nri-inject")] == []
    assert [name for name in PROGRAMS if name not in text("plugins") + text("nri-inject")] == []
    for module in (nri_inject, adjustments, api, testing, runtime, wire):
        public = getattr(module, "__all__", ["Pod", "PodSandbox", "copy_of", "Event"])
        words = text(module.__name__)
        assert [name for name in public if not re.search(rf"\b{name}\b", words)] == []


def test_the_index_of_the_search_has_the_words_of_the_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    assert index.startswith("Search.setIndex(")  # a script, which a browser loads from a file, too
    assert [word for word in ("ldconfig", "zigbe", "FakeRuntime") if word not in index] == []

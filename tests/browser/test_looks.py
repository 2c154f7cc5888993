"""The site in a real browser, at two widths: contrast, keyboard, search, and no request elsewhere.

`make look` runs it. The pictures of the pages are in .cache/looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from e2e.archive import REPOSITORY

from .chromium import Browser, Page

SITE = REPOSITORY / "dist" / "docs"
LOOKS = REPOSITORY / ".cache" / "looks"
AXE = REPOSITORY / ".cache" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = sorted(str(page.relative_to(SITE)) for page in SITE.rglob("*.html"))
WIDTHS = (1280, 390)
TAB, SPACE = ("Tab", 9), (" ", 32)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with closing(Browser(tmp_path_factory.mktemp("profile"))) as opened:
        yield opened


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (390, "dark")])
def test_a_page_can_be_read(browser: Browser, width: int, colours: str, page: str) -> None:
    dark = colours == "dark"
    with closing(Page(browser, (SITE / page).as_uri(), width, dark=dark)) as opened:
        opened.picture(LOOKS / f"{page.replace('/', '-')}-{width}-{colours}.png")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in opened.requested() if not url.startswith(("file:", "data:"))] == []
        opened.evaluate(AXE.read_text())
        assert [*faults(json.loads(opened.evaluate(RUN)))] == []


# The theme has the check boxes of its menus before the first landmark.
RUN = """axe.run({resultTypes: ["violations"], rules: {region: {enabled: false}}})
    .then(JSON.stringify)"""


def faults(found: dict[str, Any]) -> Iterator[str]:
    """Yield what axe objects to, with the first elements of each fault."""
    for fault in found["violations"]:
        for node in fault["nodes"][:3]:
            yield f"{fault['id']}: {node['target']}: {node['failureSummary']}"


FOCUSED = """(() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  return [at.getAttribute("href") || at.getAttribute("name") || at.className || at.tagName,
          box.width > 0, style.outlineStyle != "none" || style.boxShadow != "none"];
})()"""


@pytest.mark.parametrize("width", WIDTHS)
def test_the_keyboard_reaches_the_text_and_shows_where_it_is(browser: Browser, width: int) -> None:
    with closing(Page(browser, (SITE / "index.html").as_uri(), width)) as opened:
        reached = []
        for _ in range(40):
            opened.press(*TAB)
            reached.append(opened.evaluate(FOCUSED))
        assert reached[0][0] == "#furo-main-content"
        assert "try.html" in [name for name, _, _ in reached]
        assert [name for name, seen, marked in reached if not (seen and marked)] == []


def test_the_menu_of_a_narrow_window_opens_by_a_key(browser: Browser) -> None:
    menu = 'getComputedStyle(document.querySelector(".sidebar-drawer")).visibility'
    with closing(Page(browser, (SITE / "index.html").as_uri(), 390)) as opened:
        before = opened.evaluate(menu)
        opened.evaluate('document.querySelector("#__navigation").focus()')
        opened.press(*SPACE)
        assert (before, opened.evaluate(menu)) == ("hidden", "visible")


RESULTS = """new Promise(found => {
  const look = () => {
    const links = document.querySelectorAll("#search-results li a");
    if (links.length) found([...links].map(one => one.getAttribute("href")));
    else setTimeout(look, 50);
  };
  look();
})"""


def test_the_search_finds_a_word_without_a_network(browser: Browser) -> None:
    with closing(Page(browser, (SITE / "search.html").as_uri() + "?q=ldconfig", 1280)) as opened:
        links = opened.evaluate(RESULTS)
        opened.picture(LOOKS / "search-results.png")
    assert any(link.startswith("recipes/ldconfig-hook.html") for link in links)

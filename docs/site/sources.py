"""Write the pages of the site: `python docs/site/sources.py DIRECTORY`.

The pages of docs/ stay as they are, for readers on a repository host. Their links to files outside
of docs/ lead to the repository, and the lists of links in index.md and recipes/README.md become the
navigation.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import commands
import messages
import names

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
LISTED = re.compile(r"\[(?P<title>[^\]]+)\]\((?P<path>[\w./-]+\.md)\)")
MODULES = ("nri_inject", "nri_inject.adjustments", "nri_inject.testing")
UNSTABLE = ("nri_inject.stub", "nri_inject.wire", "nri_inject.runtime")
"""Modules with public names, of which the second row may change (docs/stability.md)."""


def write(target: Path) -> None:
    """Write the pages, the pictures and the references below an empty or missing directory."""
    for page in sorted(DOCS.rglob("*.md")):
        place = target / page.relative_to(DOCS)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(relinked(page) + navigation(page))
    shutil.copytree(DOCS / "pictures", target / "pictures", ignore=shutil.ignore_patterns("*.py*"))
    for name, text in references():
        (target / "reference").mkdir(exist_ok=True)
        (target / "reference" / f"{name}.md").write_text(text)


def references() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page that is made from the code."""
    yield "nri-inject", commands.of_the_suite()
    yield "plugins", commands.of_the_plugins()
    for module in (*MODULES, *UNSTABLE):
        yield module, names.page(module)
    yield "nri_inject.api", messages.page()


def relinked(page: Path) -> str:
    """Return a page whose links to files outside of docs/ lead to the repository."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]

    def link(match: re.Match[str]) -> str:
        path = (page.parent / match["path"]).resolve()
        if path.is_relative_to(DOCS) and path.is_file():
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({home}/{kind}/main/{path.relative_to(ROOT)}{match['anchor'] or ''})"

    return LINK.sub(link, page.read_text())


def navigation(page: Path) -> str:
    """Return the trees of pages that a page of links opens; the first page has the references."""
    text = page.read_text()
    if page == DOCS / "recipes" / "README.md":
        return tree(
            "",
            (f"{m['title']} <{m['path']}>" for m in LISTED.finditer(text) if "/" not in m["path"]),
        )
    if page != DOCS / "index.md":
        return ""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    trees = [
        tree(
            section.partition("\n")[0],
            (f"{m['title']} <{m['path']}>" for m in LISTED.finditer(section)),
        )
        for section in sections
    ]
    made = (f"reference/{name}.md" for name, _ in references())
    return "".join([*trees, tree("Reference", made)])


def tree(caption: str, entries: Iterable[str]) -> str:
    """Return a directive that adds pages to the navigation and shows nothing on the page."""
    head = ["", "```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", ""]
    return "\n".join([*head, *entries, "```", ""])


if __name__ == "__main__":
    write(Path(sys.argv[1]))

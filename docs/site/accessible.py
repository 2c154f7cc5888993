"""Corrections to the pages that Sphinx and the theme write, for keyboards and screen readers.

`make look` finds these faults with axe. A correction that changes no page any more fails the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sphinx.application import Sphinx

CORRECTIONS: Final = (
    # A heading needs a level, and landmarks of one kind a name each.
    (r'role="heading">', 'role="heading" aria-level="2">'),
    (r'<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="All pages">'),
    (r'<aside class="(toc-drawer[^"]*)">', r'<aside class="\1" aria-label="On this page">'),
    # The first key leads past the menus.
    (r'(?s)(<body[^>]*>)(.*?)(<a class="skip-to-content[^>]*>[^<]*</a>)', r"\1\3\2"),
    # The arrow keys scroll only where the focus can be.
    (r"<pre>", '<pre tabindex="0">'),
    (r'<div class="(table-wrapper[^"]*)">', r'<div class="\1" tabindex="0">'),
    (r'<p>(<img [^>]*src="[^"]*\.svg"[^>]*>)</p>', r'<div class="picture" tabindex="0">\1</div>'),
    # A list of parameters has no terms, and an empty cell is no header.
    (r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>", r'<span class="parameters">\n\1</span>'),
    (r'<dd>(<em class="sig-param">.*)</dd>', r'<span class="parameter">\1</span>'),
    (r'<th class="head"><p></p></th>', '<td class="head"></td>'),
    # The page of the search has no heading.
    (r'(<article role="main" id="furo-main-content">)(?=\s*<noscript>)', r"\1<h1>Search</h1>"),
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Correct the pages when they are written; Sphinx calls this."""
    app.connect("build-finished", correct)
    return {"parallel_read_safe": True}


def correct(app: Sphinx, fault: Exception | None) -> None:
    """Correct every page; raises ValueError for a correction that is not needed any more."""
    if fault is not None:
        return
    unused = {pattern for pattern, _ in CORRECTIONS}
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text()
        for pattern, replacement in CORRECTIONS:
            text, count = re.subn(pattern, replacement, text)
            if count:
                unused.discard(pattern)
        page.write_text(text)
    if unused:
        raise ValueError(f"no page has {', '.join(sorted(unused))}: remove the correction")

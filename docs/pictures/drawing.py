"""Parts of a drawing in SVG: boxes with a name and words, arrows, and lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = (
    "text{font-family:sans-serif;fill:#1f2937}.name{font-size:15px;font-weight:bold}"
    ".words{font-size:13px}rect{fill:#eef2ff;stroke:#6366f1;rx:6}"
    ".paper{fill:#fff;stroke:none}.bad{fill:#fef2f2;stroke:#dc2626}"
    ".good{fill:#f0fdf4;stroke:#16a34a}"
    "path{stroke:#6b7280;fill:none;marker-end:url(#tip)}#tip path{marker-end:none}"
    "@media (prefers-color-scheme:dark){text{fill:#e5e7eb}rect{fill:#1e1b4b}"
    ".paper{fill:#131416}.bad{fill:#450a0a}.good{fill:#052e16}path{stroke:#9ca3af}}"
)
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
    ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8"/></marker></defs>'
)


def document(
    width: int, height: int, label: str, parts: Iterable[str], *, style: str = STYLE
) -> str:
    """Return a whole SVG document; `label` is read out where it cannot be seen."""
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
                f' role="img" aria-label="{escape(label)}">'
            ),
            f"<style>{style}</style>",
            '<rect class="paper" x="0" y="0" width="100%" height="100%"/>',
            TIP,
            *parts,
            "</svg>",
            "",
        ]
    )


def box(
    left: float, top: float, width: float, height: float, name: str, words: str, look: str = ""
) -> list[str]:
    """Return a box with a name and a sentence, which is broken into lines.

    `look` is "good" for an outcome with the device, and "bad" for one without it.
    """
    style = f'class="{look}" ' if look else ""
    parts = [
        f'<rect {style}x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="name" x="{left + 10:.0f}" y="{top + 20:.0f}">{escape(name)}</text>',
    ]
    for line, text in enumerate(lines_of(words, width)):
        place = f'x="{left + 10:.0f}" y="{top + 39 + 16 * line:.0f}"'
        parts.append(f'<text class="words" {place}>{escape(text)}</text>')
    return parts


def lines_of(words: str, width: float) -> list[str]:
    """Return the lines of a box of a width."""
    return wrapped(words, int((width - 20) / 6.9))


def arrow(path: str, words: str = "", at: tuple[float, float] = (0, 0)) -> list[str]:
    """Return an arrow along an SVG path, with words at a place."""
    text = f'<text class="words" x="{at[0]:.0f}" y="{at[1]:.0f}">{escape(words)}</text>'
    return [f'<path d="{path}"/>', *([text] if words else [])]


def wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most so many characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines

"""Draw the states of a connection: `python docs/pictures/connection.py` writes connection.svg.

The states, the events and the arrows are those of the table in nri_inject/stub/connection.py.
"""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

from nri_inject.stub import connection

HERE = Path(__file__).parent
WIDTH, HEIGHT = 760, 382

STATES = {
    "registering": (10, 40, "Sends its name and its index"),
    "configured": (290, 40, "Has its settings, and serves"),
    "synchronized": (570, 40, "Has all containers, and serves"),
    "leaving": (170, 270, "Sends the bytes that are left"),
    "ended": (570, 270, "The socket is closed"),
}
"""State -> the place of its box, and its words."""

# From and to -> the arrow, and the place of its words.
ARROWS = {
    ("registering", "configured"): ("M190 80H284", (202, 72)),
    ("configured", "synchronized"): ("M470 80H564", (476, 72)),
    ("configured", "configured"): ("M320 40V16H360V34", (368, 22)),
    ("synchronized", "synchronized"): ("M700 40V16H740V34", (545, 22)),
    ("registering", "leaving"): ("M100 118V310H164", (108, 216)),
    ("configured", "leaving"): ("M330 118V264", (338, 200)),
    ("synchronized", "leaving"): ("M600 118V220H340V264", (0, 0)),
    ("leaving", "ended"): ("M350 310H564", (364, 302)),
    ("registering", "ended"): ("M40 118V368H600V354", (48, 360)),
    ("configured", "ended"): ("M440 118V150H640V264", (460, 142)),
    ("synchronized", "ended"): ("M720 118V264", (0, 0)),
}
DRAWN_ONCE = {("synchronized", "leaving"), ("synchronized", "ended")}
"""Arrows whose words are those of another arrow beside them."""


def events() -> dict[tuple[str, str], list[str]]:
    """Return the events of each pair of states, as the table has them."""
    found: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in connection._NEXT.items():
        found.setdefault((state, following), []).append(event)
    return found


def picture() -> str:
    """Return the drawing; KeyError for an arrow of the table that has no place."""
    parts: list[str] = []
    for name, (left, top, words) in STATES.items():
        parts += box(left, top, 180, 78, name, words, "good" if "serves" in words else "")
    for pair, names in events().items():
        path, at = ARROWS[pair]
        parts += arrow(path, "" if pair in DRAWN_ONCE else ", ".join(names), at)
    label = (
        "A connection is registering, then configured, then synchronized. It is leaving after a"
        " handshake that failed, and it has ended when the socket is closed"
    )
    return document(WIDTH, HEIGHT, label, parts)


if __name__ == "__main__":
    (HERE / "connection.svg").write_text(picture())

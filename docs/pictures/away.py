"""Draw containers while the plugin is not there: `python docs/pictures/away.py` writes away.svg."""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, HEIGHT = 760, 420
GONE, BACK = 250, 510  # where the plugin goes, and where it is back


def picture() -> str:
    """Return the drawing: time goes to the right."""
    parts = [
        *box(10, 10, GONE - 10, 60, "the plugin is connected", "", "good"),
        *box(GONE, 10, BACK - GONE, 60, "it is not there", "killed, restarted, upgraded", "bad"),
        *box(BACK, 10, 240, 60, "it is connected again", "The runtime reports containers", "good"),
        *box(40, 96, 710, 60, "created while it was connected", BEFORE, "good"),
        *box(GONE + 20, 182, 480, 60, "created and started meanwhile", MISSED, "bad"),
        *box(GONE + 80, 268, 420, 60, "created meanwhile, started later", REFUSED, "bad"),
        *box(BACK + 40, 350, 200, 60, "created again", "It has its device", "good"),
        *arrow("M590 328V344"),
    ]
    label = (
        "A container that is created while the plugin is not there starts without its device, and"
        " the plugin reports it after its return"
    )
    return document(WIDTH, HEIGHT, label, parts)


BEFORE = "It keeps its device, whatever happens to the plugin later"
MISSED = "It runs without its device. The plugin reports it as missed"
REFUSED = "The plugin refuses the start, the kubelet tries again"


if __name__ == "__main__":
    (HERE / "away.svg").write_text(picture())

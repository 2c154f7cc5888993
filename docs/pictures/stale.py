"""Draw a stick that comes back with another number: `python docs/pictures/stale.py`."""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, HEIGHT = 760, 340
OUT, IN = 250, 430  # where the stick is unplugged, and where it is plugged in again


def picture() -> str:
    """Return the drawing: time goes to the right."""
    parts = [
        *box(10, 10, OUT - 20, 60, "the stick is 188:0", "The kernel gives it this number", "good"),
        *box(OUT, 10, IN - OUT - 10, 60, "it is unplugged", "188:0 is gone", "bad"),
        *box(IN, 10, 320, 60, "it is 188:1", "It has another number when it comes back", "good"),
        *box(10, 96, OUT - 20, 60, "the container", "/dev/zigbee is 188:0 and works", "good"),
        *box(OUT, 96, IN - OUT - 10, 60, "stale", "/dev/zigbee is gone", "bad"),
        *box(IN, 96, 320, 60, "still stale", "/dev/zigbee is now 188:1", "bad"),
        *arrow("M590 160V176", "stale: report (default)", (602, 173)),
        *box(IN, 180, 320, 60, "reported", "The log, the status and the metrics have it"),
        *arrow("M590 244V260", "with a restart", (602, 257)),
        *box(IN, 264, 320, 60, "created again", "/dev/zigbee is 188:1 and works", "good"),
    ]
    label = (
        "A container keeps the number of a stick that is unplugged. The plugin reports it as stale,"
        " and with a restart the container has the stick's new number"
    )
    return document(WIDTH, HEIGHT, label, parts)


if __name__ == "__main__":
    (HERE / "stale.svg").write_text(picture())

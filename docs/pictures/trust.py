"""Draw who is trusted with what: `python docs/pictures/trust.py` writes trust.svg."""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, HEIGHT, TALL, WIDE = 760, 462, 76, 330

TRUSTED = (
    ("the node's admin (root)", "Everything: policy, CDI specs, hooks, configuration, /dev"),
    ("the container runtime", "The facts of a pod: namespace, labels, annotations"),
    ("the API server", "The namespace of a pod is its own"),
)
UNTRUSTED = (
    ("a pod's author", "Annotations, labels, names, image: a bad one costs this container"),
    ("root in a container", "A file that it can write is refused, nothing in it is mounted"),
    ("other users of the host", "A file that they could have written is refused"),
)


def picture() -> str:
    """Return the drawing."""
    parts = [
        '<text class="name" x="10" y="22">trusted</text>',
        '<text class="name" x="420" y="22">not trusted</text>',
    ]
    for number, (good, bad) in enumerate(zip(TRUSTED, UNTRUSTED, strict=True)):
        top = 34 + number * (TALL + 14)
        parts += box(10, top, WIDE, TALL, *good, "good")
        parts += box(420, top, WIDE, TALL, *bad, "bad")
    parts += box(200, 364, 360, 88, "nri-inject", NRI_INJECT)
    parts += arrow("M175 290V408H194", "facts and rules", (68, 340))
    parts += arrow("M585 290V408H566", "requests", (595, 340))
    label = (
        "The node's admin, the runtime and the API server are trusted. A pod's author, root in a"
        " container and other users of the host are not"
    )
    return document(WIDTH, HEIGHT, label, parts)


NRI_INJECT = (
    "Compares each request with the admin's rules. A bad request fails one container, never the"
    " plugin"
)


if __name__ == "__main__":
    (HERE / "trust.svg").write_text(picture())

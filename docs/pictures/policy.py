"""Draw the order of the policy: `python docs/pictures/policy.py` writes policy.svg.

The order is that of `Policy.decide` in nri_inject/policy/rules.py.
"""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, STEP, TALL, TOP = 760, 98, 72, 10
LEFT, WIDE, RIGHT, NARROW = 10, 380, 470, 280

STEPS = (
    ("one thing of the request", "A device, a mount, a limit, a sysctl: each has its own decision"),
    ("can the policy be read?", "After a fault the last good version counts. Without one: denied"),
    ("can a rule allow it?", "Not a path that a user other than root can redirect"),
    ("rule 1", "Does it name the container and the thing?"),
    ("rule 2", "The same question, rule by rule, from the top of the file"),
    ("no rule is left", "The error has the rule that would allow the thing"),
)
REFUSED = "on_deny: fail, the container is not created. on_deny: skip, it lacks the thing"
WARNED = "mode: warn, the container gets it, and the log has a warning"


def picture() -> str:
    """Return the drawing."""
    parts: list[str] = []
    for number, (name, words) in enumerate(STEPS):
        top = TOP + number * STEP
        parts += box(LEFT, top, WIDE, TALL, name, words)
        if number < len(STEPS) - 1:
            says = ("", "yes", "yes", "no: the next rule", "no: the next rule")[number]
            parts += arrow(f"M{LEFT + 60} {top + TALL}V{top + STEP - 4}", says, (80, top + 89))
    allowed, denied = TOP + 2.6 * STEP, TOP + 3.8 * STEP
    parts += box(RIGHT, allowed, NARROW, TALL, "allowed", "The container gets it", "good")
    parts += box(RIGHT, denied, NARROW, 94, "denied", REFUSED, "bad")
    parts += box(RIGHT, denied + 110, NARROW, TALL, "denied in a trial", WARNED)
    for number in (1, 2):
        middle = TOP + number * STEP + 36
        parts += arrow(f"M{LEFT + WIDE} {middle}H424V{denied + 30:.0f}", "no", (400, middle - 6))
    parts += arrow(f"M424 {denied + 30:.0f}H464")
    for number in (3, 4):
        middle = TOP + number * STEP + 22
        parts += arrow(f"M{LEFT + WIDE} {middle}H446V{allowed + TALL / 2:.0f}H464")
        parts += arrow(f"M{LEFT + WIDE} {middle + 28}H424")
    parts += arrow(f"M{LEFT + WIDE} {TOP + 5 * STEP + 36}H424V{denied + 36:.0f}")
    parts += arrow("M0 0", "allow", (394, TOP + 3 * STEP + 16))
    parts += arrow("M0 0", "deny", (394, TOP + 3 * STEP + 66))
    label = (
        "The policy reads its rules from the top. The first rule that names the container and the"
        " thing allows or denies it; without a rule it is denied"
    )
    return document(WIDTH, TOP + 6 * STEP, label, parts)


if __name__ == "__main__":
    (HERE / "policy.svg").write_text(picture())

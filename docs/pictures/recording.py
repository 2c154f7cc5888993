"""Record a terminal: `.venv/bin/python docs/pictures/recording.py` writes recording.svg.

The commands run, and what they print is what is shown. A pod is denied a device, its admin pastes
the rule of the error into the policy, and the pod has the device.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from drawing import document, wrapped

HERE = Path(__file__).parent
COLUMNS, LINE, MARGIN = 104, 18, 22
SECONDS = 0.25  # from one line to the next
STYLE = (
    ".paper{fill:#111827}text{font:13px monospace;fill:#e5e7eb;white-space:pre}"
    ".typed{fill:#93c5fd}.fails{fill:#fca5a5}.gets{fill:#86efac}"
    "@media (prefers-reduced-motion:no-preference){text{animation:appear .2s both}}"
    "@keyframes appear{from{opacity:0}}"
)
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: build
  namespace: ci
  annotations:
    devices.noderesource.dev/container.main: |
      - path: /dev/fuse
spec:
  containers: [{name: main, image: builder}]
"""
POLICY = "/etc/nri-inject/policy.yaml"
TRY = f"nri-inject try --policy {POLICY} pod.yaml"
RULE = "rules:\n  - {rule}\n"


def lines() -> Iterator[tuple[str, str]]:
    """Yield the lines of the terminal, each with its style."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pod.yaml").write_text(POD)
        policy = directory / "policy.yaml"
        policy.write_text("rules: []\n")
        yield "typed", "$ cat pod.yaml"
        yield from (("", line) for line in POD.splitlines())
        denied = tried(directory)
        yield from (("typed", f"$ {TRY}"), *denied)
        rule = " ".join(text.strip() for _, text in denied).partition("a rule that allows it: ")[2]
        policy.write_text(RULE.format(rule=rule))
        yield "typed", f"$ cat {POLICY}        # the rule of the error, pasted"
        yield from (("", line) for line in policy.read_text().splitlines())
        yield from (("typed", f"$ {TRY}"), *tried(directory))


def tried(directory: Path) -> list[tuple[str, str]]:
    """Run `try` and return what it prints, without what an OCI runtime makes of it."""
    program = Path(sys.executable).with_name("nri-inject")
    printed = subprocess.run(  # noqa: S603 (our own program)
        [program, "try", "--policy", "policy.yaml", "--unsafe-files", "pod.yaml"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.replace(f"{directory.resolve()}/policy.yaml", POLICY)
    shown: list[tuple[str, str]] = []
    for line in printed.splitlines():
        word = line.split()[0]
        if word == "OCI":
            continue
        first, *more = wrapped(line.strip(), COLUMNS - 9)
        indent = line[: len(line) - len(line.lstrip())]
        shown.append((word, f"{indent}{word:<6} {first[len(word) :].strip()}" if indent else first))
        shown += [(word, f"{'':9}{text}") for text in more]
    return shown


def picture() -> str:
    """Return the recording; each line appears a moment after the one before."""
    parts = []
    for number, (style, text) in enumerate(lines()):
        looks = f'class="{style}" style="animation-delay:{number * SECONDS:g}s"'
        place = f'xml:space="preserve" x="{MARGIN}" y="{MARGIN + LINE * (number + 1)}"'
        parts.append(f"<text {looks} {place}>{escape(text)}</text>")
    height = MARGIN * 2 + LINE * (len(parts) + 1)
    label = "A pod is denied /dev/fuse, the rule of the error is pasted, and the pod has the device"
    return document(880, height, label, parts, style=STYLE)


if __name__ == "__main__":
    (HERE / "recording.svg").write_text(picture())

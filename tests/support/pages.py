"""The pages of the documentation as data: their fenced blocks, and the commands in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "examples", "deploy", "hooks", "cdi_specs", "benchmarks", ".github")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
HEADING = re.compile(r"^##+ .*$", re.MULTILINE)
FRAGMENT = re.compile(r"<!-- fragment: (?P<reason>[^>]+) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block; `number` counts those of the page, `reason` is that of a fragment."""

    page: str
    number: int
    section: str
    language: str
    text: str
    reason: str

    @property
    def title(self) -> str:
        """Name the block in reports, as in `docs/try.md#1`."""
        return f"{self.page}#{self.number}"


@dataclass(frozen=True)
class Command:
    """A command of a console block, without its prompt, and the output below it."""

    prompt: str
    text: str
    output: str


def blocks(page: Path) -> list[Block]:
    """Read the fenced blocks of a page."""
    text = page.read_text()
    found: list[Block] = []
    for number, match in enumerate(FENCE.finditer(text), 1):
        before = text[: match.start()]
        marked = FRAGMENT.search(before)
        found.append(
            Block(
                str(page.relative_to(ROOT)),
                number,
                next(iter(HEADING.findall(before)[-1:]), ""),
                match["language"],
                textwrap.dedent(match["text"]),
                marked["reason"] if marked else "",
            )
        )
    return found


def commands(block: Block) -> list[Command]:
    """Read the commands of a console block; a backslash at the end goes on with the next line."""
    found: list[Command] = []
    for line in block.text.replace("\\\n", "").splitlines(keepends=True):
        if line[:2] in ("$ ", "# "):
            found.append(Command(line[0], line[2:].strip(), ""))
        else:
            assert found, f"{block.title} begins without a command"
            found[-1] = Command(found[-1].prompt, found[-1].text, found[-1].output + line)
    return found

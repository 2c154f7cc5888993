"""The sentences of docs/troubleshooting.md are those of the programs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from support.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"
"""Stands for a value in a sentence of the code."""


def sentences() -> list[str]:
    """Return the first cells of the tables that have one."""
    found = re.findall(r"^\| `([^|]+)` \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(found) > 40
    return found


@cache
def shapes() -> str:
    """Return all texts of the code, one a line, with a mark for each value."""
    files = (ROOT / "nri_inject").rglob("*.py")
    return "\n".join(shape for file in files for shape in texts(ast.parse(file.read_text())))


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (one.value if isinstance(one, ast.Constant) else VALUE for one in node.values)
            yield " ".join("".join(map(str, parts)).split())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(re.sub(r"%[\d.]*[a-z]", VALUE, node.value).split())


@pytest.mark.slow
@pytest.mark.parametrize("sentence", sentences())
def test_a_sentence_has_the_shape_of_one_in_the_code(sentence: str) -> None:
    fixed = [re.escape(part.strip()) for part in sentence.split("...") if part.strip(" ;:,?()")]
    assert re.search("[^\n]*?".join(fixed), shapes().replace("`", "")), sentence


def test_each_table_of_sentences_says_what_to_do() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [row for row in rows if "" in (cell.strip() for cell in row.split(" | "))] == []

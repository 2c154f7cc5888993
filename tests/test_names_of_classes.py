"""A class's name means one thing in the whole package, so that a reader of one module knows it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import nri_inject

PACKAGE = Path(nri_inject.__file__).parent
GENERATED = PACKAGE / "_pb"

STAY: dict[str, str] = {
    "World": "the one of `nri-inject try` is the one of the runtime side, and remembers updates",
}
"""Names of several modules that stay, each with the reason."""

AT_MOST = 8


def names_of(module: ast.Module) -> Iterator[str]:
    """Yield the classes and type aliases of a module, the private ones, too."""
    for node in module.body:
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                yield name
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.BinOp() | ast.Subscript() | ast.Attribute()
            ) if re.fullmatch("_?[A-Z][a-z][A-Za-z]*", name):
                yield name


def modules_by_name() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if GENERATED not in path.parents:
            for name in names_of(ast.parse(path.read_text(encoding="utf-8"))):
                found[name.lstrip("_")].append(str(path.relative_to(PACKAGE)))
    return found


@pytest.mark.slow
def test_a_class_has_a_name_of_its_own() -> None:
    several = {name: places for name, places in modules_by_name().items() if len(places) > 1}
    assert {name: places for name, places in several.items() if name not in STAY} == {}
    assert set(STAY) <= set(several)
    assert len(STAY) <= AT_MOST

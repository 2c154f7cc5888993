"""The reference of the public names of a module: those of `__all__`, with their docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import nri_inject
from nri_inject import api

FENCE = 6  # backticks around a class, with room for those around what is in it


class Written:
    """An annotation, shown as it stands in the source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def page(module: str) -> str:
    """Return the page of a module."""
    loaded = importlib.import_module(module)
    lines = [f"# {module}", "", text_of(loaded), ""]
    lines += [f"```{{py:module}} {module}", "```", ""]
    for name in sorted(loaded.__all__, key=str.casefold):
        value = getattr(loaded, name)
        if hasattr(value, "DESCRIPTOR"):
            lines += [f"`{name}` is in [nri_inject.api](nri_inject.api.md#{name.lower()}).", ""]
        elif name in vars(api):
            lines += [f"`{name}` is in [nri_inject.api](nri_inject.api.md).", ""]
        elif loaded is not nri_inject and name in nri_inject.__all__:
            lines += [f"`{name}` is in [nri_inject](nri_inject.md).", ""]
        else:
            lines += described(name, value)
    return "\n".join(lines)


def described(name: str, value: Any) -> Iterator[str]:
    """Yield the directive of one name."""
    if inspect.isclass(value):
        title = name + signature(value)
        bases = "".join(f"\n\nBase: `{base.__name__}`" for base in public_bases(value))
        yield from directive("class", title, text_of(value) + bases, FENCE, members(value))
    elif inspect.isfunction(value):
        yield from directive("function", name + signature(value), text_of(value), FENCE)
    else:
        said = text_of(value) if inspect.getdoc(value) != inspect.getdoc(type(value)) else ""
        yield from directive("data", name, said, FENCE)


def public_bases(owner: type) -> list[type]:
    """Return the bases of a class that have a description of their own."""
    public = [getattr(nri_inject, name) for name in nri_inject.__all__]
    return [base for base in owner.__mro__[1:] if base in public]


def members(owner: type) -> Iterator[str]:
    """Yield the public methods and properties that a class of ours has."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith("nri_inject") and base not in public_bases(owner):
            found |= vars(base)
    for name, member in found.items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            yield from directive("property", name, text_of(member), FENCE - 1)
        elif isinstance(member, (classmethod, staticmethod)):
            yield from directive(
                "method", name + signature(getattr(owner, name)), text_of(member), FENCE - 1
            )
        elif inspect.isfunction(member):
            yield from directive("method", name + signature(member), text_of(member), FENCE - 1)


def directive(
    kind: str, title: str, text: str, fence: int, inside: Iterator[str] | None = None
) -> Iterator[str]:
    """Yield a directive of Sphinx's domain for Python."""
    yield from [
        f"{'`' * fence}{{py:{kind}}} {title}",
        "",
        text,
        "",
        *(inside or ()),
        "`" * fence,
        "",
    ]


def signature(value: Any) -> str:
    """Return the parameters and the result of a callable, as they stand in the source."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [
        one.replace(annotation=shown(one.annotation))
        for one in found.parameters.values()
        if one.name != "self"
    ]
    result = inspect.Signature.empty if inspect.isclass(value) else shown(found.return_annotation)
    return str(found.replace(parameters=parameters, return_annotation=result))


def shown(annotation: Any) -> Any:
    """Return an annotation without the quotes of one that is a string."""
    return Written(annotation) if isinstance(annotation, str) else annotation


def text_of(value: Any) -> str:
    """Return a docstring as Markdown, which it is but for the double backticks."""
    return re.sub(r"``", "`", inspect.getdoc(value) or "")

"""The reference of NRI's messages and enums: descriptors, with the comments of proto/nri.proto."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import names
from google.protobuf.descriptor import FieldDescriptor

from nri_inject import api

PROTO = Path(__file__).parents[2] / "proto" / "nri.proto"
HEAD = re.compile(
    r"(?P<comment>(?:^//[^\n]*\n)*)^(?:message|enum) (?P<name>\w+) \{(?P<body>\}|.*?^\})",
    re.MULTILINE | re.DOTALL,
)
MEMBER = re.compile(r"^  (?:.* )?(?P<name>\w+) = \d+;  // (?P<comment>.*)$", re.MULTILINE)
TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in vars(FieldDescriptor)
    if name.startswith("TYPE_")
}


def public() -> dict[str, Any]:
    """Return the messages and enums of `nri_inject.api` by their names there."""
    found = {name: value for name, value in vars(api).items() if hasattr(value, "DESCRIPTOR")}
    return {name: found[name] for name in sorted(found, key=str.casefold) if name != "Message"}


def page() -> str:
    """Return the page of `nri_inject.api`."""
    lines = ["# nri_inject.api", "", inspect.getdoc(api) or "", "", INTRODUCTION, ""]
    for function in (api.copy_of, api.env_of):
        lines += names.described(function.__name__, function)
    said = {match["name"]: match for match in HEAD.finditer(PROTO.read_text())}
    for name, value in public().items():
        descriptor = value.DESCRIPTOR
        lines += [f"## {name}", ""]
        if descriptor.name != name:
            lines += [f"The short name of [{descriptor.name}](#{descriptor.name.lower()}).", ""]
            continue
        match = said[name]
        own = value.__doc__ if hasattr(value, "ListFields") else ""
        notes = {one["name"]: one["comment"] for one in MEMBER.finditer(match["body"])}
        lines += [inspect.cleandoc(own or "") or words(match["comment"]), ""]
        lines += rows(descriptor, notes)
    return "\n".join(lines)


INTRODUCTION = (
    "A version after *since* is the first release of NRI that has the message, the field or the"
    " value. A field of an older runtime is empty."
)


def rows(descriptor: Any, notes: dict[str, str]) -> Iterator[str]:
    """Yield the table of a message's fields or of an enum's values."""
    if hasattr(descriptor, "values"):
        yield from ["| value | number | note |", "| --- | --- | --- |"]
        yield from (
            f"| `{one.name}` | {one.number} | {notes.get(one.name, '')} |"
            for one in descriptor.values
        )
    elif descriptor.fields:
        yield from ["| field | type | note |", "| --- | --- | --- |"]
        yield from (
            f"| `{one.name}` | {type_of(one)} | {notes.get(one.name, '')} |"
            for one in descriptor.fields
        )
    yield ""


def type_of(field: Any) -> str:
    """Return a field's type, with a link to that of a message or an enum."""
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key, value = inner.fields
        return f"map of {type_of(key)} to {type_of(value)}"
    named = inner or field.enum_type
    text = TYPES[field.type]
    if named is not None:
        known = named.name in public()
        text = f"[{named.name}](#{named.name.lower()})" if known else f"`{named.name}`"
    return f"list of {text}" if field.is_repeated else text


def words(comment: str) -> str:
    """Return a comment of the protocol's file as a paragraph."""
    return re.sub(r"^// ?", "", comment, flags=re.MULTILINE).replace("since ", "*since* ").strip()

"""The checks of a change, and the lists of an adjustment whose entries have a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from nri_inject.errors import RequestError
from nri_inject.text.names import REMOVES
from nri_inject.text.paths import container_path_fault
from nri_inject.text.words import quoted, suggestion

TWICE: Final = "is added twice, with different values"
ZERO: Final = "contains a zero byte"


def check(what: str, name: str, why: str) -> None:
    """Raise RequestError if there is a reason."""
    if why:
        raise RequestError([f"{what} {quoted(name)} {why}"])


def check_zero(what: str, name: str, text: str) -> None:
    """Raise RequestError if a text contains a zero byte, which ends texts in the kernel."""
    check(what, name, ZERO if "\0" in text else "")


def check_range(what: str, number: int, least: int, most: int) -> None:
    """Raise RequestError if a number is out of range."""
    if not least <= number <= most:
        expected = f"{least} to {most}" if least < most else str(least)
        raise RequestError([f"{what} is {number}, and must be {expected}"])


def key_fault(key: str) -> str:
    """Return why an entry cannot have this key, or ""."""
    if not key:
        return "must have a name"
    return REMOVES if key.startswith("-") else ZERO if "\0" in key else ""


def variable_fault(name: str) -> str:
    """Return why a variable cannot have this name, or ""."""
    return key_fault(name) or ("contains '='" if "=" in name else "")


def path_fault(path: str) -> str:
    """Return why nothing can be at this path of the container, or ""."""
    return container_path_fault(path) or (ZERO if "\0" in path else "")


def words(what: str, texts: Sequence[str]) -> list[str]:
    """Return texts as a list; one text is none, although Python would take its letters."""
    if isinstance(texts, str):
        raise TypeError(f"{what}: a list of texts expected, not the text {quoted(texts)}")
    for text in texts:
        check_zero(f"{what}:", text, text)
    return [*texts]


def member(what: str, name: str, known: Mapping[str, int]) -> Any:
    """Return the member of an enum, which stubs have as a class of its own."""
    if name not in known:
        check(what, name, f"is not known; {suggestion(name, [*known])}")
    return known[name]


def add(entries: Any, key: str, entry: Message, what: str) -> None:
    """Append to a list whose entries have a key; an equal entry may be there already."""
    name = getattr(entry, key)
    there = [each for each in entries if getattr(each, key) == name]
    if there and there[0] != entry:
        check(what, name, TWICE)
    if not there:
        entries.append(entry)


def put(entries: Any, key: str, entry: Message) -> None:
    """Append to a list whose entries have a key, or replace the entry that has the same."""
    for each in entries:
        if getattr(each, key) == getattr(entry, key):
            each.CopyFrom(entry)
            return
    entries.append(entry)

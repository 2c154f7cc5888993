"""What is different between two messages: field by field, and in lists by what the items are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from nri_inject.injectors.compose import KEYS

Plain: TypeAlias = Any

# The place of a value: the field's path, the item's key, and a number for items of one key.
_FieldPlace: TypeAlias = tuple[str, str, str]

# Lists of texts such as NAME=value, of which each name is an item of its own.
_ASSIGNMENTS: Final = frozenset({"env"})


class Change(NamedTuple):
    """A field, and the key of the item if it is a list or map: its value before and after.

    Values are protobuf's own JSON, an enum is its name; None means that there is none. `key` is
    empty where items have no key, as hooks: each is then a change of its own that came or went.
    """

    field: str
    key: str
    before: Plain
    after: Plain


def differences(before: Message, after: Message, ignored: frozenset[str]) -> list[Change]:
    """Return what is different between two messages of one type, in the order of the fields' names.

    Absent messages are like empty ones, and the order of items counts for nothing where they have
    keys. `ignored` are fields of the message itself that are not compared.
    """
    old, new = dict(_values(before, "", ignored)), dict(_values(after, "", ignored))
    return [
        Change(place[0], place[1], old.get(place), new.get(place))
        for place in sorted(old.keys() | new.keys())
        if old.get(place) != new.get(place)
    ]


def fields_of(message: Message, ignored: frozenset[str] = frozenset()) -> set[str]:
    """Return the paths of the fields that have any value, `ignored` fields of the message aside."""
    return {place[0] for place, _ in _values(message, "", ignored)}


def _values(
    message: Message, parent: str, ignored: frozenset[str] = frozenset()
) -> Iterator[tuple[_FieldPlace, Plain]]:
    for descriptor, value in message.ListFields():
        if descriptor.name in ignored:
            continue
        name = parent + descriptor.name
        if isinstance(value, MutableMapping):
            yield from (((name, key, ""), _json(item, descriptor)) for key, item in value.items())
        elif isinstance(value, MutableSequence):
            yield from _items(value, descriptor, name)
        elif not isinstance(value, Message):
            yield (name, "", ""), _json(value, descriptor)
        elif value.DESCRIPTOR.name.startswith("Optional"):
            # A wrapper that is present may hold the default, which is not written otherwise.
            wrapped = MessageToDict(value, always_print_fields_with_no_presence=True)
            yield (name, "", ""), wrapped["value"]
        else:
            yield from _values(value, f"{name}.")


def _items(
    items: MutableSequence[Any], descriptor: FieldDescriptor, name: str
) -> Iterator[tuple[_FieldPlace, Plain]]:
    if descriptor.name in _ASSIGNMENTS:
        keyed = [(text.partition("=")[0], text) for text in items]
    elif descriptor.message_type is None:
        yield (name, "", ""), list(items)
        return
    else:
        key = KEYS.get(descriptor.message_type.name)
        keyed = [(getattr(item, key) if key else "", MessageToDict(item)) for item in items]
    seen: dict[str, int] = {}
    for key, value in keyed:
        which = "" if key else json.dumps(value)
        number = seen[key + which] = seen.get(key + which, 0) + 1
        yield (name, key, f"{which}{number}"), value


def _json(value: Any, descriptor: FieldDescriptor) -> Plain:
    if isinstance(value, Message):
        return MessageToDict(value)
    if descriptor.enum_type is not None:
        known: Mapping[int, Any] = descriptor.enum_type.values_by_number
        return known[value].name if value in known else value
    return value

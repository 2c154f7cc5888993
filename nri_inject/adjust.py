"""Put together what several injectors want of one container.

The runtime takes one adjustment from a plugin and treats a key that is in it twice as a conflict
of the plugin with itself. So equal wishes become one here, and different ones are an error with a
sentence. Which fields have one value, which are joined and which have keys is as NRI merges the
answers of plugins (pkg/adaptation/result.go of NRI 0.12).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, MutableMapping, MutableSequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from nri_inject.annotations import quoted, where
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host import Host

Injector: TypeAlias = Callable[[Pod, Container, Host], Adjustment]

# Messages whose fields are claimed one by one; every other message is one value.
_COMPOUND: Final = frozenset(
    {
        "LinuxContainerAdjustment",
        "LinuxResources",
        "LinuxMemory",
        "LinuxCPU",
        "LinuxRdt",
        "Hooks",
    }
)

KEYS: Final = {
    "Mount": "destination",
    "KeyValue": "key",
    "LinuxDevice": "path",
    "LinuxNamespace": "type",
    "HugepageLimit": "page_size",
    "POSIXRlimit": "type",
    "CDIDevice": "name",
}
"""The field by which NRI tells the items of a list apart, by the items' type. Other lists of
messages (hooks, cgroup rules) are joined in order."""

# Lists that mean something only as a whole, like a command line.
_WHOLE: Final = frozenset({"args"})


def compose(*injectors: Injector) -> Injector:
    """Return one injector that asks for what all of these ask for.

    Its RequestError has the faults of all of them.
    """
    if len(injectors) == 1:
        return injectors[0]

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        adjustments: list[Adjustment] = []
        faults: list[str] = []
        denied = False
        for injector in injectors:
            try:
                adjustments.append(injector(pod, container, host))
            except RequestError as error:
                faults += error.faults
                denied |= error.denied
        if faults:
            raise RequestError(faults, where=where(pod, container), denied=denied)
        asked = [adjustment for adjustment in adjustments if adjustment.ByteSize()]
        if len(asked) < 2:  # as nearly always, and then there is nothing in anybody's way
            return asked[0] if asked else Adjustment()
        try:
            return combine(asked)
        except RequestError as error:
            raise RequestError(error.faults, where=where(pod, container)) from error

    return inject


def combine(adjustments: Iterable[Adjustment]) -> Adjustment:
    """Merge adjustments that are meant for one container.

    Lists are joined in order. Two different values for one field, or for one key of a list or
    map, raise RequestError with a fault for each; equal ones become one.
    """
    wanted = [*adjustments]
    joined = _joined(wanted)
    if _is_without_overlap(wanted, joined):
        return joined
    merged = Adjustment()
    merger = _Merger()
    for adjustment in wanted:
        merger.merge(merged, adjustment, "")
    if merger.faults:
        raise RequestError(merger.faults)
    return merged


# --- nothing is claimed twice, as usual ---------------------------------------------------------

_Claims: TypeAlias = defaultdict[FieldDescriptor, list[object]]
_KeysOf: TypeAlias = Callable[[Any], Iterable[object]]


def _joined(adjustments: Iterable[Adjustment]) -> Adjustment:
    """Merge as protobuf does: that is the same where nothing is claimed twice, and quick."""
    merged = Adjustment()
    for adjustment in adjustments:
        merged.MergeFrom(adjustment)
    return merged


def _is_without_overlap(adjustments: Iterable[Adjustment], joined: Adjustment) -> bool:
    """Tell whether nothing is claimed twice, not even with equal values or by one adjustment."""
    claims = _claims([joined])
    if not _OVERWRITTEN.isdisjoint(claims):  # then some claims may not show in it
        claims = _claims(adjustments)
    return all(len(keys) == len(set(keys)) for keys in claims.values())


def _claims(adjustments: Iterable[Adjustment]) -> _Claims:
    claims: _Claims = defaultdict(list)
    for adjustment in adjustments:
        _note_claims(adjustment, claims)
    return claims


def _note_claims(message: Message, claims: _Claims) -> None:
    """Add the keys that a message claims, by field; what has no keys claims the field with None."""
    for field, value in message.ListFields():
        keys_of = _KEYS_OF[field]
        if keys_of is None:
            _note_claims(value, claims)
        else:
            claims[field] += keys_of(value)


def _no_key(_: object) -> Iterable[object]:
    return (None,)


def _nothing(_: object) -> Iterable[object]:
    return ()


def _tabled(message: Message) -> dict[FieldDescriptor, _KeysOf | None]:
    """Return how to find the keys in each field of a message; None is for a compound one."""
    table: dict[FieldDescriptor, _KeysOf | None] = {}
    # Its type stubs know the class by two names.
    for field in cast("Iterable[FieldDescriptor]", message.DESCRIPTOR.fields):
        value = getattr(message, field.name)
        if isinstance(value, Message) and value.DESCRIPTOR.name in _COMPOUND:
            table |= {field: None, **_tabled(value)}
        elif isinstance(value, MutableMapping):
            table[field] = iter
        elif isinstance(value, MutableSequence) and field.name not in _WHOLE:
            table[field] = _keys_of_list(field)
        else:
            table[field] = _no_key
    return table


def _keys_of_list(field: FieldDescriptor) -> _KeysOf:
    key = KEYS.get(field.message_type.name) if field.message_type is not None else None
    return _nothing if key is None else partial(map, attrgetter(key))


_KEYS_OF: Final = _tabled(Adjustment())
_OVERWRITTEN: Final = frozenset(
    field for field, keys_of in _KEYS_OF.items() if keys_of in (_no_key, iter)
)
"""The fields of which a later claim takes the place of an earlier one when protobuf merges."""


# --- something is claimed twice -----------------------------------------------------------------


class _Merger:
    """The claims so far: by name of the field, and key if it has keys, the value."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._claims: dict[tuple[str, str | None], object] = {}

    def merge(self, target: Message, source: Message, place: str) -> None:
        """Add to `target`, which stands at `place`, every field of `source`."""
        for descriptor, value in source.ListFields():
            name = descriptor.name
            if isinstance(value, MutableMapping):
                self._merge_map(getattr(target, name), value, place + name)
            elif isinstance(value, MutableSequence):
                self._merge_list(getattr(target, name), value, place + name)
            elif not isinstance(value, Message):
                if self._claim(place + name, None, value):
                    setattr(target, name, value)
            elif value.DESCRIPTOR.name in _COMPOUND:
                getattr(target, name).SetInParent()
                self.merge(getattr(target, name), value, f"{place}{name}.")
            elif self._claim(place + name, None, value):
                getattr(target, name).SetInParent()  # an empty message is a value, too
                getattr(target, name).CopyFrom(value)

    def _merge_map(self, target: Any, source: MutableMapping[str, Any], name: str) -> None:
        for key, value in source.items():
            if not self._claim(name, key, value):
                continue
            if isinstance(value, Message):
                target[key].CopyFrom(value)
            else:
                target[key] = value

    def _merge_list(self, target: Any, source: MutableSequence[Any], name: str) -> None:
        if name in _WHOLE:
            if self._claim(name, None, list(source)):
                target.extend(source)
            return
        for item in source:
            key = KEYS.get(item.DESCRIPTOR.name) if isinstance(item, Message) else None
            if key is None or self._claim(name, getattr(item, key), item):
                target.append(item)

    def _claim(self, name: str, key: str | None, value: object) -> bool:
        """Tell whether this is the first wish for the field or key."""
        claim = (name, key)
        if claim not in self._claims:
            self._claims[claim] = value
            return True
        if self._claims[claim] != value:
            which = name if key is None else f"{name} {quoted(key)}"
            self.faults.append(f"two different requests for {which}")
        return False

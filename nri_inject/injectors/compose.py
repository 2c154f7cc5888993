"""Merge the adjustments that several injectors make of one container.

A plugin answers with one adjustment, and the runtime reports a key that is in it twice as a
conflict of the plugin with itself. So equal requests become one here, and different requests are
an error. The kinds of fields (one value, a list to join, a list or map with keys) are those by
which NRI merges the answers of plugins (pkg/adaptation/result.go of NRI 0.12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, MutableSequence
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.host import Host
from nri_inject.text.annotations import where
from nri_inject.text.budget import OverBudget
from nri_inject.text.words import quoted

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
"""The type of a list's items -> the field that is their key in NRI. Other lists of messages (hooks,
cgroup rules) are joined in order."""

# Lists that are one value, like a command line.
_WHOLE: Final = frozenset({"args"})


def compose(*injectors: Injector) -> Injector:
    """Return one injector that makes the adjustments of all of these.

    Its RequestError has the faults of all of them. OverBudget of one ends all of them.
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
            except OverBudget:
                raise
            except RequestError as error:
                faults += error.faults
                denied |= error.denied
        if faults:
            raise RequestError(faults, where=where(pod, container), denied=denied)
        wanted = [adjustment for adjustment in adjustments if adjustment.ByteSize()]
        if len(wanted) == 1:  # the same adjustment as that injector makes alone
            return wanted[0]
        try:
            return combine(wanted)
        except RequestError as error:
            raise RequestError(error.faults, where=where(pod, container)) from error

    return inject


def combine(adjustments: Iterable[Adjustment]) -> Adjustment:
    """Merge adjustments of one container.

    Lists are joined in order. Two different values for one field, or for one key of a list or
    map, raise RequestError with a fault for each; equal ones become one.
    """
    merged = Adjustment()
    merger = Merger()
    for adjustment in adjustments:
        merger.merge(merged, adjustment, "")
    if merger.faults:
        raise RequestError(merger.faults)
    return merged


class Merger:
    """A merge in progress: the value of each claimed field, and of each claimed key of a field."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._claims: dict[tuple[str, str | None], object] = {}

    def merge(self, target: Message, source: Message, place: str) -> None:
        """Add every field of `source` to `target`; `place` is the path of both, as `linux.`."""
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

    def join(self, target: Adjustment, source: Adjustment) -> list[str]:
        """Add the whole of `source` to `target`, or return the conflicts and add nothing."""
        before, added = len(self._claims), Adjustment()
        self.merge(added, source, "")
        conflicts, self.faults = self.faults, []
        if not conflicts:
            target.MergeFrom(added)
        while conflicts and len(self._claims) > before:
            self._claims.popitem()
        return conflicts

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
        """Claim a field or a key; return False where it is claimed already."""
        claim = (name, key)
        if claim not in self._claims:
            self._claims[claim] = value
            return True
        if self._claims[claim] != value:
            which = name if key is None else f"{name} {quoted(key)}"
            self.faults.append(f"conflicting requests for {which}")
        return False

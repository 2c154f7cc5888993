"""Which CDI device of which file an edit comes from: a fault names both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from nri_inject.cdi.records import Edits
from nri_inject.cdi.registry import CdiDevice
from nri_inject.text.words import plain, quoted

OriginFault: TypeAlias = tuple[str, object]
"""A sentence, and the entry of the edits that it is about; None if it is about no single one."""


class Origins:
    """The devices that are requested, and the entries of their edits."""

    def __init__(self, devices: Sequence[CdiDevice]) -> None:
        self.parts = [*parts(devices)]
        self._only = devices[0] if len(devices) == 1 else None
        self._of = {id(entry): device for device, edits in self.parts for entry in _entries(edits)}

    def named(self, faults: Iterable[OriginFault]) -> list[str]:
        """Return the sentences, those of one device together, its name and file before the first.

        A fault that belongs to no single device stands alone, in front.
        """
        by_device: dict[str, list[str]] = {"": []}
        for sentence, entry in faults:
            device = self._only or self._of.get(id(entry))
            front = f"CDI device {quoted(device.name)} of {plain(device.file)}: " if device else ""
            by_device.setdefault(front, []).append(sentence)
        return [
            sentence if number else front + sentence
            for front, sentences in by_device.items()
            for number, sentence in enumerate(sentences)
        ]


def parts(devices: Iterable[CdiDevice]) -> Iterator[tuple[CdiDevice, Edits]]:
    """Yield the edits of devices: those of a file once, before its first device."""
    files: set[str] = set()
    for device in devices:
        if device.file not in files:
            files.add(device.file)
            yield device, device.spec_edits
        yield device, device.edits


def _entries(edits: Edits) -> Iterator[object]:
    yield from edits.device_nodes
    yield from edits.mounts
    yield from edits.hooks
    yield from edits.net_devices
    yield edits

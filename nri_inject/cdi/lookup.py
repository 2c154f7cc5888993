"""Look up CDI devices by name, and collect their edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Final

from nri_inject.cdi import names
from nri_inject.cdi.nodes import NodeFault
from nri_inject.cdi.records import Edits
from nri_inject.cdi.registry import CdiDevice, Snapshot
from nri_inject.errors import RequestError
from nri_inject.text.words import listed, meant, plain, quoted

# A hint compares a name with many known ones, a tenth of a millisecond each.
_MAX_HINTS: Final = 3
_MAX_COMPARED: Final = 100
_MAX_LISTED: Final = 8


class CdiError(RequestError):
    """Say why devices cannot be given: which names are unknown, or which nodes are wrong."""

    def __init__(
        self,
        faults: Iterable[str],
        *,
        unresolved: Sequence[str] = (),
        nodes: Sequence[NodeFault] = (),
    ) -> None:
        super().__init__(faults)
        self.unresolved = tuple(unresolved)
        self.nodes = tuple(nodes)


def anything(_name: str) -> bool:
    """Show every device to the reader of an error: the node's admin, or a test."""
    return True


def look_up(
    wanted: Iterable[str], snapshot: Snapshot, is_shown: Callable[[str], bool] = anything
) -> list[CdiDevice]:
    """Return the devices of these names, each once; CdiError names all that are unknown.

    `is_shown` tells whether the reader of an error may learn that the node has a device.
    """
    asked = [*wanted]
    devices = snapshot.devices
    unknown = [name for name in asked if name not in devices]
    if not unknown:
        return [devices[name] for name in dict.fromkeys(asked)]
    shown = cache(is_shown)
    hints = (_hint(name, snapshot, shown) for name in dict.fromkeys(unknown))
    sentences = [
        f"no CDI device {quoted(name)}{next(hints) if number < _MAX_HINTS else ''}"
        for number, name in enumerate(dict.fromkeys(unknown))
    ]
    raise CdiError(sentences, unresolved=unknown)


def _hint(name: str, snapshot: Snapshot, is_shown: Callable[[str], bool]) -> str:
    """Name a similar device, and a possible cause."""
    if name in snapshot.conflicts:
        files = " and ".join(map(plain, snapshot.conflicts[name]))
        return f": {files} both define it, so neither is used"
    if "," in name:
        return "; list each name as a separate item"
    parts = names.split(name)
    if not parts.vendor:
        return "; expected a name such as vendor.com/class=name"
    clauses = [_near(parts, snapshot, is_shown), *_causes(parts, snapshot)]
    return "".join(f"; {clause}" for clause in clauses if clause)


def _near(parts: names.QualifiedName, snapshot: Snapshot, is_shown: Callable[[str], bool]) -> str:
    kind = f"{parts.vendor}/{parts.class_}"
    siblings = sorted(known for known in snapshot.devices if known.startswith(f"{kind}="))
    shown = filter(is_shown, siblings[:_MAX_COMPARED])
    stems = [sibling.partition("=")[2] for sibling in shown]
    if stems:
        near = meant(parts.device, stems)
        if near:
            return f"did you mean {kind + '=' + near!r}?"
        return f"known devices of {plain(kind)}: {listed(stems, _MAX_LISTED)}"
    if not snapshot.devices:
        return "no CDI device is defined"
    # One device of each kind is requested: there can be ten thousand.
    one_of = {known.partition("=")[0]: known for known in sorted(snapshot.devices, reverse=True)}
    kinds = [one for one in sorted(one_of)[:_MAX_COMPARED] if is_shown(one_of[one])]
    near = meant(kind, kinds)
    if near:
        return f"did you mean {near + '=' + parts.device!r}?"
    return f"known kinds: {listed(kinds, _MAX_LISTED)}" if kinds else ""


def _causes(parts: names.QualifiedName, snapshot: Snapshot) -> Iterator[str]:
    """Name the files that might have the device if they were sound, and directories likewise."""
    kind = f"{parts.vendor}/{parts.class_}"
    for file in snapshot.files:
        errors = file.errors
        if errors and file.kind in ("", kind):
            yield f"{plain(file.path)} has an error: {errors[0]}"
    for directory in snapshot.priorities:
        if directory in snapshot.errors:
            yield f"{plain(directory)} {snapshot.errors[directory][0]}"
        elif directory in snapshot.missing:
            yield f"{plain(directory)} does not exist"


def collect(devices: Iterable[CdiDevice]) -> Edits:
    """Join the edits of devices: those of a file once, before its first device.

    Of several intelRdt objects the last counts, as a whole.
    """
    parts: list[Edits] = []
    files: set[str] = set()
    for device in devices:
        if device.file not in files:
            files.add(device.file)
            parts.append(device.spec_edits)
        parts.append(device.edits)
    rdt = [part.intel_rdt for part in parts if part.intel_rdt is not None]
    return Edits(
        env=tuple(entry for part in parts for entry in part.env),
        device_nodes=tuple(node for part in parts for node in part.device_nodes),
        net_devices=tuple(device for part in parts for device in part.net_devices),
        mounts=tuple(mount for part in parts for mount in part.mounts),
        hooks=tuple(hook for part in parts for hook in part.hooks),
        intel_rdt=rdt[-1] if rdt else None,
        additional_gids=tuple(gid for part in parts for gid in part.additional_gids),
    )

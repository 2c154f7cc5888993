"""What the host adds to a device node of a CDI spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nri_inject.cdi import lint
from nri_inject.cdi import records as specs
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.text.words import plain, quoted


class Completed(NamedTuple):
    """A device node with what the host adds to it; `source` is its path on the host.

    `host` is the node there, if the host has one. `access` has letters of rwm, in the spec's order.
    `warning` says that the node is another device than the host's.
    """

    path: str
    source: str
    type: str
    major: int
    minor: int
    file_mode: int | None
    uid: int | None
    gid: int | None
    access: str
    host: DeviceNode | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class NodeFault:
    """Why a device node cannot be made.

    `code` is host-device-missing, not-a-device or type-mismatch, `path` the one in the container,
    and `host_path` the one that was looked at.
    """

    code: str
    path: str
    host_path: str
    sentence: str


def complete(node: specs.SpecNode, devices: Mapping[str, DeviceNode]) -> Completed | NodeFault:
    """Return a node with what the host adds to it, or why it cannot be made.

    A major number of 0 counts as absent. Type and numbers that are given stay, even if the host has
    others; a node with both needs none on the host.
    """
    source, front = node.host_path or node.path, f"device node {quoted(node.path)}: "
    is_whole = node.type == "p" or bool(node.type and node.major)
    try:
        host = devices[source]
    except KeyError as error:
        if is_whole:
            return _made(node, source, None)
        if isinstance(error, NotADevice):
            why = f"{front}{quoted(source)} {plain(error.why)}"
            if hint := lint.hint(source):
                why += f"; {hint}"
            return NodeFault("not-a-device", node.path, source, why)
        why = f"{front}the host has no {quoted(source)}"
        if hint := lint.hint(source):
            why += f"; {hint}"
        return NodeFault("host-device-missing", node.path, source, why)
    # `u` is a character device without a buffer, which Linux does not tell from others.
    if not is_whole and node.type and host.type != node.type.replace("u", "c"):
        there = f"{quoted(source)} on the host has {host.type}"
        why = f"{front}the spec has type {node.type}, but {there}"
        return NodeFault("type-mismatch", node.path, source, why)
    return _made(node, source, host)


def _made(node: specs.SpecNode, source: str, host: DeviceNode | None) -> Completed:
    kind = node.type or (host.type if host else "")
    major, minor = node.major, node.minor
    if host and not major and kind != "p":
        major, minor = host.major, host.minor
    mode = node.file_mode if node.file_mode is not None or host is None else host.mode
    access = "" if node.permissions == "none" else node.permissions or "rwm"
    uid, gid = node.uid, node.gid
    warning = _difference(node, source, host) if host else ""
    return Completed(node.path, source, kind, major, minor, mode, uid, gid, access, host, warning)


def _difference(node: specs.SpecNode, source: str, host: DeviceNode) -> str:
    """Warn of a node that is another device than the host's of that path."""
    if not node.major or node.type == "p":
        return ""
    kind = (node.type or host.type).replace("u", "c")
    if (kind, node.major, node.minor) == (host.type, host.major, host.minor):
        return ""
    return (
        f"device node {quoted(node.path)} is {kind} {node.major}:{node.minor}, but"
        f" {quoted(source)} on the host is {host.type} {host.major}:{host.minor}"
    )

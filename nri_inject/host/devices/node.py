"""A device node of the host that an annotation requests, or the sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.text.fields import Fault
from nri_inject.text.flow import flow
from nri_inject.text.paths import clean
from nri_inject.text.words import plain, quoted


def node_at(path: str, nodes: Mapping[str, DeviceNode]) -> DeviceNode:
    """Return the node at `path`; raise Fault if there is none or if it is not for devices."""
    try:
        node = nodes[path]
    except NotADevice as error:
        raise Fault(f"{quoted(path)} {plain(error.why)}{way_out(path, error.why)}") from error
    except KeyError as error:
        raise Fault(f"{quoted(path)} does not exist on the host") from error
    if node.type == "p":
        raise Fault(f"{quoted(path)} is a fifo; mount it instead")
    return node


_CLASS_IN: Final = {
    "/dev/bus/usb": "usb",
    "/dev/dri": "dri",
    "/dev/infiniband": "infiniband",
    "/dev/input": "input",
    "/dev/snd": "sound",
}
_MOUNTED: Final = ("/dev/hugepages", "/dev/mqueue", "/dev/shm")  # noqa: S108 - names, no files


def way_out(path: str, why: str) -> str:
    """Say what to request in place of a path that is no device, for the end of a sentence."""
    if why.startswith("is a directory"):
        return _into(clean(path))
    if why.startswith(("is a regular file", "is a socket")):
        return "; the annotation mounts.noderesource.dev mounts it"
    return ""


def _into(directory: str) -> str:
    if directory == "/dev":
        return "; name each device"
    inside = "/*/*" if directory == "/dev/bus/usb" else "/*"
    item = flow({"device": f"{directory}{inside}", "count": "all"})
    if not directory.startswith("/dev/"):
        return "; the annotation mounts.noderesource.dev mounts it"
    if directory in _MOUNTED:
        return f"; write {item} for devices in it, or mount it with mounts.noderesource.dev"
    name = _CLASS_IN.get(directory)
    other = f", or {flow({'device': f'class:{name}', 'count': 'all'})}" if name else ""
    return f"; write {item}{other}"


def is_missing(path: str, nodes: Mapping[str, DeviceNode]) -> bool:
    """Tell whether an optional device is not there: nothing is, or a link that leads nowhere."""
    try:
        nodes[path]
    except NotADevice as error:
        return error.why.startswith(("is a dangling link", "does not exist", "is not visible"))
    except KeyError:
        return True
    return False

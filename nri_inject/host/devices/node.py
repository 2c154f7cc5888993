"""A device node of the host that an annotation requests, or the sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping

from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.text.fields import Fault
from nri_inject.text.words import plain, quoted


def node_at(path: str, nodes: Mapping[str, DeviceNode]) -> DeviceNode:
    """Return the node at `path`; raise Fault if there is none or if it is not for devices."""
    try:
        node = nodes[path]
    except NotADevice as error:
        raise Fault(f"{quoted(path)} {plain(error.why)}") from error
    except KeyError as error:
        raise Fault(f"{quoted(path)} does not exist on the host") from error
    if node.type == "p":
        raise Fault(f"{quoted(path)} is a fifo; mount it instead")
    return node

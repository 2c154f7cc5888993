"""The limits of device nodes in user namespaces, where a container may not make nodes.

runc (1.1 to 1.5) mounts the host's node of the container's path, with the number, mode and owner
that it has on the host. crun (1.28) makes the requested node outside, and mounts that. NRI does not
report which OCI runtime is used, so only the common part is promised: the host's own device at the
host's path, with the mode that it has there.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

from nri_inject.api import Container
from nri_inject.host.model import DeviceNode, Number
from nri_inject.text.words import quoted

MOUNTED = "in a user namespace the runtime may mount the host's node as it is"
ADVICE = "set hostUsers: true in the pod"


def is_in_one(container: Container) -> bool:
    """Tell whether a container has a user namespace of its own."""
    return any(space.type == "user" for space in container.linux.namespaces)


def other_device(path: str, number: Number, host: DeviceNode) -> str:
    """Say that the host's node of a path is not the device that is meant; empty if it is."""
    if host.number == number:
        return ""
    return not_the_hosts(f"{quoted(path)} is {host.type} {host.major}:{host.minor} on the host")


def not_the_hosts(why: str) -> str:
    """Say that a device is not at its path on the host; `why` says what is there."""
    return f"{MOUNTED}, and {why}; use the device's path on the host, or {ADVICE}"


def other_mode(name: str, mode: int | None, host: DeviceNode) -> str:
    """Say that the host's node has another mode than key `name` requests; empty if it has this."""
    if mode is None or stat.S_IMODE(mode) == host.mode:
        return ""
    return f"{name}: {MOUNTED}, with mode {host.mode:04o}; leave {name} out, or {ADVICE}"


def other_owner(name: str) -> str:
    """Say that a node cannot have the owner that key `name` requests."""
    return f"{name}: {MOUNTED}, with the host's owner; leave {name} out, or {ADVICE}"


def closed(path: str, access: Iterable[str], host: DeviceNode) -> str:
    """Say that the host's node denies access to a container's users; empty if it allows it.

    In the container the owner on the host is the user nobody, so the mode for others counts.
    """
    bits = {"r": stat.S_IROTH, "w": stat.S_IWOTH}
    if all(host.mode & bits[letter] for letter in access if letter in bits):
        return ""
    return (
        f"device {quoted(path)}: {MOUNTED} (runc does, crun does not), and its mode"
        f" {host.mode:04o} denies access to the container; allow others to open the host's node, or"
        f" {ADVICE}"
    )

#!/usr/bin/env python3
"""An injector gives a container what its pod asks for: a value for a value, and nothing else.

It looks at nothing but its arguments, so a test calls it with a host that is a dict.
"""

from nri_inject import Adjustment, Container, Plugin, Pod, RequestError, serve
from nri_inject.host.nodes import HostDevices
from nri_inject.injectors.host import Host

ANNOTATION = "example.com/serial"


def inject(pod: Pod, _: Container, host: Host) -> Adjustment:
    """Give /dev/ttyS<n> of the host as /dev/serial; RequestError tells the pod's author."""
    adjustment = Adjustment()
    number = pod.annotations.get(ANNOTATION)
    if number is None:
        return adjustment
    if not (number.isascii() and number.isdigit()):
        raise RequestError([f"annotation {ANNOTATION}: got {number!r}, a number expected"])
    node = host.devices.get(f"/dev/ttyS{int(number)}")
    if node is None:
        raise RequestError([f"annotation {ANNOTATION}: this node has no /dev/ttyS{int(number)}"])
    adjustment.linux.devices.add(
        path="/dev/serial", type=node.type, major=node.major, minor=node.minor
    )
    return adjustment


def create_container(pod: Pod, container: Container) -> Adjustment:
    return inject(pod, container, Host(devices=HostDevices()))


if __name__ == "__main__":
    serve(Plugin(name="serial", index="20", create_container=create_container))

#!/usr/bin/env python3
"""An injector gives a container what its pod asks for: a value for a value, and nothing else.

It looks at nothing but its arguments, so a test calls it with a host that is a dict.
"""

from nri_inject import (
    Adjustment,
    Container,
    Plugin,
    Pod,
    RequestError,
    effective_annotation,
    serve,
)
from nri_inject.adjustments import add_host_device
from nri_inject.injectors.host import Host, real_host

ANNOTATION = "example.com/serial"
PORTS = {"console": "/dev/ttyS0", "modem": "/dev/ttyS1"}


def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
    """Give a serial port of the host as /dev/serial; RequestError tells the pod's author."""
    adjustment = Adjustment()
    name = effective_annotation(pod, container, ANNOTATION)
    if name is None:
        return adjustment
    if name not in PORTS:  # the pod's author chooses a name of ours, and never a path
        known = ", ".join(PORTS)
        raise RequestError([f"annotation {ANNOTATION}: got {name[:40]!r}, one of {known} expected"])
    add_host_device(adjustment, PORTS[name], "/dev/serial", devices=host.devices)
    return adjustment


def create_container(pod: Pod, container: Container) -> Adjustment:
    return inject(pod, container, real_host())


if __name__ == "__main__":
    serve(Plugin(name="serial", index="20", create_container=create_container))

"""A host with some devices, and the answer of the device injector to annotations."""

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host

NODES = (
    DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0),
    DeviceNode("/dev/full", "c", 1, 7, 0o666, 0, 0),
    DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0),
    DeviceNode("/dev/sda", "b", 8, 0, 0o660, 0, 6),
    DeviceNode("/dev/zero-mode", "c", 1, 5, 0, 0, 0),
    DeviceNode("/dev/initctl", "p", 0, 0, 0o600, 0, 0),
)
HOST = Host({node.path: node for node in NODES})
CONTAINER = Container(name="c0")


def ask(annotations: dict[str, str], host: Host = HOST) -> Adjustment:
    return inject(Pod(name="p", namespace="ns", annotations=annotations), CONTAINER, host)


def pod_wide(kind: str, text: str, host: Host = HOST) -> Adjustment:
    return ask({f"{kind}.noderesource.dev": text}, host)


def faults(kind: str, text: str, host: Host = HOST) -> list[str]:
    """Return what is wrong with one annotation, without its name in front."""
    front = f"annotation {kind}.noderesource.dev: "
    with pytest.raises(RequestError) as caught:
        pod_wide(kind, text, host)
    assert all(fault.startswith(front) for fault in caught.value.faults)
    return [fault.removeprefix(front) for fault in caught.value.faults]


def device(path: str, major: int, minor: int, mode: int | None = None) -> Adjustment:
    """Return the request for one character device; one with a mode is root's."""
    result = api.LinuxDevice(path=path, type="c", major=major, minor=minor)
    if mode is not None:
        result.file_mode.CopyFrom(api.OptionalFileMode(value=mode))
        result.uid.CopyFrom(api.OptionalUInt32(value=0))
        result.gid.CopyFrom(api.OptionalUInt32(value=0))
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[result]))

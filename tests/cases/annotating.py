"""What an annotation gives, what its error says, and what the error says to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.injectors import cdi, device
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.host import Host

NAME = "main"
INJECTORS: dict[str, Injector] = {"cdi-devices": cdi.inject}


class AnyNode(Mapping[str, DeviceNode]):
    """A host that has a device at every path below /dev, but for its usual directories."""

    DIRECTORIES = ("/dev", "/dev/snd", "/dev/dri", "/dev/input", "/dev/bus/usb", "/dev/shm")

    def __getitem__(self, path: str) -> DeviceNode:
        if path in self.DIRECTORIES:
            raise NotADevice(path, "is a directory")
        if path.startswith("/dev/"):
            return DeviceNode(path, "c", 10, 229, 0o660, 0, 44)
        raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


HOST = Host(AnyNode(), inventory=lambda: Inventory((Device("/dev/fuse", "c", 10, 229),)))


def ask(kind: str, text: str, pod: Pod | None = None) -> Adjustment:
    """Return what an annotation of the container `main` gives."""
    key = f"{kind}.noderesource.dev/container.{NAME}"
    asking = Pod(namespace="ns", name="p") if pod is None else pod
    asking.annotations[key] = text
    return INJECTORS.get(kind, device.inject)(asking, Container(name=NAME), HOST)


def faults(kind: str, text: str, pod: Pod | None = None) -> list[str]:
    """Return what is wrong with it, without the annotation's key in front."""
    with pytest.raises(RequestError) as caught:
        ask(kind, text, pod)
    assert str(caught.value).startswith(f"pod ns/p, container {NAME}: annotation {kind}.")
    front = f"annotation {kind}.noderesource.dev/container.{NAME}: "
    assert all(fault.startswith(front) for fault in caught.value.faults)
    return [fault.removeprefix(front) for fault in caught.value.faults]


def advised(sentences: list[str]) -> str:
    """Return the one text that sentences say to write."""
    found = [match[1] for one in sentences if (match := _ADVICE.search(one))]
    assert len(found) == 1, sentences
    return found[0]


_ADVICE = re.compile(
    r"(?:^|.* )write (?:a list: )?(.+?)(?: in its place| for devices in it.*|, or \{.*)?$"
)

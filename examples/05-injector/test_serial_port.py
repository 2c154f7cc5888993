"""The injector by itself, and as a plugin on a runtime that comes with nri-inject."""

import pytest
from serial_port import ANNOTATION, inject

from nri_inject import Container, RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.host import Host
from nri_inject.testing import FakeRuntime, make_container, make_pod

MODEM = DeviceNode("/dev/ttyS1", "c", major=4, minor=65, mode=0o660, uid=0, gid=20)
HOST = Host(devices={"/dev/ttyS1": MODEM})


def test_a_value_for_a_value() -> None:
    pod = make_pod(annotations={ANNOTATION: "modem"})
    (device,) = inject(pod, Container(), HOST).linux.devices
    assert (device.path, device.major, device.minor) == ("/dev/serial", 4, 65)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("console", "device '/dev/ttyS0' does not exist on the host"),
        ("/dev/sda", "got '/dev/sda', one of console, modem expected"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(asked: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        inject(make_pod(annotations={ANNOTATION: asked}), Container(), HOST)


def test_what_the_container_gets(nri_runtime: FakeRuntime) -> None:
    nri_runtime.connect_injector(inject, HOST)
    pod = make_pod(annotations={ANNOTATION: "modem"})
    nri_runtime.run_pod(pod)
    made = nri_runtime.create(make_container(pod))
    (rule,) = made.spec["linux"]["resources"]["devices"]
    assert rule == {"allow": True, "type": "c", "major": 4, "minor": 65, "access": "rw"}

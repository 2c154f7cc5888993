"""Sticks that are plugged in again in another order: which containers are stale, by selector."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from support.machine import CH340, Fake, adapter, machine, sticks, write

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.host.devices import inventory, presence
from nri_inject.host.devices.uevents import Uevents
from nri_inject.host.model import DeviceNode, Number
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host
from nri_inject.service.health import mark, stale
from nri_inject.service.health.stale import StaleCheck
from nri_inject.service.health.state import State

BY_ID = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
BY_PORT = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0"
SELECTORS = {
    "serial": "usb:0403:6001:A50285BI",
    "by-id": BY_ID,
    "by-port": BY_PORT,
    "kernel": "/dev/ttyUSB2",
}


class Hub:
    """A host whose sticks the test plugs in, and a container for each selector."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._plugs = 0
        self.time = 1000.0
        self.state = State("20", "tested", 1)
        self.plug()
        self.check = StaleCheck(self.state, self, listen=no_events, clock=lambda: self.time)
        for name, selector in SELECTORS.items():
            self._start(name, selector)

    def plug(self, *numbers: int) -> None:
        """Begin a host with three sticks, which have these numbers as ttyUSB."""
        self._write(machine(sticks(*numbers)))

    def plug_others(self) -> None:
        """Begin one in which a CH340 has the number that the stick with a serial number had."""
        self._write(machine([*adapter("1", 0, CH340), *adapter("2", 2, CH340)]))

    def _write(self, fakes: list[Fake]) -> None:
        self._plugs += 1
        self.root = write(self._place / str(self._plugs), fakes)

    def _start(self, name: str, selector: str) -> None:
        text = f"- {{device: '{selector}', as: /dev/zigbee}}"
        pod = Pod(id=name, name=name, annotations={"devices.noderesource.dev": text})
        container = Container(id=name, name="main", pod_sandbox_id=name)
        given = self.expected(pod, container)
        mark.put(given, container, "tested", self.registration)
        container.annotations.update(given.annotations)
        self.check.add(pod, container)

    def expected(self, pod: Pod, container: Container) -> Adjustment:
        found = inventory.read(str(self.root))
        nodes = {
            path: DeviceNode(path, *device.number, 0o660, 0, 20)
            for device in found
            for path in device.paths
        }
        return inject(pod, container, Host(nodes, inventory=lambda: found))

    def gone(self, numbers: Collection[Number]) -> Collection[Number]:
        # The nodes below the root are plain files: only sysfs says what is there.
        return {each for each in numbers if not presence.registration(each, str(self.root))}

    def registration(self, number: Number) -> int:
        return presence.registration(number, str(self.root))

    def stale(self) -> dict[str, str]:
        """Let a minute pass, twice, and return why containers are stale."""
        for _ in range(2):
            self.time += stale.POLL
            self.check.ready()
        return {one.pod.strip("/"): ", ".join(one.because) for one in self.state.stale.values()}


def no_events() -> Uevents:
    raise OSError(1, "Operation not permitted")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path)
    yield made
    made.check.close()


def test_what_names_a_stick_follows_it_and_what_names_a_number_does_not(hub: Hub) -> None:
    assert hub.stale() == {}
    hub.plug(1, 2, 0)
    assert hub.stale() == {
        "serial": "/dev/zigbee is now 188:0",
        "by-id": "/dev/zigbee is now 188:0",
        "by-port": "/dev/zigbee is now 188:1",
    }
    hub.plug()
    assert hub.stale() == {}


def test_a_stick_that_is_gone_is_told_from_one_whose_number_is_in_use(hub: Hub) -> None:
    hub.plug_others()
    in_use = "/dev/zigbee (188:2) was unplugged, and its number is in use again"
    assert hub.stale() == {"serial": in_use, "by-id": in_use}
    hub.plug(0, 1, 3)
    assert hub.stale() == {
        "serial": "/dev/zigbee is now 188:3",
        "by-id": "/dev/zigbee is now 188:3",
        "kernel": "/dev/zigbee (188:2) is gone",
    }

"""Which running containers hold a device that has changed: by value, with a clock of the test."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Collection, Iterator, Mapping

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.devices.uevents import Uevents
from nri_inject.host.model import Number
from nri_inject.service.health import mark, stale
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.stale import StaleCheck
from nri_inject.service.health.state import Stale, State

POD = Pod(id="p", namespace="home", name="zigbee")
STICK: Mapping[str, Number] = {"/dev/zigbee": ("c", 188, 0)}
MOVED: Mapping[str, Number] = {"/dev/zigbee": ("c", 188, 1)}
ADDED = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MAJOR=188\0MINOR=1\0SUBSYSTEM=tty\0"
OTHER = b"add@/devices/y\0ACTION=add\0DEVPATH=/devices/y\0SUBSYSTEM=net\0"


def adjustment(devices: Mapping[str, Number]) -> Adjustment:
    nodes = [api.LinuxDevice(path=p, type=t, major=a, minor=i) for p, (t, a, i) in devices.items()]
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=nodes))


def container(name: str = "c", devices: Mapping[str, Number] = STICK) -> Container:
    """Return a container that was given devices, as a runtime reports it."""
    one = Container(id=name, name="main", pod_sandbox_id="p")
    given = adjustment(devices)
    mark.put(given, one, "tested", lambda _: 7)
    one.annotations.update(given.annotations)
    return one


class Host:
    """What the service would give each container now, and which numbers the host has lost."""

    def __init__(self) -> None:
        self.gives: Mapping[str, Number] | None = STICK
        self.lost: set[Number] = set()
        self.registered = 7
        self.looks = self.searches = 0
        self.takes = self.used = 0.0

    def expected(self, _pod: Pod, _container: Container) -> Adjustment:
        self.looks += 1
        self.used += self.takes
        if self.gives is None:
            raise RequestError(["matches no device"])
        return adjustment(self.gives)

    def gone(self, numbers: Collection[Number]) -> Collection[Number]:
        self.searches += 1
        return self.lost.intersection(numbers)

    def registration(self, _number: Number) -> int:
        return self.registered


class Desk:
    """A check whose time, events and host are the test's."""

    def __init__(self, *, has_events: bool = True, notes: Notes | None = None) -> None:
        self.host = Host()
        self.state = State("20", "tested", 1)
        self.time = 1000.0
        self.wall: float | None = None
        self._has_events = has_events
        self._kernel: socket.socket | None = None
        self.check = StaleCheck(
            self.state,
            self.host,
            notes,
            listen=self._listen,
            now=lambda: self.time if self.wall is None else self.wall,
            clock=lambda: self.time,
            used=lambda: self.host.used,
        )

    def _listen(self) -> Uevents:
        if not self._has_events:
            raise OSError(1, "Operation not permitted")
        ours, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return Uevents(ours)

    def event(self, message: bytes = ADDED) -> None:
        assert self._kernel is not None
        self._kernel.send(message)

    def after(self, seconds: float) -> dict[str, Stale]:
        """Let the time pass, and return what is stale then."""
        self.time += seconds
        self.check.ready()
        return dict(self.state.stale)

    def unplug(self) -> None:
        self.host.gives, self.host.lost = None, {("c", 188, 0)}

    def close(self) -> None:
        self.check.close()
        if self._kernel is not None:
            self._kernel.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def settle(desk: Desk) -> None:
    """Let the looks pass that follow the start of a container."""
    desk.after(stale.SETTLED)
    desk.host.looks = 0


def test_a_device_with_another_number_is_reported_after_an_event(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.check.add(POD, container())
    settle(desk)
    desk.host.gives = MOVED
    desk.event()
    assert desk.after(0.0) == {}
    assert desk.after(stale.PAUSE) == {}  # udev may still be making its links
    because = ("/dev/zigbee is now 188:1",)
    assert desk.after(stale.SETTLED) == {"c": Stale("home/zigbee", "main", because, 1001.1)}
    assert caplog.messages == [
        "pod home/zigbee, container main: stale, because /dev/zigbee is now 188:1"
    ]


def test_a_device_that_is_gone_is_reported_and_no_more_once_it_is_back(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.check.add(POD, container())
    settle(desk)
    desk.unplug()
    desk.event()
    desk.after(0.0)
    desk.after(stale.PAUSE)
    assert [one.because for one in desk.after(stale.SETTLED).values()] == [
        ("/dev/zigbee (188:0) is gone",)
    ]
    desk.host.gives = STICK
    assert desk.after(stale.POLL) == {}
    assert caplog.messages[1:] == ["pod home/zigbee, container main: has its devices again"]


def test_a_container_is_stale_since_the_first_look_also_when_the_reason_changes(
    desk: Desk,
) -> None:
    desk.check.add(POD, container())
    desk.unplug()
    desk.after(stale.SETTLED)
    first = desk.after(stale.SETTLED)["c"]
    desk.host.gives = MOVED
    second = desk.after(stale.POLL)["c"]
    assert (first.since, second.since) == (1001.0, 1001.0)
    assert second.because == ("/dev/zigbee is now 188:1",)


def test_a_device_that_is_away_for_a_moment_is_not_reported(desk: Desk) -> None:
    desk.check.add(POD, container())
    settle(desk)
    desk.unplug()
    desk.event()
    desk.after(0.0)
    desk.after(stale.PAUSE)
    desk.host.gives = STICK
    assert desk.after(stale.SETTLED) == {}
    assert desk.after(stale.POLL) == {}


def test_a_request_that_is_refused_is_not_stale_while_the_device_is_there(desk: Desk) -> None:
    desk.check.add(POD, container())
    desk.host.gives = None
    desk.after(stale.SETTLED)
    assert desk.after(stale.POLL) == {}


def test_a_number_that_another_device_has_by_now_is_reported(desk: Desk) -> None:
    desk.check.add(POD, container())
    desk.host.gives, desk.host.registered = None, 8
    desk.after(stale.SETTLED)
    assert desk.after(stale.SETTLED)["c"].because == (
        "/dev/zigbee (188:0) was unplugged, and its number is in use again",
    )
    desk.host.gives = STICK  # it is the same stick, plugged in again
    assert desk.after(stale.POLL) == {}


def test_without_events_a_change_is_found_by_looking() -> None:
    desk = Desk(has_events=False)
    desk.check.add(POD, container())
    settle(desk)
    desk.host.gives = MOVED
    assert (desk.after(stale.POLL - 1.0), desk.host.looks) == ({}, 0)
    assert desk.after(1.0) == {}
    assert list(desk.after(stale.POLL)) == ["c"]
    desk.close()


def test_a_container_without_a_device_of_ours_is_not_followed(desk: Desk) -> None:
    forged = container("d")
    forged.id = "e"  # the mark has another container's id
    for one in (Container(id="c"), container(devices={}), forged):
        desk.check.add(POD, one)
    assert not select.select([desk.check], [], [], 0)[0]
    assert (desk.after(stale.POLL), desk.host.looks) == ({}, 0)


def test_many_events_cost_one_look_and_those_of_other_things_none(desk: Desk) -> None:
    desk.check.add(POD, container())
    settle(desk)
    desk.after(stale.POLL)
    desk.host.looks = 0
    desk.event(OTHER)
    desk.after(0.0)
    desk.after(stale.PAUSE)
    assert desk.host.looks == 0
    for _ in range(50):
        desk.event()
        desk.after(0.0)
    desk.after(stale.PAUSE)
    assert desk.host.looks == 1


def test_a_look_is_followed_by_ten_times_as_long_without_one(desk: Desk) -> None:
    desk.check.add(POD, container())
    desk.host.takes = 2.0
    settle(desk)
    desk.event()
    assert (desk.after(19.0), desk.host.looks) == ({}, 0)
    assert (desk.after(1.0), desk.host.looks) == ({}, 1)
    desk.after(stale.POLL)
    desk.host.looks = 0
    assert (desk.after(199.0), desk.host.looks) == ({}, 0)
    assert (desk.after(1.0), desk.host.looks) == ({}, 1)


def test_a_number_is_looked_for_once_in_each_look(desk: Desk) -> None:
    for number in range(3):
        desk.check.add(POD, container(f"c{number}"))
    desk.unplug()
    desk.after(stale.SETTLED)
    assert desk.host.searches == 1
    assert len(desk.after(stale.SETTLED)) == 3
    assert desk.host.searches == 2


def test_many_containers_are_compared_in_slices(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "SLICE", -1.0)
    for number in range(3):
        desk.check.add(POD, container(f"c{number}"))
    for compared in (1, 2, 3):
        desk.after(stale.SETTLED if compared == 1 else 0.0)
        assert desk.host.looks == compared
        assert bool(select.select([desk.check], [], [], 0.01)[0]) == (compared < 3)


def test_a_container_that_has_ended_is_not_stale(desk: Desk) -> None:
    desk.check.add(POD, container())
    desk.unplug()
    desk.after(stale.SETTLED)
    assert list(desk.after(stale.SETTLED)) == ["c"]
    desk.check.forget("c")
    assert (desk.state.stale.count, desk.after(stale.POLL)) == (0, {})


def test_of_more_than_a_thousand_the_number_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nri_inject.service.health.state.MAX_MISSED", 1)
    for number in range(3):
        desk.check.add(POD, container(f"c{number}"))
    desk.unplug()
    for _ in range(3):
        desk.after(stale.POLL)
    assert (len(desk.state.stale), desk.state.stale.count) == (1, 3)
    desk.host.gives = STICK
    desk.after(stale.POLL)
    assert desk.state.stale.count == 0


def test_what_is_kept_is_bounded_in_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "MAX_BYTES", 4000)
    desk.check.restart()
    desk.check.add(Pod(id="q", annotations={"a": "x" * 5000}), container("long"))
    desk.check.add(POD, container("short"))
    desk.unplug()
    desk.after(stale.SETTLED)
    assert list(desk.after(stale.SETTLED)) == ["short"]
    longer = Pod(id="q", annotations={"a": "x" * 2500})
    desk.check.add(longer, container("longer"))
    desk.check.add(longer, container("short"))  # has no room any more
    assert list(desk.after(stale.POLL)) == ["short"]
    desk.check.forget("short")
    assert desk.after(stale.POLL) == {}


def test_a_loose_plug_writes_a_hundred_lines_an_hour(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.check.add(POD, container())
    desk.wall = 5000.0
    for _ in range(60):
        desk.unplug()
        desk.after(stale.POLL)
        desk.after(stale.POLL)
        desk.host.gives = STICK
        desk.after(stale.POLL)
    assert len(caplog.messages) == stale.MAX_LINES + 1
    assert caplog.messages[-1] == "more than 100 lines in an hour on stale containers"


def test_the_next_worker_follows_the_same_containers() -> None:
    notes = Notes()
    first = Desk(notes=notes)
    first.check.add(POD, container("a"))
    first.check.add(POD, container("b"))
    first.check.forget("a")
    first.unplug()
    first.after(stale.SETTLED)
    found = first.after(stale.SETTLED)
    first.close()
    notes.inherit()
    second = Desk(notes=notes)
    second.state.stale.update(found)
    second.check.inherit()
    second.unplug()
    assert second.after(stale.SETTLED) == found
    second.host.gives = STICK
    assert second.after(stale.POLL) == {}
    second.check.restart()
    assert notes.items("given/") == {}
    second.close()

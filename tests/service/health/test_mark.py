"""The mark of a container: its id, and the devices that it was given."""

from __future__ import annotations

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container
from nri_inject.service.health import mark

KEY = mark.PREFIX + "tested"


def given(*devices: api.LinuxDevice) -> str:
    adjustment = Adjustment(linux=api.LinuxContainerAdjustment(devices=devices))
    mark.put(adjustment, Container(id="c1"), "tested", lambda number: number[1] + 12)
    return adjustment.annotations[KEY]


def node(path: str, kind: str = "c") -> api.LinuxDevice:
    return api.LinuxDevice(path=path, type=kind, major=188, minor=1)


def test_without_devices_the_mark_is_the_id() -> None:
    assert given() == "c1"


def test_the_devices_are_read_as_they_were_written() -> None:
    text = given(node('/dev/a "b"'), node("/dev/sda", "b"))
    assert text == r'c1 {"/dev/a \"b\"":["c",188,1,200],"/dev/sda":["b",188,1,200]}'
    one = Container(id="c1", annotations={KEY: text})
    assert mark.is_on(one, "tested")
    assert mark.is_on_by_any(one)
    assert mark.devices(one, "tested") == {
        '/dev/a "b"': ("c", 188, 1, 200),
        "/dev/sda": ("b", 188, 1, 200),
    }
    assert mark.devices(one, "tested")["/dev/sda"].number == ("b", 188, 1)
    assert mark.devices(one, "other") == {}


def test_removed_devices_fifos_and_what_is_beyond_the_bounds_are_left_out() -> None:
    many = [node(f"/dev/d{number}") for number in range(mark.MAX_DEVICES + 1)]
    one = Container(id="c1", annotations={KEY: given(*many)})
    assert len(mark.devices(one, "tested")) == mark.MAX_DEVICES
    assert given(node("-/dev/a"), node("/dev/p", "p"), node("/" + "x" * mark.MAX_PATH)) == "c1"


@pytest.mark.parametrize("text", ["c2 {}", "", '{"/dev/a":["c",1,3]}', "c1{}"])
def test_a_mark_of_another_container_counts_for_nothing(text: str) -> None:
    one = Container(id="c1", annotations={KEY: text})
    assert not mark.is_on(one, "tested")
    assert mark.devices(one, "tested") == {}


@pytest.mark.parametrize("text", ["c1 [", "c1 []", 'c1 {"/dev/a":1}', 'c1 {"/dev/a":["c"]}'])
def test_devices_of_an_unknown_form_are_none(text: str) -> None:
    one = Container(id="c1", annotations={KEY: text})
    assert mark.is_on(one, "tested")
    assert mark.devices(one, "tested") == {}

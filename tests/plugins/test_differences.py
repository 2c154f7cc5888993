"""What is different between two messages, by value."""

from __future__ import annotations

import pytest
from hypothesis import given
from support.strategies import containers

from nri_inject import api
from nri_inject.api import Container
from nri_inject.plugins.differences import Change, differences

NOTHING: frozenset[str] = frozenset()


def linux(**fields: object) -> Container:
    return Container(linux=api.LinuxContainer(**fields))  # type: ignore[arg-type]  # by its name


def cpu(**fields: object) -> Container:
    resources = api.LinuxResources(cpu=api.LinuxCPU(**fields))  # type: ignore[arg-type]  # by its name
    return linux(resources=resources)


CASES: dict[str, tuple[Container, Container, list[Change]]] = {
    "nothing": (Container(name="a"), Container(name="a"), []),
    "a text": (Container(name="a"), Container(name="b"), [Change("name", "", "a", "b")]),
    "an empty message is none": (linux(resources=api.LinuxResources()), Container(), []),
    "a map's item": (
        Container(annotations={"a": "1", "b": "2"}),
        Container(annotations={"b": "3", "c": ""}),
        [
            Change("annotations", "a", "1", None),
            Change("annotations", "b", "2", "3"),
            Change("annotations", "c", None, ""),
        ],
    ),
    "variables by name, not by place": (
        Container(env=["A=1", "B=2", "ALONE"]),
        Container(env=["B=2", "A=3", "C="]),
        [
            Change("env", "A", "A=1", "A=3"),
            Change("env", "ALONE", "ALONE", None),
            Change("env", "C", None, "C="),
        ],
    ),
    "a variable that is there twice": (
        Container(env=["A=1"]),
        Container(env=["A=1", "A=2"]),
        [Change("env", "A", None, "A=2")],
    ),
    "arguments as a whole": (
        Container(args=["a", "b"]),
        Container(args=["a"]),
        [Change("args", "", ["a", "b"], ["a"])],
    ),
    "mounts by destination, not by place": (
        Container(mounts=[api.Mount(destination="/a"), api.Mount(destination="/b", source="x")]),
        Container(mounts=[api.Mount(destination="/b", source="y"), api.Mount(destination="/a")]),
        [
            Change(
                *("mounts", "/b"),
                {"destination": "/b", "source": "x"},
                {"destination": "/b", "source": "y"},
            )
        ],
    ),
    "devices by path": (
        Container(),
        linux(devices=[api.LinuxDevice(path="/dev/fuse", type="c", major=10, minor=229)]),
        [
            Change(
                *("linux.devices", "/dev/fuse", None),
                {"path": "/dev/fuse", "type": "c", "major": "10", "minor": "229"},
            )
        ],
    ),
    "what has no key comes and goes": (
        Container(hooks=api.Hooks(prestart=[api.Hook(path="/a"), api.Hook(path="/a")])),
        Container(hooks=api.Hooks(prestart=[api.Hook(path="/b"), api.Hook(path="/a")])),
        [
            Change("hooks.prestart", "", {"path": "/a"}, None),
            Change("hooks.prestart", "", None, {"path": "/b"}),
        ],
    ),
    "a number that is there and 0 is not one that is absent": (
        cpu(quota=None),
        cpu(quota=api.OptionalInt64()),
        [Change("linux.resources.cpu.quota", "", None, "0")],
    ),
    "a number": (
        cpu(shares=api.OptionalUInt64(value=2), cpus="0-1"),
        cpu(shares=api.OptionalUInt64(value=1024), cpus="0"),
        [
            Change("linux.resources.cpu.cpus", "", "0-1", "0"),
            Change("linux.resources.cpu.shares", "", "2", "1024"),
        ],
    ),
    "an enum by name": (
        Container(),
        linux(io_priority=api.LinuxIOPriority(**{"class": api.IOPrioClass.IOPRIO_CLASS_IDLE})),
        [Change("linux.io_priority.class", "", None, "IOPRIO_CLASS_IDLE")],
    ),
    "a map of messages": (
        Container(),
        linux(net_devices={"eth9": api.LinuxNetDevice(name="net0")}),
        [Change("linux.net_devices", "eth9", None, {"name": "net0"})],
    ),
}


@pytest.mark.parametrize(("before", "after", "changes"), CASES.values(), ids=CASES)
def test_each_kind_of_field(before: Container, after: Container, changes: list[Change]) -> None:
    assert differences(before, after, NOTHING) == changes


@given(containers, containers)
def test_only_equal_messages_have_no_differences_and_back_is_the_reverse(
    one: Container, other: Container
) -> None:
    there = differences(one, other, NOTHING)
    back = differences(other, one, NOTHING)
    assert (one == other) is (there == [])
    assert [change._replace(before=change.after, after=change.before) for change in back] == there


def test_fields_that_are_ignored_are_not_compared_at_the_top_alone() -> None:
    before = Container(name="a", pid=1)
    after = Container(name="b", pid=2, mounts=[api.Mount(destination="name")])
    assert [change.field for change in differences(before, after, frozenset({"name", "pid"}))] == [
        "mounts"
    ]

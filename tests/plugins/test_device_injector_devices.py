"""The annotation devices: lookups, values, and items that cannot be."""

from pathlib import Path

import pytest
from support.annotating import device, faults, pod_wide

from nri_inject.host.model import DeviceNode
from nri_inject.host.nodes import HostDevices
from nri_inject.injectors.host import Host


def test_a_device_with_type_and_major_is_not_looked_up() -> None:
    assert pod_wide("devices", "[{path: /dev/no, type: c, major: 9}]") == device("/dev/no", 9, 0)


def test_a_device_with_a_path_alone_is_as_on_the_host() -> None:
    assert pod_wide("devices", "[{path: /dev/full}]") == device("/dev/full", 1, 7, 0o666)
    assert pod_wide("devices", "[{path: /dev/zero-mode}]") == device("/dev/zero-mode", 1, 5, 0)


def test_what_is_given_beside_a_path_counts_more_than_the_host() -> None:
    (sda,) = pod_wide("devices", "[{path: /dev/sda, file_mode: 0o600, gid: 0}]").linux.devices
    assert (sda.type, sda.major, sda.minor) == ("b", 8, 0)
    assert (sda.file_mode.value, sda.uid.value, sda.gid.value) == (0o600, 0, 0)


def test_a_device_of_the_real_host_is_found() -> None:
    host = Host(HostDevices())
    (null,) = pod_wide("devices", "[{path: /dev/null}]", host).linux.devices
    assert (null.type, null.major, null.minor) == ("c", 1, 3)


def test_zero_is_a_value() -> None:
    adjustment = pod_wide("devices", "[{path: /dev/a, type: c, major: 1, uid: 0}]")
    (given,) = adjustment.linux.devices
    assert given.HasField("uid")
    assert not given.HasField("gid")
    assert not given.HasField("file_mode")


def test_an_unbuffered_device_is_sent_as_a_character_device() -> None:
    assert pod_wide("devices", "[{path: /dev/a, type: u, major: 1}]") == device("/dev/a", 1, 0)
    assert pod_wide("devices", "[{path: /dev/full, type: u}]") == device("/dev/full", 1, 7, 0o666)


def test_one_device_written_in_two_ways_is_one_device() -> None:
    text = """
- {path: /dev/null, type: c, major: 1, minor: 3}
- {path: //dev/./null, type: u, major: 1, minor: 3.0}
"""
    assert pod_wide("devices", text) == device("/dev/null", 1, 3)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("path: ''", "path: '' is not an absolute path"),
        ("path: /", "path: '/' is the root directory"),
        ("path: /dev/..", "path: '/dev/..' contains '..'"),
        ('path: "/dev/a\\nb"', "path: '/dev/a\\nb' contains a control character"),
        ("path: /dev/none", "'/dev/none' does not exist on the host"),
        ("path: /dev/initctl", "'/dev/initctl' is a fifo; mount it instead"),
        (
            "path: /dev/a, type: p, major: 1",
            "type: 'p', a fifo, is not a device; mount the host's fifo instead",
        ),
        ("path: /dev/a, type: '', major: 1", "type: '' must be one of b, c, u"),
        ("path: /dev/null, type: b", "type: b but '/dev/null' has c"),
        ("path: /dev/null, major: 2", "major: 2 but '/dev/null' has 1"),
        ("path: /dev/null, type: c, minor: 4", "minor: 4 but '/dev/null' has 3"),
        ("path: /dev/null, major: 4096", "major: 4096 is not between 0 and 4095"),
        ("path: /dev/null, minor: 1048576", "minor: 1048576 is not between 0 and 1048575"),
        ("path: /dev/null, file_mode: 0o10000", "file_mode: 4096 is not between 0 and 4095"),
        ("path: /dev/null, gid: 4294967296", "gid: 4294967296 is not between 0 and 4294967295"),
        ("path: /dev/null, uid: -0.0", "uid: -0.0 is not an integer"),
        ("path: /dev/null, majr: 1", "unknown key 'majr'; did you mean 'major'?"),
        ("path: /dev/null, Path: /dev/full", "path is set twice, as 'path' and 'Path'"),
    ],
)
def test_a_device_that_cannot_be(item: str, fault: str) -> None:
    assert faults("devices", f"- {{{item}}}") == [f"item 1: {fault}"]


def test_a_path_is_at_most_4096_bytes_long() -> None:
    path = "/" + "é" * 2048
    assert faults("devices", f"[{{path: {path}, type: c, major: 1}}]") == [
        f"item 1: path: '{path[:77]}...' is longer than 4096 bytes"
    ]
    assert (
        len(pod_wide("devices", f"[{{path: {path[:-1]}, type: c, major: 1}}]").linux.devices) == 1
    )


def test_what_is_no_device_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/gone").symlink_to("/x")
    text = "[{path: /dev}, {path: /dev/gone}]"
    assert faults("devices", text, Host(HostDevices(tmp_path))) == [
        "item 1: '/dev' is a directory; name each device",
        "item 2: '/dev/gone' is a dangling link to /x",
    ]


@pytest.mark.parametrize(
    "other", ["type: c, major: 1, minor: 4", "type: b, major: 1, minor: 3", "uid: 5"]
)
def test_one_path_with_two_meanings_is_an_error(other: str) -> None:
    text = f"[{{path: /dev/null, type: c, major: 1, minor: 3}}, {{path: /dev//null, {other}}}]"
    assert faults("devices", text) == ["'/dev/null' is requested twice with different values"]


def test_a_look_at_the_host_is_never_remembered() -> None:
    text = "[{path: /dev/later}]"
    assert faults("devices", text) == ["item 1: '/dev/later' does not exist on the host"]
    later = Host({"/dev/later": DeviceNode("/dev/later", "c", 1, 3, 0o600, 0, 0)})
    assert pod_wide("devices", text, later) == device("/dev/later", 1, 3, 0o600)

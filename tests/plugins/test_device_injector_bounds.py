"""Texts that take time or memory are errors, and no look at the host is remembered."""

from pathlib import Path

import pytest
from support.annotating import HOST, device, faults, pod_wide

from nri_inject.capabilities import identify
from nri_inject.host.model import DeviceNode
from nri_inject.host.nodes import HostDevices
from nri_inject.injectors import texts
from nri_inject.injectors.host import Host

LONG = "x" * 4097
LONGER = "is longer than 4096 bytes"


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        ("devices", f"[{{path: /{LONG}, type: c, major: 1}}]", "item 1: path: '/"),
        ("mounts", f"[{{destination: /{LONG}}}]", "item 1: destination: '/"),
        ("mounts", f"[{{destination: /a, source: {LONG}}}]", "item 1: source: '"),
        ("mounts", f"[{{destination: /a, type: {LONG}}}]", "item 1: type: '"),
        ("mounts", f"[{{destination: /a, options: [{LONG}]}}]", "item 1: options: item 1: '"),
        ("sysctl", f"a: {LONG}", "a: '"),
        ("sysctl", f"? {LONG}\n: a", "'"),
        ("memory-policy", f"{{mode: MPOL_BIND, nodes: '{'1,' * 2048}1'}}", "nodes: '"),
    ],
)
def test_a_field_has_at_most_4096_bytes(kind: str, text: str, place: str) -> None:
    (fault,) = faults(kind, text)
    assert fault.startswith(place)
    assert fault.endswith(LONGER)
    assert len(fault) < 200


MANY = range(1001)


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("devices", "- &a {path: /dev/null}\n" + "- *a\n" * 9000, "9001 items"),
        ("devices", "- x\n" * 1001, "1001 items"),
        ("mounts", "".join(f"- {{destination: /a{n}}}\n" for n in MANY), "1001 items"),
        ("network-devices", "".join(f"- {{hostIf: e{n}}}\n" for n in MANY), "1001 items"),
        ("ulimits", "- {type: core}\n" * 1001, "1001 items"),
        ("sysctl", "".join(f"k{n}: ''\n" for n in MANY), "1001 keys"),
    ],
)
def test_an_annotation_has_at_most_1000_items(kind: str, text: str, fault: str) -> None:
    assert faults(kind, text) == [f"{fault}, at most 1000 allowed"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: " + "x" * 262144, "more than 262144 bytes of YAML"),
        ("[" * 33, "line 1, column 33: lists and maps more than 32 deep"),
        ("-\n" * 20000, "line 20000, column 2: more than 20000 values, aliases followed"),
        (
            "a: &v " + "x" * 100_000 + "\n" + "".join(f"b{n}: *v\n" for n in range(10_000)),
            "line 11, column 5: more than 1048576 characters, aliases followed",
        ),
    ],
)
def test_a_text_that_would_take_time_or_memory_is_an_error(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


class Looks(dict[str, DeviceNode]):
    """Devices that note each look."""

    def __init__(self) -> None:
        super().__init__(HOST.devices)
        self.seen: list[str] = []

    def __getitem__(self, path: str) -> DeviceNode:
        self.seen.append(path)
        return super().__getitem__(path)


def test_the_host_is_asked_once_for_a_path_however_often_it_is_named() -> None:
    looks = Looks()
    text = "- &a {path: /dev/full}\n" + "- *a\n" * 900 + "- {path: /dev/./full, gid: 0}\n"
    assert pod_wide("devices", text, Host(looks)) == device("/dev/full", 1, 7, 0o666)
    assert looks.seen == ["/dev/full"]


def test_the_host_is_asked_once_for_what_it_lacks() -> None:
    looks = Looks()
    text = "[{path: /dev/none}, {path: /dev/none}, {path: /dev/none, uid: 1}]"
    assert faults("devices", text, Host(looks)) == [
        "item 1: '/dev/none' does not exist on the host",
        "item 3: '/dev/none' does not exist on the host",
    ]
    assert looks.seen == ["/dev/none"]


def test_the_next_replica_gets_what_the_host_has_then() -> None:
    text = "- path: /dev/null\n- {path: /dev/other, type: c, major: 1, minor: 5}\n"
    before = pod_wide("devices", text)
    assert pod_wide("devices", text) == before
    node = HOST.devices["/dev/null"]
    changed = pod_wide("devices", text, Host({node.path: node._replace(mode=0o600, gid=7)}))
    assert [device.file_mode.value for device in changed.linux.devices] == [0o600, 0]
    assert [device.gid.value for device in changed.linux.devices] == [7, 0]
    assert faults("devices", text, Host({})) == ["item 1: '/dev/null' does not exist on the host"]
    old = identify("containerd", "1.7.24")
    assert pod_wide("devices", text, Host(HOST.devices, old)) == before


def test_who_changes_an_answer_does_not_change_the_next() -> None:
    first = pod_wide("devices", "- path: /dev/null\n")
    first.linux.devices[0].path = "/dev/other"
    assert pod_wide("devices", "- path: /dev/null\n").linux.devices[0].path == "/dev/null"


def test_at_most_256_devices_are_looked_up() -> None:
    looks = Looks()
    text = "".join(f"- {{path: /dev/none{number}}}\n" for number in range(257))
    assert faults("devices", text, Host(looks)) == [
        "257 devices without type and major, at most 256 allowed"
    ]
    assert looks.seen == []


def test_a_path_that_links_make_long_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("./" * 256 + "null")
    assert faults("devices", "[{path: /link}]", Host(HostDevices(tmp_path))) == [
        "item 1: '/link' has more than 256 parts, links followed"
    ]


def test_what_the_host_lacks_is_told_beside_wrong_items() -> None:
    text = "[{path: /dev/none}, {path: a}, {path: /dev/null, major: 2}]"
    assert faults("devices", text) == [
        "item 1: '/dev/none' does not exist on the host",
        "item 2: path: 'a' is neither a path nor a selector; write /dev/a",
        "item 3: major: 2 but '/dev/null' has 1",
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("devices", "".join(f"- {{path: /dev/none{n}}}\n" for n in range(200))),
        ("sysctl", "".join(f"k{n}: ~\n" for n in range(200))),
        ("ulimits", "".join(f"- {{type: core, hard: {n}}}\n" for n in range(200))),
        (
            "mounts",
            "".join(
                f"- {{destination: /{n}}}\n- {{destination: /{n}, type: a}}\n" for n in range(200)
            ),
        ),
    ],
)
def test_at_most_a_hundred_faults_of_a_kind_are_collected(kind: str, text: str) -> None:
    assert 1 <= len(faults(kind, text)) <= 100


def test_a_text_with_an_alias_is_not_remembered() -> None:
    texts._remembered.cache_clear()
    assert len(pod_wide("mounts", "[&a {destination: /a}, *a]").mounts) == 1
    assert texts._remembered.cache_info().currsize == 0
    assert len(pod_wide("mounts", "[{destination: /a}]").mounts) == 1
    assert texts._remembered.cache_info().currsize == 1

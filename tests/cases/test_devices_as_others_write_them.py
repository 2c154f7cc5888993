"""Cases 10, 12, 17, 26 and 27: devices as docker, Kubernetes and device plugins write them.

Each error says what to write, and what it says is tried.
"""

from __future__ import annotations

import dataclasses

import pytest
from annotating import HOST, NAME, advised, ask, faults
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.api import Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.device import inject
from nri_inject.injectors.habits import KEYS, colons
from nri_inject.text import yamltext
from nri_inject.text.flow import flow

# What people write as one item, and the item that the error has.
ITEMS = {
    "/dev/null:/dev/x:rwm": "{device: /dev/null, as: /dev/x, access: rwm}",
    "/dev/null:/dev/x": "{device: /dev/null, as: /dev/x}",
    "/dev/null:/dev/null": "/dev/null",
    "/dev/null:/dev/null:rwm": "{device: /dev/null, access: rwm}",
    "/dev/null:rw": "{device: /dev/null, access: rw}",
    "/dev/null:ro": "{device: /dev/null, access: r}",
    "/dev/null:mrw": "{device: /dev/null, access: rwm}",
    "/dev/null:rwx": "{device: /dev/null, access: rw}",
    "--device=/dev/fuse": "/dev/fuse",
    "--device /dev/fuse:/dev/fuse": "/dev/fuse",
    "--device=/dev/ttyUSB0:/dev/zigbee:rw": "{device: /dev/ttyUSB0, as: /dev/zigbee, access: rw}",
    "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0:/dev/zigbee": (
        '{device: "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0", as: /dev/zigbee}'
    ),
    "/dev/ttyUSB*:/dev/ttyUSB*:rw": '{device: "/dev/ttyUSB*", access: rw, count: all}',
    "/dev/dri:/dev/dri": '{device: "/dev/dri/*", count: all}',
    "--device=/dev/snd": '{device: "/dev/snd/*", count: all}',
    "path:/dev/fuse": "/dev/fuse",
    "dev/fuse": "/dev/fuse",
    "./dev/fuse": "/dev/fuse",
    "ttyUSB0": "/dev/ttyUSB0",
    "serial/by-id/usb-1a86_x-if00": "/dev/serial/by-id/usb-1a86_x-if00",
    "usb-Silicon_Labs_Sonoff_0001-if00-port0": (
        "/dev/serial/by-id/usb-Silicon_Labs_Sonoff_0001-if00-port0"
    ),
    "1a86:7523": '"usb:1a86:7523"',
    "ID 10C4:EA60": '"usb:10c4:ea60"',
    "video": '"class:video"',
    "smarter-devices/fuse": '"class:fuse"',
    "smarter-devices/ttyUSB0": "/dev/ttyUSB0",
    "/dev/video{0,1}": "[/dev/video0, /dev/video1]",
    "/dev/video{0..2}": "[/dev/video0, /dev/video1, /dev/video2]",
    "/dev/null,/dev/zero": "[/dev/null, /dev/zero]",
    "/dev/null /dev/zero": "[/dev/null, /dev/zero]",
    "/dev/null:/dev/x:r, /dev/zero": "[{device: /dev/null, as: /dev/x, access: r}, /dev/zero]",
}


@pytest.mark.parametrize("text", ITEMS)
def test_the_error_of_a_text_has_the_item_to_write(text: str) -> None:
    assert advised(faults("devices", f"- '{text}'")) == ITEMS[text]


LISTS = {
    "/dev/null": "[/dev/null]",
    "/dev/null,/dev/zero": "[/dev/null, /dev/zero]",
    "/dev/null\n/dev/zero": "[/dev/null, /dev/zero]",
    "/dev/null:/dev/x:rwm": "{device: /dev/null, as: /dev/x, access: rwm}",
    "{path: /dev/null}": "[{path: /dev/null}]",
    "path: /dev/null": "[{path: /dev/null}]",
    "devices: [/dev/null]": "[/dev/null]",
}


@pytest.mark.parametrize("text", LISTS)
def test_the_error_of_what_is_no_list_has_the_list_to_write(text: str) -> None:
    assert advised(faults("devices", text)) == LISTS[text]


MAPS = {
    # Compose
    "{source: /dev/ttyUSB0, target: /dev/zigbee, permissions: rw}": (
        "{device: /dev/ttyUSB0, as: /dev/zigbee, access: rw}"
    ),
    # docker's API
    "{PathOnHost: /dev/null, PathInContainer: /dev/x, CgroupPermissions: rwm}": (
        "{device: /dev/null, as: /dev/x, access: rwm}"
    ),
    # CDI, where path is the one in the container
    "{path: /dev/x, hostPath: /dev/zero, permissions: rw, fileMode: 438}": (
        "{device: /dev/zero, as: /dev/x, access: rw, file_mode: 0666}"
    ),
    "{hostPath: /dev/zero, type: c, major: 1, minor: 5}": "/dev/zero",
    # Kubernetes
    "{hostPath: /dev/zero, containerPath: /dev/x}": "{device: /dev/zero, as: /dev/x}",
    "{hostPath: /dev/zero, mountPath: /dev/x, readOnly: true}": (
        "{device: /dev/zero, as: /dev/x, access: r}"
    ),
    # squat's generic-device-plugin
    "{name: serial, groups: [{paths: [{path: '/dev/ttyUSB*'}]}]}": (
        '{device: "/dev/ttyUSB*", count: all}'
    ),
    "{name: a, groups: [{paths: [{path: /dev/a, mountPath: /dev/b}, {path: /dev/c}]}]}": (
        "[{device: /dev/a, as: /dev/b}, /dev/c]"
    ),
    "{usb: [{vendor: '1a86', product: '7523', serial: A1}]}": '"usb:1a86:7523:A1"',
    "{usb: 1a86:7523}": '"usb:1a86:7523"',
    "{vendorId: 1a86, productId: '0x7523', alias: /dev/zigbee}": (
        '{device: "usb:1a86:7523", as: /dev/zigbee}'
    ),
    # smarter-device-manager
    "{devicematch: '^ttyUSB0$', nummaxdevices: 20}": "/dev/ttyUSB0",
    "{devicematch: '^gpiochip[0-9]*$', nummaxdevices: 20}": (
        '{device: "/dev/gpiochip*", count: all}'
    ),
    # a mixture
    "{path: /dev/null, permissions: rwm}": "{device: /dev/null, access: rwm}",
    "{device: /dev/null, containerPath: /dev/x}": "{device: /dev/null, as: /dev/x}",
    "{device: /dev/null, mode: rw}": "{device: /dev/null, access: rw}",
    "{device: /dev/null, mode: '0666'}": "{device: /dev/null, file_mode: 0666}",
    "{device: /dev/null, user: 1000, group: 1000}": "{device: /dev/null, uid: 1000, gid: 1000}",
    "{path: '/dev/null:/dev/x:rw'}": "{device: /dev/null, as: /dev/x, access: rw}",
    "{device: '/dev/null:/dev/x', optional: true}": (
        "{device: /dev/null, as: /dev/x, optional: true}"
    ),
    "{path: '/dev/ttyUSB*'}": '{device: "/dev/ttyUSB*", count: all}',
}


@pytest.mark.parametrize("text", MAPS)
def test_the_error_of_a_map_has_the_item_to_write(text: str) -> None:
    assert advised(faults("devices", f"- {text}")) == MAPS[text]


@pytest.mark.parametrize("item", [*ITEMS.values(), *LISTS.values(), *MAPS.values()])
def test_what_an_error_says_to_write_is_right(item: str) -> None:
    """The one thing that may be wrong with it is that the node lacks the device."""
    text = item if item.startswith("[") else f"[{item}]"
    if "count: all" in item or "class:" in item or "usb:" in item:
        assert all("matches no device" in fault for fault in faults("devices", text))
    else:
        assert ask("devices", text).linux.devices


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("hostPath", "use device, and as for another path in the container"),
        ("alias", "use device, and as for another path in the container"),
        ("cgroup_permissions", "use access"),
        ("read-only", "use access"),
        ("chmod", "use file_mode"),
        ("groups", "make each path an item of its own"),
        ("limit", "leave it out; an item names one device of the node, and is not counted"),
        ("majr", "did you mean 'major'?"),
        ("qqq", f"known: {', '.join(KEYS)}"),
    ],
)
def test_an_unknown_key_is_told_by_the_one_that_means_it(key: str, hint: str) -> None:
    assert f"item 1: unknown key {key!r}; {hint}" in faults(
        "devices", f"- {{path: /dev/a, {key}: }}"
    )


# --- generated ------------------------------------------------------------------------------------

paths = st.from_regex(
    r"/dev/[a-z0-9][a-z0-9._:-]{0,11}(/[a-z0-9][a-z0-9._:-]{0,7})?", fullmatch=True
)
plain_paths = st.from_regex(r"/dev/[a-z0-9][a-z0-9._-]{0,11}", fullmatch=True)
letters = st.sampled_from(["", "r", "rw", "rwm", "w", "mr", "ro"])
options = st.sampled_from(["", "--device=", "--device ", " "])


@st.composite
def dockers(draw: st.DrawFn) -> tuple[str, str, str, str]:
    """Return docker's spelling, and its parts."""
    host, inside, access = draw(paths), draw(st.one_of(st.just(""), plain_paths)), draw(letters)
    parts = ":".join(part for part in (host, inside, access) if part)
    return draw(options) + parts, host, inside, access


@given(dockers())
def test_any_spelling_of_docker_leads_to_the_item_that_means_it(
    spelled: tuple[str, str, str, str],
) -> None:
    text, host, inside, access = spelled
    if not (inside or access) or colons(host):
        return
    if host in ("/dev/snd", "/dev/dri", "/dev/input", "/dev/shm"):
        return
    item = advised(faults("devices", f"- {flow(text)}"))
    devices = ask("devices", f"[{item}]").linux.devices
    assert [device.path for device in devices] == [inside or host]
    value = yamltext.load(item)
    written = str(value.get("access", "")) if isinstance(value, dict) else ""
    assert {*written} == {*access.replace("ro", "r")}


@given(st.lists(plain_paths, min_size=2, max_size=5, unique=True), st.sampled_from(",; \n"))
def test_several_paths_in_one_text_are_told_as_a_list(found: list[str], between: str) -> None:
    listed = yamltext.load(advised(faults("devices", flow(between.join(found)))))
    assert listed == found


@given(paths)
def test_a_path_with_colons_is_a_path(path: str) -> None:
    if colons(path) is None and path not in ("/dev/snd", "/dev/dri", "/dev/input", "/dev/shm"):
        (device,) = ask("devices", f"- {flow(path)}").linux.devices
        assert device.path == path


@given(st.text(max_size=600))
def test_no_text_is_more_than_a_sentence(text: str) -> None:
    said: list[str] = []
    try:
        ask("devices", f"- {flow(text)}")
    except RequestError as error:
        said.append(str(error))
    assert all(len(sentence) < 2048 for sentence in said)


# --- directories ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["path: {}", "device: {}", "{}", "{}/"])
@pytest.mark.parametrize(
    ("directory", "advice"),
    [
        ("/dev/snd", '{device: "/dev/snd/*", count: all}, or {device: "class:sound", count: all}'),
        ("/dev/dri", '{device: "/dev/dri/*", count: all}, or {device: "class:dri", count: all}'),
        (
            "/dev/bus/usb",
            '{device: "/dev/bus/usb/*/*", count: all}, or {device: "class:usb", count: all}',
        ),
    ],
)
def test_a_directory_is_told_by_the_devices_in_it(
    directory: str, advice: str, spelled: str
) -> None:
    assert faults("devices", f"- {spelled.format(directory)}") == [
        f"item 1: '{directory}' is a directory; write {advice}"
    ]


# --- numbers and names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("gid: video", "gid: 'video' is not an integer; a group has its number on each node"),
        ("gid: dialout", "gid: 'dialout' is not an integer; a group has its number on each node"),
        ("uid: node", "uid: 'node' is not an integer; a user has its number on each node"),
        ("uid: root", "uid: 'root' is not an integer; write uid: 0"),
        ("uid: '1000:44'", "uid: '1000:44' is not an integer; write uid: 1000, gid: 44"),
        ("gid: '44'", "gid: '44' is not an integer; leave out the quotes"),
    ],
)
def test_an_owner_by_name_is_told_what_to_write(item: str, fault: str) -> None:
    (sentence,) = faults("devices", f"- {{path: /dev/a, {item}}}")
    assert sentence.startswith(f"item 1: {fault}")
    assert ("owner: container" in sentence) == ("on each node" in sentence)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (
            "{device: video0}",
            "device: 'video0' is neither a path nor a selector; write /dev/v",
        ),
        ("{path: ttyUSB0}", "path: 'ttyUSB0' is neither a path nor a selector; write /dev/tt"),
        ("{device: '1a86:7523'}", "device: '1a86:7523' is neither a path nor a selector; write"),
        ("{device: a.com/b=c}", "device: 'a.com/b=c' is the name of a CDI device, which the annot"),
        ("{path: /dev/a, file_mode: rw}", "file_mode: 'rw' is no mode; write access: rw"),
        (
            "{path: /dev/a, access: ro}",
            "access: 'ro' must be some of the letters r, w and m; write",
        ),
    ],
)
def test_a_value_of_another_tool_is_told_by_ours(item: str, fault: str) -> None:
    (sentence,) = faults("devices", f"- {item}")
    assert sentence.startswith(f"item 1: {fault}")


WHOLE = "access to all devices of a major number cannot be requested: name them, as in"


@pytest.mark.parametrize(
    "item",
    [
        "{path: /dev/a, type: c, major: 188, minor: -1}",
        "{path: /dev/a, type: c, major: 188, minor: '*'}",
        "{path: /dev/a, type: c, major: 188, minor: all}",
        "c 188:* rmw",
        "a *:* rwm",
    ],
)
def test_a_whole_major_is_refused_with_what_to_write(item: str) -> None:
    (sentence,) = faults("devices", f"- {item}")
    assert sentence.endswith(f'; {WHOLE} {{device: "/dev/ttyUSB*", count: all}}')


def warnings(kind: str, text: str) -> list[str]:
    said: list[str] = []
    key = f"{kind}.noderesource.dev/container.{NAME}"
    host = dataclasses.replace(HOST, warn=said.append)
    inject(Pod(namespace="ns", name="p", annotations={key: text}), Container(name=NAME), host)
    return [one.removeprefix(f"annotation {key}: ") for one in said]


def test_a_minor_that_is_missing_is_warned_of() -> None:
    (said,) = warnings("devices", "- {path: /dev/ttyUSB0, type: c, major: 188}")
    assert said.startswith("item 1: minor is missing, and 0 is taken; write minor: 0 if that is")
    assert warnings("devices", "- {path: /dev/ttyUSB0, type: c, major: 188, minor: 0}") == []


def test_a_soft_limit_that_is_missing_is_warned_of() -> None:
    said = warnings("ulimits", "- {type: core, hard: 1}\n- {type: nofile, hard: 1, soft: 1}")
    assert said == ["item 1: soft is missing, and 0 is taken; write soft"]

"""Devices that are written alike are found sound by the first of them, and by that only."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nri_inject import yamltext
from nri_inject.cdi import shapes, spec

MANY = 90
"""As many devices as make it worth while to look for such as are alike."""


def document(devices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cdiVersion": "1.1.0", "kind": "vendor.com/device", "devices": devices}


def device(number: int) -> dict[str, Any]:
    return {
        "name": f"d{number}",
        "annotations": {"example.com/slot": f"{number}-1"},
        "containerEdits": {
            "env": [f"DEVICE_{number}=yes"],
            "deviceNodes": [{"path": f"/dev/d{number}", "type": "c", "major": 195, "minor": 7}],
            "mounts": [{"hostPath": "/a", "containerPath": f"/a{number}", "options": ["ro"]}],
            "hooks": [{"hookName": "prestart", "path": "/b", "args": ["b", f"{number}-x"]}],
        },
    }


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def indented(value: object) -> str:
    return json.dumps(value, indent=2)


class _Plainly(yaml.SafeDumper):
    """Write what is there twice out in full, as programs do."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def block(value: object) -> str:
    return str(yaml.dump(value, Dumper=_Plainly, sort_keys=False, width=1000))


WRITERS = (compact, indented, block)


def read_as_a_whole(data: bytes) -> spec.Parsed:
    """Do what is done with a text that has nothing alike."""
    try:
        return spec.check(spec.load(data))
    except yamltext.YamlError:
        return spec.parse(data)


def meaning(parsed: spec.Parsed) -> object:
    found = parsed.spec
    if found is not None:
        devices = tuple(spec.Device(one.name, one.edits, one.annotations) for one in found.devices)
        found = found._replace(devices=devices)
    return found, parsed.problems, parsed.kind, parsed.minimum


def written(parsed: spec.Parsed) -> int:
    """Count the devices that have not been read."""
    devices = parsed.spec.devices if parsed.spec else ()
    return sum(isinstance(one, spec.Written) for one in devices)


@pytest.mark.parametrize("write", WRITERS)
def test_many_devices_alike_are_found_sound_without_being_read(write: Any) -> None:
    data = write(document([device(number) for number in range(MANY)])).encode()
    parsed = spec.parse(data)
    assert written(parsed) == MANY
    assert meaning(parsed) == meaning(read_as_a_whole(data))


@pytest.mark.parametrize("write", WRITERS)
def test_devices_of_several_shapes_are_too(write: Any) -> None:
    devices = [device(number) for number in range(300)]
    for number, one in enumerate(devices):
        one["containerEdits"]["mounts"] *= number % 3
    data = write(document(devices)).encode()
    parsed = spec.parse(data)
    assert written(parsed) == 300
    assert meaning(parsed) == meaning(read_as_a_whole(data))


@pytest.mark.parametrize("write", WRITERS)
def test_name_that_is_there_twice_is_told_wherever_it_is(write: Any) -> None:
    devices = [device(number) for number in range(MANY)]
    devices[-1]["name"] = "d40"
    problems = spec.parse(write(document(devices)).encode()).problems
    assert [problem.code for problem in problems] == ["duplicate-device"]
    assert problems[0].path == ("devices", MANY - 1, "name")


def test_too_many_annotations_are_told_of_the_last_device_too() -> None:
    devices = [device(number) for number in range(8000)]
    devices[-1]["annotations"] = {"example.com/slot": "x" * (256 * 1024)}
    parsed = spec.parse(compact(document(devices)).encode())
    assert [problem.code for problem in parsed.problems] == ["annotations-size"]


# --- anything else is told as if all had been read ----------------------------------------------

ODD = (
    *("", "x", "yes", "n", "null", "~", "0", "7", "007", "-1", "1e2", "0x1F", "1_0", "12:30"),
    *("4294967296", "5000", "2024-01-02", "1-2", ".5", "a=b", "=b", "a b=c", "9=b", "/", "/x y"),
    *("dev/x", "a,b", "{", "}", "]", "a: b", "a #b", "é", "'", '"', "a\\n", "<<", "*a", "&a b"),
    *("none", "rwx", "u", "-a", "a-", "a:b", "a::b", "a:", "eth0", "[]", "{}", "[a=b]", "!x y"),
)
KEYS = ("name", "path", "hostPath", "PATH", "uid", "minor", "fileMode", "a.b/slot", "closID")
EDITS: tuple[dict[str, Any], ...] = (
    device(0)["containerEdits"],
    {"env": ["A=1"], "netDevices": [{"hostInterfaceName": "eth0", "name": "net0"}]},
    {"additionalGids": [5], "intelRdt": {"closID": "a", "schemata": ["L3:0=f"]}},
    {"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b", "uid": 1, "fileMode": 420}] * 2},
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Write many devices alike, one of which differs in a value, a key or a piece of text."""
    edits = draw(st.sampled_from(EDITS))
    devices = [{**device(number), "containerEdits": edits} for number in range(MANY)]
    text = draw(st.sampled_from(WRITERS))(document(devices))
    for _ in range(draw(st.integers(0, 2))):
        text = draw(changed(text))
    return text.encode()


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """Put something odd in place of a scalar of a late device, inside quotation marks or not."""
    words = re.compile(r"[^\s\"',:{}\[\]-][^\s\"',:{}\[\]]*")
    places = list(words.finditer(text, len(text) // 2))[:20]
    place = draw(st.sampled_from(places))
    odd = draw(st.sampled_from(ODD + KEYS))
    return f"{text[: place.start()]}{odd}{text[place.end() :]}"


@given(documents())
def test_what_is_found_alike_means_what_it_means_when_all_is_read(data: bytes) -> None:
    parsed = spec.parse(data)
    assert meaning(parsed) == meaning(read_as_a_whole(data))


ODD_VALUES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("name", ("0", "-a", "a-", "a/b", "", "yes", 7, None, "a:b", "d 1", "é")),
    ("deviceNodes path", ("", "dev/x", "/dev/x y", "/", None, "/é")),
    ("deviceNodes major", (5000, -1, 2**63, 1.0, "1", True, None, 0)),
    ("deviceNodes minor", (2**20, 12.5, "7", 999, 1000)),
    ("deviceNodes type", ("u", "x", "", None)),
    ("mounts hostPath", ("", "tmpfs", None)),
    ("mounts containerPath", ("", "a", "/a: b", "/a #b")),
    ("mounts type", ("bind", "")),
    ("hooks hookName", ("poststop", "prestrat")),
    ("hooks path", ("b", "")),
    ("hooks timeout", (0, 1, -1)),
    ("env 0", ("A", "=", "=b", "A=", "9=b", "A=b c", "A=\u007f", "A=b=c: d", 7, None)),
    ("hooks args 0", ("", "a=b", "yes", 5, None, "-", "{}")),
    ("mounts options 0", ("", "size=1", "0x1F", 31, "~")),
)


def put(edits: Any, where: str, value: object) -> None:
    """Set the value at a place of edits; in a list of objects, of its first."""
    *way, last = where.split()
    for step in way:
        edits = edits[step]
        edits = edits[0] if isinstance(edits[0], dict) else edits
    edits[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("where", "value"), [(where, value) for where, values in ODD_VALUES for value in values]
)
def test_odd_value_in_a_late_device_is_not_taken_for_one_alike(
    where: str, value: object, write: Any
) -> None:
    devices = [device(number) for number in range(MANY)]
    put(devices[50] if where == "name" else devices[50]["containerEdits"], where, value)
    data = write(document(devices)).encode()
    assert meaning(spec.parse(data)) == meaning(read_as_a_whole(data))


def test_name_that_begins_with_a_digit_needs_its_version_in_a_late_device_too() -> None:
    edits = {"env": ["A=1"]}
    devices = [{"name": f"d{number}", "containerEdits": edits} for number in range(400)]
    devices[300]["name"] = "300"
    data = compact({**document(devices), "cdiVersion": "0.3.0"}).encode()
    assert [problem.code for problem in spec.parse(data).problems] == ["version-too-low"]


def test_network_devices_that_are_named_alike_are_told_in_a_late_device_too() -> None:
    names = ("net0", "net1")
    nets = [{"hostInterfaceName": f"eth{name}", "name": name} for name in names]
    devices = [{"name": f"d{n}", "containerEdits": {"netDevices": nets}} for n in range(300)]
    twice = [nets[0], {**nets[1], "name": "net0"}]
    devices[200] = {"name": "d200", "containerEdits": {"netDevices": twice}}
    problems = spec.parse(compact(document(devices)).encode()).problems
    assert [problem.code for problem in problems] == ["duplicate-net-name"]


def test_exponent_is_part_of_a_number() -> None:
    text = compact(document([device(number) for number in range(MANY)]))
    first, last = text.replace('"major":195', '"major":1e3').rsplit('"major":1e3', 1)
    text = f'{first}"major":9e3{last}'
    assert [problem.code for problem in spec.parse(text.encode()).problems] == ["device-number"]


def test_text_with_an_escape_is_read_as_a_whole() -> None:
    devices = [device(number) for number in range(MANY)]
    devices[50]["containerEdits"]["hooks"][0]["args"][0] = 'say "path": "/x"'
    text = compact(document(devices))
    assert shapes.condense(text, shapes.JSON) is None
    assert meaning(spec.parse(text.encode())) == meaning(read_as_a_whole(text.encode()))


@pytest.mark.parametrize("form", [shapes.JSON, shapes.YAML])
@pytest.mark.parametrize("text", ["", "{}", "devices:\n", '"devices": [' * 9999, "{" * 9999])
def test_text_without_devices_alike_is_left_alone(text: str, form: shapes.Form) -> None:
    assert shapes.condense(text, form) is None

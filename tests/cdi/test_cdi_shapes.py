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
    """Put something odd in place of one of a text's scalars, with or without quotation marks."""
    words = list(re.finditer(r"[^\s\"',:{}\[\]-][^\s\"',:{}\[\]]*", text))
    place = words[draw(st.integers(0, len(words) - 1))]
    odd = draw(st.sampled_from(ODD + KEYS))
    return f"{text[: place.start()]}{odd}{text[place.end() :]}"


@given(documents())
def test_what_is_found_alike_means_what_it_means_when_all_is_read(data: bytes) -> None:
    parsed = spec.parse(data)
    assert meaning(parsed) == meaning(read_as_a_whole(data))


@pytest.mark.parametrize("form", [shapes.JSON, shapes.YAML])
@pytest.mark.parametrize("text", ["", "{}", "devices:\n", '"devices": [' * 9999, "{" * 9999])
def test_text_without_devices_alike_is_left_alone(text: str, form: shapes.Form) -> None:
    assert shapes.condense(text, form) is None

"""The commands below `nri-inject devices`: their shapes, texts and exit statuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.machine import CH340, USB, Fake, machine, usb_device, write

from nri_inject.cli.devices import KEY, command


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a machine of plain files, so that no node has a mode."""
    return write(tmp_path_factory.mktemp("host"), machine())


def run(*arguments: object) -> tuple[int, str, str]:
    """Return the exit status, and what was printed on each stream."""
    result = CliRunner().invoke(command, [*map(str, arguments)], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value or 0, result.stdout, result.stderr


def as_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--format", "json")[1])


BY_ID = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
STICK: dict[str, Any] = {
    "path": "/dev/ttyUSB2",
    "type": "c",
    "major": 188,
    "minor": 2,
    "mode": None,
    "uid": None,
    "gid": None,
    "subsystem": "tty",
    "classes": ["serial", "tty-usb"],
    "links": [BY_ID, "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.3:1.0-port0"],
    "selector": BY_ID,
    "annotation": {KEY: f"- device: {BY_ID}\n"},
}


def test_list_all(host: Path) -> None:
    rows = as_json("list", "--root", host)["devices"]
    assert len(rows) == 31
    assert STICK in rows


def test_list_those_selected_once_and_in_the_order_of_the_selectors(host: Path) -> None:
    rows = as_json("list", "--root", host, BY_ID, "class:tty-usb")["devices"]
    assert [row["path"] for row in rows] == ["/dev/ttyUSB2", "/dev/ttyUSB0", "/dev/ttyUSB1"]
    assert rows[0] == STICK


def test_a_selector_that_means_nothing_is_told_beside_the_others(host: Path) -> None:
    status, text, errors = run("list", "--root", host, "class:hidraw", "class:fuse")
    assert status == 1
    assert text.splitlines() == [
        "/dev/fuse  c 10:229  no node in /dev",
        f'  ask  {KEY}: "- device: /dev/fuse"',
    ]
    assert errors == "Error: class:hidraw matches no device; see nri-inject devices explain\n"


def test_the_nodes_of_this_host_have_mode_and_owner() -> None:
    status = Path("/dev/null").stat()
    (row,) = as_json("list", "/dev/null")["devices"]
    shown = (row["path"], row["type"], row["major"], row["minor"], row["uid"], row["gid"])
    assert shown == ("/dev/null", "c", 1, 3, status.st_uid, status.st_gid)
    assert row["mode"] == f"{status.st_mode & 0o7777:04o}"
    assert run("list", "/dev/null")[1].startswith(f"/dev/null  c 1:3  {row['mode']} ")


def test_a_path_may_lead_to_a_node_from_outside_of_dev(tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to("/dev/null")
    assert as_json("list", tmp_path / "mine")["devices"][0]["path"] == "/dev/null"
    os.mkfifo(tmp_path / "pipe")
    assert run("list", tmp_path / "pipe")[0] == 1


ASKS: dict[str, str] = {
    "/dev/ttyUSB0": "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0",
    "/dev/video0": "/dev/v4l/by-id/usb-046d_0825_C0FFEE42-video-index0",
    "/dev/input/event7": "usb:046d:0825:C0FFEE42,SUBSYSTEM=input",
    "/dev/snd/pcmC1D0c": "usb:046d:0825:C0FFEE42,SUBSYSTEM=sound,"
    "ATTRS{bInterfaceNumber}=02,KERNEL=pcmC*D0c",
    "/dev/bus/usb/001/012": "usb:1a86:7523,SUBSYSTEM=usb,KERNELS=1-1.2",
    "/dev/nvme0n1p1": "/dev/disk/by-id/nvme-SAMPLE_DISK_S1-part1",
    "/dev/dri/renderD128": "/dev/dri/by-path/pci-0000:00:02.0-render",
    "/dev/fuse": "/dev/fuse",
}


@pytest.mark.parametrize("path", ASKS)
def test_the_annotation_names_what_lasts_and_means_the_device_alone(host: Path, path: str) -> None:
    (row,) = as_json("list", "--root", host, path)["devices"]
    assert row["selector"] == ASKS[path]
    (again,) = as_json("list", "--root", host, row["selector"])["devices"]
    assert again == row


def test_a_by_id_link_without_a_serial_number_is_not_trusted(tmp_path: Path) -> None:
    """Udev gives it to whichever of two equal sticks came last."""
    stick = usb_device(f"{USB}/1-3", 7, *CH340)
    tty = Fake(
        f"{stick.syspath}/tty/ttyUSB9", "tty", "ttyUSB9", "188:9", links=("serial/by-id/usb-1a86",)
    )
    write(tmp_path, [stick, tty])
    (row,) = as_json("list", "--root", tmp_path, "/dev/ttyUSB9")["devices"]
    assert row["selector"] == "usb:1a86:7523,KERNELS=1-3"


@pytest.mark.parametrize(
    ("serial", "selector"),
    [
        ("A:B", 'usb:0403:6001:"A:B"'),
        ('A"\\B', r'usb:0403:6001:"A\"\\B"'),
        ("A*", "usb:0403:6001:A[*]"),
        ("A B", "usb:0403:6001:A B"),
    ],
)
def test_a_serial_number_is_written_so_that_it_means_itself(
    tmp_path: Path, serial: str, selector: str
) -> None:
    place = f"{USB}/1-3"
    stick = usb_device(place, 7, "0403", "6001", serial)
    write(tmp_path, [stick, Fake(f"{place}/tty/ttyUSB9", "tty", "ttyUSB9", "188:9")])
    (row,) = as_json("list", "--root", tmp_path, "/dev/ttyUSB9")["devices"]
    assert row["selector"] == selector
    assert row["annotation"][KEY] == f"- device: {json.dumps(selector)}\n"


def test_explain_what_is_meant_and_why(host: Path) -> None:
    assert run("explain", "--root", host, "usb:0403:6001:A50285BI") == (
        0,
        f"""usb:0403:6001:A50285BI matches 1 device
/dev/ttyUSB2  c 188:2  no node in /dev
  also {BY_ID}
  also /dev/serial/by-path/pci-0000:00:14.0-usb-0:1.3:1.0-port0
  ask  {KEY}: "- device: {BY_ID}"
  for  USB idVendor 0403 (it is 0403)
  for  USB idProduct 6001 (it is 6001)
  for  USB serial A50285BI (it is A50285BI)
  for  not its bus node (it is subsystem tty)
""",
        "",
    )


def test_explain_what_comes_near(host: Path) -> None:
    status, text, _ = run("explain", "--root", host, "usb:0403:6001:A50285BJ,CLASS=tty-usb")
    assert (status, text) == (
        1,
        """usb:0403:6001:A50285BJ,CLASS=tty-usb matches none of 31 devices
near: /dev/ttyUSB2  c 188:2  no node in /dev
  but USB serial A50285BJ (it is A50285BI)
near: /dev/bus/usb/001/013  c 189:12  no node in /dev
  but USB serial A50285BJ (it is A50285BI)
  but class tty-usb (it is subsystem usb)
""",
    )


def test_explain_for_programs(host: Path) -> None:
    assert as_json("explain", "--root", host, BY_ID) == {
        "selector": BY_ID,
        "devices": [
            {
                **STICK,
                "because": [
                    {"condition": BY_ID, "is": " ".join(["/dev/ttyUSB2", *STICK["links"]])}
                ],
            }
        ],
        "nearest": [],
    }
    found = as_json("explain", "--root", host, "/dev/ttyUSB7")
    assert found["devices"] == []
    assert found["nearest"][0]["path"] == "/dev/ttyUSB2"
    assert found["nearest"][0]["unmet"][0]["condition"] == "/dev/ttyUSB7"


@pytest.mark.parametrize("name", ["list", "explain"])
def test_what_is_no_selector_is_wrong_usage(name: str) -> None:
    result = CliRunner().invoke(command, [name, "class:vidio"])
    assert result.exit_code == 2
    assert "Error: class 'vidio' is unknown; did you mean 'video'?" in result.output


@pytest.mark.parametrize("name", ["list", "explain"])
def test_each_command_has_an_example(name: str) -> None:
    assert f"Example: nri-inject devices {name}" in run(name, "--help")[1]

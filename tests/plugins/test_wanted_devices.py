"""Device annotations that say what a device is, and not where its node is."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.machine import machine, write

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import identify
from nri_inject.errors import RequestError
from nri_inject.host.devices import inventory
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.model import DeviceNode, Number
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host
from nri_inject.plugins import device_injector
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.service.base import Options
from nri_inject.service.config import Config

KEY = "devices.noderesource.dev/container.main"
USER = Container(name="main", user={"uid": 1000, "gid": 100})
BY_ID = "/dev/serial/by-id/usb-0403_A50285BI-if00-port0"
BY_PATH = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.3:1.0-port0"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    found = inventory.read(str(write(tmp_path_factory.mktemp("host"), machine())))
    nodes: dict[str, DeviceNode] = {}
    numbers: dict[Number, tuple[str, ...]] = {}
    for device in found:
        numbers[device.number] = device.paths
        for path in device.paths:
            nodes[path] = DeviceNode(path, *device.number, 0o660, 0, 20, real=device.path)
    return Host(nodes, numbers=numbers, inventory=lambda: found)


def ask(text: str, host: Host, container: Container = USER) -> Adjustment:
    return inject(Pod(name="p", namespace="ns", annotations={KEY: text}), container, host)


def devices(text: str, host: Host, container: Container = USER) -> list[str]:
    """Return path, numbers, mode and owner of each device, as text."""
    return [
        f"{d.path} {d.type} {d.major}:{d.minor} {d.file_mode.value:o} {d.uid.value}:{d.gid.value}"
        for d in ask(text, host, container).linux.devices
    ]


def faults(text: str, host: Host, container: Container = USER) -> list[str]:
    with pytest.raises(RequestError) as caught:
        ask(text, host, container)
    front = f"annotation {KEY}: "
    assert all(fault.startswith(front) for fault in caught.value.faults)
    return [fault.removeprefix(front) for fault in caught.value.faults]


STICK = "c 188:2 660 0:20"
ASKED: dict[str, list[str]] = {
    "- usb:0403:6001:A50285BI": [f"/dev/ttyUSB2 {STICK}"],
    "- device: usb:0403:6001:A50285BI": [f"/dev/ttyUSB2 {STICK}"],
    "- {Device: 'usb:0403:6001', AS: /dev/zigbee}": [f"/dev/zigbee {STICK}"],
    f"- {{device: {BY_ID}, as: /dev/zigbee}}": [f"/dev/zigbee {STICK}"],
    f"- {BY_ID}": [f"{BY_ID} {STICK}"],
    f"- path: {BY_ID}": [f"{BY_ID} {STICK}"],
    "- {device: 'usb:0403:6001', links: true}": [
        f"{path} {STICK}" for path in ("/dev/ttyUSB2", BY_ID, BY_PATH)
    ],
    "- {device: 'class:video', count: all, as: '/dev/cam{index}'}": [
        "/dev/cam0 c 81:0 660 0:20",
        "/dev/cam1 c 81:1 660 0:20",
    ],
    "- {device: 'udev:SUBSYSTEM=tty,ATTRS{idVendor}=0403', owner: container}": [
        "/dev/ttyUSB2 c 188:2 660 1000:100"
    ],
    "- {device: '/dev/tty[U]SB2', owner: host, file_mode: 0600}": ["/dev/ttyUSB2 c 188:2 600 0:20"],
    "- {path: /dev/fuse, owner: container}": ["/dev/fuse c 10:229 660 1000:100"],
    "- {path: /dev/x, type: c, major: 1, minor: 5, owner: container}": ["/dev/x c 1:5 0 1000:100"],
    "- {path: /dev/none, optional: true}": [],
    "- {device: 'class:hidraw', optional: true}\n- /dev/fuse": ["/dev/fuse c 10:229 660 0:20"],
    "- class:fuse\n- /dev/fuse": ["/dev/fuse c 10:229 660 0:20"],
}


@pytest.mark.parametrize("text", ASKED)
def test_what_is_asked_for_is_given(text: str, host: Host) -> None:
    assert devices(text, host) == ASKED[text]


WRONG: dict[str, list[str]] = {
    "- ttyUSB2": ["item 1: 'ttyUSB2' is neither a path nor a selector; write /dev/ttyUSB2"],
    "- tty:USB2": [
        (
            "item 1: device: 'tty:USB2' is not a selector;"
            " write a path, usb:VID:PID, udev:KEY=VALUE or class:NAME"
        )
    ],
    "- class:hidraw": [
        (
            "item 1: 'class:hidraw' matches no device; run `nri-inject devices"
            " explain` on the node for near matches"
        )
    ],
    "- {device: /dev/none}": ["item 1: '/dev/none' does not exist on the host"],
    "- {path: /dev/fuse, as: /dev/x}": ["item 1: as is allowed with device only, not with path"],
    "- {device: /dev/fuse, as: ../x}": ["item 1: as: '../x' is not an absolute path"],
    "- {optional: true}": ["item 1: device or path is missing"],
    "- {device: 'class:fuse', device_: x}": [
        "item 1: unknown key 'device_'; did you mean 'device'?"
    ],
    "- {device: 'class:fuse', as: /dev/kvm}\n- /dev/kvm": [
        "'/dev/kvm' is requested twice with different values"
    ],
    "\n".join(f"- /dev/x{n}*" for n in range(9)): [
        "9 devices by `links` or by a selector that is no path, at most 8 allowed"
    ],
    "\n".join(f"- {{device: class:fuse, as: /dev/x{n}}}" for n in range(9)): [
        "9 devices by `links` or by a selector that is no path, at most 8 allowed"
    ],
    "- class:fuse\n- class:hidraw\n- class:gpio": [
        f"item {n}: 'class:{name}' matches no device; run `nri-inject devices"
        " explain` on the node for near matches"
        for n, name in ((2, "hidraw"), (3, "gpio"))
    ],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_had_says_why(text: str, host: Host) -> None:
    assert faults(text, host) == WRONG[text]


def test_a_runtime_that_does_not_tell_the_user_is_named(host: Host) -> None:
    old = Host(host.devices, identify("containerd", "2.1.9"), inventory=host.inventory)
    assert faults("- {device: 'class:fuse', owner: container}", old, Container(name="main")) == [
        (
            "item 1: owner: containerd 2.1.9 does not report the container's user (containerd 2.3.0"
            " and CRI-O 1.36.0 do); set uid and gid instead"
        )
    ]


# --- policy -------------------------------------------------------------------------------------


def permitted(text: str, host: Host, rules: str) -> list[str]:
    pod = Pod(name="p", namespace="ns", annotations={KEY: text})
    permit = Permit(document.read(f"rules: {rules}", "policy"), pod, USER, "10-device-injector")
    world = Host(host.devices, numbers=host.numbers, inventory=host.inventory, permit=permit)
    return [device.path for device in inject(pod, USER, world).linux.devices]


@pytest.mark.parametrize("allowed", ["/dev/ttyUSB2", BY_ID, "/dev/serial/by-id/*"])
def test_a_rule_allows_the_device_by_any_name_that_the_host_has_for_it(
    host: Host, allowed: str
) -> None:
    rules = f"[{{allow: {{devices: ['{allowed}']}}}}]"
    for selector in ("usb:0403:6001", BY_ID, "/dev/ttyUSB2"):
        text = f"- {{device: '{selector}', as: /dev/zigbee}}"
        assert permitted(text, host, rules) == ["/dev/zigbee"]


def test_what_no_rule_allows_is_denied_under_whatever_name(host: Host) -> None:
    with pytest.raises(RequestError) as caught:
        permitted("- {device: 'usb:0403:6001', as: /dev/fuse}", host, FUSE)
    assert caught.value.faults == (
        (
            f"annotation {KEY}: device '/dev/fuse' (c 188:2, /dev/ttyUSB2):"
            " the host's '/dev/fuse' is c 10:229, another device"
        ),
    )
    with pytest.raises(RequestError) as caught:
        permitted("- {device: 'usb:0403:6001', as: /dev/zigbee}", host, FUSE)
    assert caught.value.faults[0].startswith(
        f"annotation {KEY}: device '/dev/zigbee' (c 188:2, /dev/ttyUSB2): no rule"
    )


FUSE = "[{allow: {devices: [/dev/fuse]}}]"


@pytest.mark.parametrize("selector", ["usb:0403:6001", BY_ID, "/dev/ttyUSB*"])
def test_who_may_have_no_device_at_all_finds_out_nothing(selector: str) -> None:
    def never() -> Inventory:
        raise AssertionError

    nothing = Host({}, inventory=never)
    for keys in ("", ", optional: true", ", links: true"):
        with pytest.raises(RequestError) as caught:
            permitted(f"- {{device: '{selector}'{keys}}}", nothing, "[]")
        assert caught.value.faults[0].startswith(f"annotation {KEY}: device '{selector}': no rule")


# --- what is loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("[/dev/fuse]", []),
        ("[{device: /dev/fuse, on_change: report}]", []),
        ("[{device: /dev/fuse, as: /dev/a, on_change: restart}, /dev/ttyUSB2]", ["/dev/a"]),
        ("[{path: /dev/fuse, on_change: restart}]", ["/dev/fuse"]),
        (
            "[{device: 'class:video', count: all, as: '/dev/cam{index}', on_change: restart}]",
            ["/dev/cam0", "/dev/cam1"],
        ),
        ("[{device: /dev/none, optional: true, on_change: restart}]", []),
    ],
)
def test_the_paths_are_told_at_whose_change_the_container_is_to_be_restarted(
    host: Host, text: str, paths: list[str]
) -> None:
    told: list[str] = []
    inject(Pod(annotations={KEY: text}), USER, replace(host, on_change=told.append))
    assert told == paths


def test_what_is_to_be_done_on_a_change_is_one_of_two_words(host: Host) -> None:
    with pytest.raises(RequestError) as caught:
        inject(Pod(annotations={KEY: "[{device: /dev/fuse, on_change: kill}]"}), USER, host)
    assert [*caught.value.faults] == [
        f"annotation {KEY}: item 1: on_change: 'kill' must be one of report, restart"
    ]


@pytest.mark.slow
def test_nothing_of_this_is_loaded_for_those_who_name_a_path() -> None:
    program = """
import sys
from nri_inject.api import Container, Pod
from nri_inject.host.nodes import HostDevices
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host
from nri_inject.plugins.device_injector import PART
from nri_inject.service.config import Config
source = PART.sources["inventory"](None, Config())
host = Host(HostDevices(), inventory=source.current())
def ask(text):
    inject(Pod(annotations={"devices.noderesource.dev": text}), Container(), host)
    names = "pyudev", "nri_inject.injectors.device.selected", "nri_inject.host.devices.live"
    return [name for name in names if name in sys.modules]
print(ask("- path: /dev/null"))
print(ask("- /dev/null"))
print(ask("- '/dev/nul[l]'"))
print(ask("- {device: 'udev:SUBSYSTEM=mem,ID_NONE=x', optional: true}"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    wanted, live = "nri_inject.injectors.device.selected", "nri_inject.host.devices.live"
    assert done.stdout.splitlines() == [
        *("[]", f"['{wanted}']", f"['{wanted}', '{live}']", f"['pyudev', '{wanted}', '{live}']"),
    ]


def test_devices_are_found_below_the_host_root_of_the_configuration(tmp_path: Path) -> None:
    host_root = str(write(tmp_path, machine()))
    source = device_injector.PART.sources["inventory"](
        Options(idx="10", name="device-injector"), Config(host_root=host_root)
    )
    with closing(source):
        found = source.current()()
    assert found.of_path("/dev/ttyUSB2") is not None
    assert len(found.devices) == len(inventory.read(host_root).devices)

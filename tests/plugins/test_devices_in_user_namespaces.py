"""The device injector in a user namespace: only what every OCI runtime does is promised."""

from __future__ import annotations

import dataclasses

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

KEY = "devices.noderesource.dev/container.main"
OWN_USERS = Container(
    name="main",
    user={"uid": 1000, "gid": 1000},
    linux={"namespaces": [api.LinuxNamespace(type="mount"), api.LinuxNamespace(type="user")]},
)
HOSTS_USERS = Container(name="main", user={"uid": 1000, "gid": 1000})
NODES = (
    DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0),
    DeviceNode("/dev/kvm", "c", 10, 232, 0o660, 0, 36),
    DeviceNode("/dev/pipe", "p", 0, 0, 0o600, 0, 0),
)
HOST = Host({node.path: node for node in NODES})
MOUNTED = "in a user namespace the runtime may mount the host's node as it is"
ADVICE = "set hostUsers: true in the pod"


def ask(text: str, container: Container = OWN_USERS, host: Host = HOST) -> Adjustment:
    return inject(Pod(name="p", namespace="ns", annotations={KEY: text}), container, host)


def faults(text: str, host: Host = HOST) -> list[str]:
    with pytest.raises(RequestError) as caught:
        ask(text, host=host)
    front = f"annotation {KEY}: item 1: "
    assert all(fault.startswith(front) for fault in caught.value.faults)
    return [fault.removeprefix(front) for fault in caught.value.faults]


@pytest.mark.parametrize(
    "text",
    [
        "[/dev/fuse]",
        "[{path: /dev/fuse}]",
        "[{path: /dev/fuse, type: c, major: 10, minor: 229}]",
        "[{path: /dev/fuse, file_mode: 0666}]",
        "[{device: /dev/fuse, as: /dev/fuse, owner: host}]",
    ],
)
def test_the_hosts_device_at_its_own_path_is_given_with_the_hosts_mode(text: str) -> None:
    (device,) = ask(text).linux.devices
    assert device == api.LinuxDevice(
        path="/dev/fuse",
        type="c",
        major=10,
        minor=229,
        file_mode=api.OptionalFileMode(value=0o666),
        uid=api.OptionalUInt32(value=0),
        gid=api.OptionalUInt32(value=0),
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "[{path: /dev/fuse, file_mode: 0640}]",
            [f"file_mode: {MOUNTED}, with mode 0666; leave file_mode out, or {ADVICE}"],
        ),
        (
            "[{path: /dev/fuse, uid: 0, gid: 0}]",
            [
                f"uid: {MOUNTED}, with the host's owner; leave uid out, or {ADVICE}",
                f"gid: {MOUNTED}, with the host's owner; leave gid out, or {ADVICE}",
            ],
        ),
        (
            "[{path: /dev/fuse, owner: container}]",
            [f"owner: {MOUNTED}, with the host's owner; leave owner out, or {ADVICE}"],
        ),
        (
            "[{path: /dev/kvm, type: c, major: 10, minor: 229}]",
            [
                (
                    f"{MOUNTED}, and '/dev/kvm' is c 10:232 on the host;"
                    f" use the device's path on the host, or {ADVICE}"
                )
            ],
        ),
        (
            "[{device: /dev/fuse, as: /dev/mine}]",
            [
                (
                    f"{MOUNTED}, and '/dev/mine' does not exist on the host;"
                    f" use the device's path on the host, or {ADVICE}"
                )
            ],
        ),
        (
            "[{path: /dev/pipe, type: c, major: 10, minor: 229}]",
            [
                (
                    f"{MOUNTED}, and '/dev/pipe' is a fifo; mount it instead;"
                    f" use the device's path on the host, or {ADVICE}"
                )
            ],
        ),
    ],
)
def test_anything_else_fails_with_what_to_do(text: str, sentences: list[str]) -> None:
    assert faults(text) == sentences


def test_a_node_that_the_host_keeps_closed_is_warned_of_once_for_what_is_asked() -> None:
    told: list[str] = []
    host = dataclasses.replace(HOST, warn=told.append)
    ask("[{path: /dev/fuse}, {path: /dev/kvm}]", host=host)
    assert told == [
        (
            f"device '/dev/kvm': {MOUNTED} (runc does, crun does not), and its mode 0660 denies"
            " access"
            f" to the container; allow others to open the host's node, or {ADVICE}"
        )
    ]
    ask("[{path: /dev/kvm}]", HOSTS_USERS, host)
    assert len(told) == 1


def test_at_most_256_devices_are_looked_up() -> None:
    nodes = [DeviceNode(f"/dev/n{n}", "c", 7, n, 0o666, 0, 0) for n in range(257)]
    items = [f"{{path: {node.path}, type: c, major: 7, minor: {node.minor}}}" for node in nodes]
    host = Host({node.path: node for node in nodes})
    assert len(ask(f"[{', '.join(items[1:])}]", host=host).linux.devices) == 256
    with pytest.raises(RequestError) as caught:
        ask(f"[{', '.join(items)}]", host=host)
    assert caught.value.faults == (
        f"annotation {KEY}: item 257: more than 256 devices in a user namespace",
    )


class Unseen(dict[str, DeviceNode]):
    def __getitem__(self, key: str) -> DeviceNode:
        raise AssertionError(f"{key} was looked at")


def test_what_no_rule_could_allow_is_not_looked_at() -> None:
    pod = Pod(name="p", namespace="ns", annotations={KEY: "[{path: /srv/x, type: c, major: 1}]"})
    policy = document.read("rules: [{allow: {devices: [/dev/fuse]}}]", "policy")
    permit = Permit(policy, pod, OWN_USERS, "10-device-injector")
    with pytest.raises(RequestError) as caught:
        inject(pod, OWN_USERS, Host(Unseen(), permit=permit))
    assert caught.value.denied

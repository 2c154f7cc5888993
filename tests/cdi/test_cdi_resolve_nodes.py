"""Device nodes of CDI specs: numbers, access, owners, and user namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from support.resolving import OLD, adjusted, bare, faults, node, resolved

from nri_inject import api
from nri_inject.api import Adjustment, Container


def rules(adjustment: Adjustment) -> list[tuple[bool, str, int, int, str]]:
    return [
        (rule.allow, rule.type, rule.major.value, rule.minor.value, rule.access)
        for rule in adjustment.linux.resources.devices
    ]


def test_node_is_completed_from_the_host() -> None:
    assert adjusted(node(path="/dev/x", hostPath="/dev/null")).linux.devices == [
        api.LinuxDevice(
            path="/dev/x", type="c", major=1, minor=3, file_mode=api.OptionalFileMode(value=0o666)
        )
    ]


@pytest.mark.parametrize(
    ("permissions", "path", "expected"),
    [
        ("", "/dev/fuse", [(True, "c", 10, 229, "rwm")]),
        ("rwm", "/dev/fuse", [(True, "c", 10, 229, "rwm")]),
        ("rw", "/dev/fuse", []),
        ("wr", "/dev/fuse", []),
        ("r", "/dev/fuse", [(False, "c", 10, 229, "rwm"), (True, "c", 10, 229, "r")]),
        ("m", "/dev/fuse", [(False, "c", 10, 229, "rwm"), (True, "c", 10, 229, "m")]),
        ("none", "/dev/fuse", [(False, "c", 10, 229, "rwm")]),
        ("", "/dev/sda", []),
        ("rw", "/dev/sda", [(False, "b", 8, 0, "rwm"), (True, "b", 8, 0, "rw")]),
        ("r", "/dev/sda", [(False, "b", 8, 0, "rwm"), (True, "b", 8, 0, "r")]),
        ("none", "/dev/sda", [(False, "b", 8, 0, "rwm")]),
        ("", "/dev/null", [(True, "c", 1, 3, "rwm")]),
        ("rw", "/dev/null", []),
    ],
)
def test_access_is_what_the_spec_says(
    permissions: str, path: str, expected: list[tuple[bool, str, int, int, str]]
) -> None:
    assert rules(adjusted(node(path=path, permissions=permissions))) == expected


def test_two_nodes_of_one_device_have_the_access_of_both() -> None:
    nodes = [
        {"path": "/dev/a", "hostPath": "/dev/fuse", "permissions": "r"},
        {"path": "/dev/b", "hostPath": "/dev/fuse", "permissions": "w"},
    ]
    adjustment = adjusted({"deviceNodes": nodes})
    assert (len(adjustment.linux.devices), rules(adjustment)) == (2, [])


def test_default_access_is_not_refused_on_a_runtime_without_rules() -> None:
    assert rules(adjusted(node(), runtime=OLD)) == []


def test_narrower_access_cannot_be_had_on_a_runtime_without_rules() -> None:
    resolution = resolved(node(path="/dev/fuse", permissions="r"), runtime=OLD)
    assert bare(resolution.unsupported) == (
        (
            "access r to c 10:229: containerd 1.7.24 (NRI 0.6.1) does not apply device rules: needs"
            " NRI 0.10.0, first in containerd 2.2.0, CRI-O 1.34"
        ),
    )


@pytest.mark.parametrize(("permissions", "shown"), [("r", "r"), ("m", "m"), ("none", "none")])
def test_access_to_what_every_container_may_open_cannot_be_narrowed(
    permissions: str, shown: str
) -> None:
    resolution = resolved(node(permissions=permissions))
    assert bare(resolution.unsupported) == (
        f"access {shown} to c 1:3: runc and crun let every container open c 1:3",
    )
    assert rules(resolution.adjust) == []


def test_unbuffered_character_device_is_sent_as_one_that_runc_makes() -> None:
    devices = adjusted(node(type="u")).linux.devices
    assert [(one.type, one.major, one.minor) for one in devices] == [("c", 1, 3)]


def test_fifo_becomes_a_mount_of_the_hosts() -> None:
    adjustment = adjusted(node(path="/run/x", hostPath="/run/pipe"))
    assert adjustment == Adjustment(
        mounts=[api.Mount(source="/run/pipe", destination="/run/x", type="bind", options=["bind"])]
    )


def test_fifo_that_the_host_lacks_is_a_fault() -> None:
    assert faults(node(path="/run/x", type="p")) == (
        "device node '/run/x': a fifo must be mounted from the host, which has no '/run/x'",
    )


IN_USER_NAMESPACE = Container(
    linux=api.LinuxContainer(namespaces=[api.LinuxNamespace(type="user")])
)


MOUNTED = "in a user namespace the runtime may mount the host's node as it is"
ADVICE = "set hostUsers: true in the pod"


def test_node_of_another_path_is_mounted_in_a_user_namespace_and_not_mapped() -> None:
    edits = node(path="/dev/x", hostPath="/dev/fuse", permissions="r")
    adjustment = adjusted(edits, container=IN_USER_NAMESPACE)
    assert not adjustment.linux.devices
    assert adjustment.mounts == [
        api.Mount(source="/dev/fuse", destination="/dev/x", type="bind", options=["bind"])
    ]
    assert rules(adjustment) == [(True, "c", 10, 229, "r")]


def test_node_of_the_same_path_is_a_device_in_a_user_namespace() -> None:
    assert adjusted(node(), container=IN_USER_NAMESPACE).linux.devices


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"major": 1, "minor": 5, "type": "c"},
            "'/dev/null' is c 1:3 on the host",
        ),
        (
            {"path": "/dev/x", "hostPath": "/dev/null", "major": 1, "minor": 5, "type": "c"},
            "'/dev/null' is c 1:3 on the host",
        ),
        (
            {"path": "/dev/x", "major": 1, "minor": 3, "type": "c"},
            "the host has no '/dev/x'",
        ),
    ],
)
def test_node_that_is_not_the_hosts_cannot_be_had_in_a_user_namespace(
    fields: dict[str, Any], fault: str
) -> None:
    path = fields.get("path", "/dev/null")
    assert faults(node(**fields), container=IN_USER_NAMESPACE) == (
        (
            f"device node '{path}': {MOUNTED}, and {fault}; use the device's path on the host,"
            f" or {ADVICE}"
        ),
    )


def test_mode_and_owner_in_a_user_namespace_are_the_hosts() -> None:
    edits = node(fileMode=0o600, uid=0, gid=5)
    resolution = resolved(edits, container=IN_USER_NAMESPACE)
    front = "device node '/dev/null': "
    assert bare(resolution.unsupported) == (
        f"{front}fileMode: {MOUNTED}, with mode 0666; leave fileMode out, or {ADVICE}",
        f"{front}gid: {MOUNTED}, with the host's owner; leave gid out, or {ADVICE}",
    )
    # as a tool writes it down that looks at the host
    assert adjusted(node(fileMode=0o666, uid=0, gid=0), container=IN_USER_NAMESPACE)


def test_node_that_the_host_keeps_closed_is_warned_of_in_a_user_namespace() -> None:
    resolution = resolved(node(path="/dev/sda"), container=IN_USER_NAMESPACE)
    assert bare(resolution.unsupported) == ()
    assert resolution.warnings == (
        (
            f"device '/dev/sda': {MOUNTED} (runc does, crun does not), and its mode 0660 denies"
            " access"
            f" to the container; allow others to open the host's node, or {ADVICE}"
        ),
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["bind", "ro"], ["bind", "ro", "idmap"]),
        (["rbind"], ["rbind", "ridmap"]),
        (["rbind", "idmap"], ["rbind", "idmap"]),
        ([], ["bind", "idmap"]),
    ],
)
def test_mounts_are_mapped_in_a_user_namespace(options: list[str], expected: list[str]) -> None:
    mount = {"hostPath": "/a", "containerPath": "/b", "options": options}
    adjustment = adjusted({"mounts": [mount]}, container=IN_USER_NAMESPACE)
    assert adjustment.mounts[0].options == expected


def test_owner_is_the_containers_user_unless_the_spec_has_one() -> None:
    container = Container(user=api.User(uid=1000, gid=1001))
    device = adjusted(node(gid=0), container=container).linux.devices[0]
    assert (device.uid.value, device.gid.value) == (1000, 0)
    assert device.HasField("gid")
    root = adjusted(node(), container=Container(user=api.User())).linux.devices[0]
    assert not root.HasField("uid")


def test_number_that_the_host_does_not_have_is_warned_of_and_kept() -> None:
    resolution = resolved(node(type="c", major=99, minor=77))
    assert resolution.adjust.linux.devices[0].major == 99
    assert resolution.warnings == (
        "device node '/dev/null' is c 99:77, but '/dev/null' on the host is c 1:3",
    )


def test_all_nodes_that_are_wrong_are_told_together() -> None:
    nodes = [{"path": "/dev/a"}, {"path": "/dev/null", "type": "b"}]
    assert faults({"deviceNodes": nodes}) == (
        "device node '/dev/a': the host has no '/dev/a'",
        "device node '/dev/null': the spec has type b, but '/dev/null' on the host has c",
    )


def test_node_given_twice_is_the_last_one() -> None:
    first, second = node(fileMode=1), node(path="/dev//null", hostPath="/dev/null", fileMode=2)
    adjustment = adjusted(first, second, names=("v.com/d=0", "v.com/d=1"))
    assert [(one.path, one.file_mode.value) for one in adjustment.linux.devices] == [
        ("/dev/null", 2)
    ]

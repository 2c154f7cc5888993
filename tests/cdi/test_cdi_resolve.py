"""From names to adjustments: what NRI carries, what it cannot, and what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi import registry
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.registry import Snapshot
from nri_inject.cdi.resolve import Resolution, resolve
from nri_inject.host.hook_environment import PATH
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.host.nodes import HostFiles

OLD = capabilities.identify("containerd", "1.7.24")
DEVICES = {
    "/dev/null": DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0),
    "/dev/fuse": DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0),
    "/dev/sda": DeviceNode("/dev/sda", "b", 8, 0, 0o660, 0, 6),
    "/run/pipe": DeviceNode("/run/pipe", "p", 0, 0, 0o600, 0, 0),
}


def known(*devices: dict[str, Any], everywhere: dict[str, Any] | None = None) -> Snapshot:
    """Return the snapshot of one file with these edits as devices 0, 1 and so on."""
    return placed(spec(*devices, everywhere=everywhere))


def spec(*devices: dict[str, Any], **more: Any) -> bytes:
    listed = [
        {"name": str(number), "containerEdits": edits} for number, edits in enumerate(devices)
    ]
    document = {"cdiVersion": "1.1.0", "kind": more.get("kind", "v.com/d"), "devices": listed}
    return json.dumps({**document, "containerEdits": more.get("everywhere")}).encode()


def placed(*files: bytes) -> Snapshot:
    read = [
        registry.read(f"/etc/cdi/{number}.json", "/etc/cdi", data)
        for number, data in enumerate(files)
    ]
    return registry.snapshot(["/etc/cdi"], read)


def resolved(
    *devices: dict[str, Any],
    names: tuple[str, ...] = ("v.com/d=0",),
    container: Container | None = None,
    runtime: Runtime = NEWEST,
    everywhere: dict[str, Any] | None = None,
) -> Resolution:
    snapshot = known(*devices, everywhere=everywhere)
    return resolve(names, snapshot, DEVICES, container=container or Container(), runtime=runtime)


def adjusted(*devices: dict[str, Any], **more: Any) -> Adjustment:
    resolution = resolved(*devices, **more)
    assert (resolution.unsupported, resolution.warnings) == ((), ())
    return resolution.adjust


def faults(*devices: dict[str, Any], **more: Any) -> tuple[str, ...]:
    with pytest.raises(CdiError) as caught:
        resolved(*devices, **more)
    return caught.value.faults


def node(**fields: Any) -> dict[str, Any]:
    return {"deviceNodes": [{"path": "/dev/null", **fields}]}


def rules(adjustment: Adjustment) -> list[tuple[bool, str, int, int, str]]:
    return [
        (rule.allow, rule.type, rule.major.value, rule.minor.value, rule.access)
        for rule in adjustment.linux.resources.devices
    ]


# --- environment --------------------------------------------------------------------------------


def test_last_value_of_a_variable_wins_in_the_place_of_the_first() -> None:
    adjustment = adjusted(
        {"env": ["A=1", "B=x=y"]},
        {"env": ["A=2", "C="]},
        names=("v.com/d=0", "v.com/d=1"),
        everywhere={"env": ["B=0"]},
    )
    pairs = [(pair.key, pair.value) for pair in adjustment.env]
    assert pairs == [("B", "x=y"), ("A", "2"), ("C", "")]


def test_name_that_asks_for_a_removal_is_refused() -> None:
    edits = {
        "env": ["-A=1"],
        "deviceNodes": [{"path": "-/dev/null"}],
        "mounts": [{"hostPath": "/a", "containerPath": "-/proc"}],
        "hooks": [{"hookName": "prestart", "path": "-x"}],
        "netDevices": [{"hostInterfaceName": "-e", "name": "a"}],
    }
    ending = "begins with '-', which NRI reads as a removal"
    assert faults(edits) == (
        f"variable '-A' {ending}",
        f"device node '-/dev/null' {ending}",
        f"mount to '-/proc' {ending}",
        f"prestart hook '-x' {ending}",
        f"network device '-e' {ending}",
    )


# --- device nodes -------------------------------------------------------------------------------


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
    assert resolution.unsupported == (
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
    assert resolution.unsupported == (
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
    assert resolution.unsupported == (
        f"{front}fileMode: {MOUNTED}, with mode 0666; leave fileMode out, or {ADVICE}",
        f"{front}gid: {MOUNTED}, with the host's owner; leave gid out, or {ADVICE}",
    )
    # as a tool writes it down that looks at the host
    assert adjusted(node(fileMode=0o666, uid=0, gid=0), container=IN_USER_NAMESPACE)


def test_node_that_the_host_keeps_closed_is_warned_of_in_a_user_namespace() -> None:
    resolution = resolved(node(path="/dev/sda"), container=IN_USER_NAMESPACE)
    assert resolution.unsupported == ()
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


# --- mounts, hooks, network, rdt, groups --------------------------------------------------------


def test_last_mount_of_a_place_wins_however_it_is_written() -> None:
    mounts = [
        {"hostPath": "/a", "containerPath": "/data/", "options": ["bind"]},
        {"hostPath": "/b", "containerPath": "//data", "options": ["rbind", "ro"]},
    ]
    assert adjusted({"mounts": mounts}) == Adjustment(
        mounts=[api.Mount(source="/b", destination="/data", options=["rbind", "ro"])]
    )


def test_mounts_with_propagation_come_after_those_without() -> None:
    mounts = [
        {"hostPath": "/a", "containerPath": "/a", "options": ["rbind", "rslave"]},
        {"hostPath": "/b", "containerPath": "/b", "options": ["bind"]},
        {"hostPath": "tmpfs", "containerPath": "/c", "type": "tmpfs"},
    ]
    found = adjusted({"mounts": mounts}).mounts
    assert [(one.destination, [*one.options]) for one in found] == [
        ("/b", ["bind"]),
        ("/c", []),
        ("/a", ["rbind", "rslave"]),
    ]


def test_hooks_go_to_their_stages_and_those_of_a_file_come_once() -> None:
    def hook(stage: str, path: str, **more: Any) -> dict[str, Any]:
        return {"hookName": stage, "path": path, **more}

    adjustment = adjusted(
        {"hooks": [hook("createRuntime", "/a", args=["a", "b"], env=["A=1"], timeout=3)]},
        {"hooks": [hook("createContainer", "/b")]},
        names=("v.com/d=0", "v.com/d=1", "v.com/d=0"),
        everywhere={"hooks": [hook("poststop", "/all")]},
    )
    assert adjustment.hooks == api.Hooks(
        create_runtime=[
            api.Hook(path="/a", args=["a", "b"], env=["A=1"], timeout=api.OptionalInt(value=3))
        ],
        create_container=[api.Hook(path="/b", env=[PATH])],
        poststop=[api.Hook(path="/all", env=[PATH])],
    )


def test_hook_that_the_runtime_has_put_there_already_is_not_doubled() -> None:
    edits = {"hooks": [{"hookName": "poststop", "path": "/a"}], "env": ["A=1"]}
    for env in ([], [PATH]):  # as the file has it, and as we have put it there
        there = api.Hooks(poststop=[api.Hook(path="/a", env=env)])
        assert not adjusted(edits, container=Container(hooks=there)).HasField("hooks")


def test_network_devices_are_named() -> None:
    devices = [{"hostInterfaceName": "ens1", "name": "net0"}]
    assert adjusted({"netDevices": devices}).linux.net_devices["ens1"].name == "net0"
    lost = resolved({"netDevices": devices}, runtime=OLD).unsupported
    assert lost[0].startswith("network devices ens1: containerd 1.7.24 (NRI 0.6.1) does not")


def test_two_interfaces_of_one_name_are_a_fault() -> None:
    first = {"netDevices": [{"hostInterfaceName": "ens1", "name": "net0"}]}
    second = {"netDevices": [{"hostInterfaceName": "ens2", "name": "net0"}]}
    assert faults(first, second, names=("v.com/d=0", "v.com/d=1")) == (
        "network devices 'ens1' and 'ens2' would both be 'net0'",
    )


def test_interface_that_would_have_two_names_is_a_fault() -> None:
    first = {"netDevices": [{"hostInterfaceName": "ens1", "name": "net0"}]}
    second = {"netDevices": [{"hostInterfaceName": "ens1", "name": "net1"}]}
    assert faults(first, second, names=("v.com/d=0", "v.com/d=1")) == (
        "network device 'ens1' would be both 'net0' and 'net1'",
    )


def test_rdt_replaces_the_containers_and_joins_its_schemata() -> None:
    rdt = {"closID": "gold", "l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50"]}
    found = adjusted({"intelRdt": {**rdt, "enableMonitoring": True}}).linux.rdt
    assert found.remove
    assert found.clos_id.value == "gold"
    assert found.schemata.value == ["L3:0=f", "MB:0=50"]
    assert found.enable_monitoring.value


def test_rdt_class_alone_is_carried_by_old_runtimes() -> None:
    adjustment = adjusted({"intelRdt": {"closID": "gold"}}, runtime=OLD)
    assert adjustment.linux.resources.rdt_class.value == "gold"
    assert resolved({"intelRdt": {"schemata": ["x"]}}, runtime=OLD).unsupported


def test_groups_cannot_be_carried() -> None:
    assert resolved({"additionalGids": [0, 44, 44]}).unsupported == (
        "additionalGids 44: NRI cannot add groups to a container",
    )
    assert adjusted({"additionalGids": [0]}) == Adjustment()


# --- names --------------------------------------------------------------------------------------


def unknown(name: str, snapshot: Snapshot) -> str:
    with pytest.raises(CdiError) as caught:
        resolve([name], snapshot, {})
    assert caught.value.unresolved == (name,)
    return caught.value.faults[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("v.com/d=7", "no CDI device 'v.com/d=7'; known devices of v.com/d: 0"),
        ("v.com/e=0", "no CDI device 'v.com/e=0'; did you mean 'v.com/d=0'?"),
        ("d=0", "no CDI device 'd=0'; expected a name such as vendor.com/class=name"),
        (
            "v.com/d=0,v.com/d=0",
            "no CDI device 'v.com/d=0,v.com/d=0'; list each name as a separate item",
        ),
        ("v.com/d=\x1b[0m", "no CDI device 'v.com/d=\\x1b[0m'; known devices of v.com/d: 0"),
    ],
)
def test_unknown_name_gets_a_hint(name: str, sentence: str) -> None:
    assert unknown(name, known({"env": ["A=1"]})) == sentence


def test_cause_may_be_a_file_in_error_or_a_directory_that_is_missing() -> None:
    bad = registry.read("/etc/cdi/a.json", "/etc/cdi", b"{")
    snapshot = registry.snapshot(["/etc/cdi", "/run/cdi"], [bad], missing=["/run/cdi"])
    sentence = unknown("v.com/d=0", snapshot)
    assert sentence.startswith(
        "no CDI device 'v.com/d=0'; no CDI device is defined; /etc/cdi/a.json has an error: line "
    )
    assert sentence.endswith("; /run/cdi does not exist")


def test_unknown_names_are_kept_in_order_with_repeats() -> None:
    with pytest.raises(CdiError) as caught:
        resolve(["b", "v.com/d=0", "a", "b"], known({"env": ["A=1"]}), {})
    assert caught.value.unresolved == ("b", "a", "b")
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    "container",
    [
        Container(),
        Container(user=api.User(uid=7)),
        Container(user=api.User(gid=7)),
        Container(hooks=api.Hooks(create_runtime=[api.Hook(path="/bin/prepare")])),
        Container(linux=api.LinuxContainer(namespaces=[api.LinuxNamespace(type="user")])),
    ],
)
@pytest.mark.parametrize("runtime", [NEWEST, OLD])
def test_what_was_resolved_for_one_container_does_not_change_what_another_gets(
    container: Container, runtime: Runtime
) -> None:
    hook = {"hookName": "createRuntime", "path": "/bin/prepare"}
    edits = {**node(hostPath="/dev/sda"), "hooks": [hook]}
    known_before = known(edits)
    for other in (Container(), Container(user=api.User(uid=1, gid=1)), container):
        resolve(["v.com/d=0"], known_before, DEVICES, container=other)
    again = resolve(["v.com/d=0"], known_before, DEVICES, container=container, runtime=runtime)
    assert again == resolve(
        ["v.com/d=0"], known(edits), DEVICES, container=container, runtime=runtime
    )


def test_what_a_host_had_yesterday_is_not_given_today() -> None:
    snapshot = known(node())
    assert (
        resolve(["v.com/d=0"], snapshot, DEVICES).adjust.linux.devices[0].file_mode.value == 0o666
    )
    today = {"/dev/null": DEVICES["/dev/null"]._replace(mode=0o600)}
    assert resolve(["v.com/d=0"], snapshot, today).adjust.linux.devices[0].file_mode.value == 0o600
    with pytest.raises(CdiError):
        resolve(["v.com/d=0"], snapshot, {})


def test_who_changes_an_answer_does_not_change_the_next() -> None:
    snapshot = known(node())
    first = resolve(["v.com/d=0"], snapshot, DEVICES)
    first.adjust.linux.devices[0].path = "/dev/other"
    assert resolve(["v.com/d=0"], snapshot, DEVICES).adjust.linux.devices[0].path == "/dev/null"


# --- where a spec's paths lead ------------------------------------------------------------------

EDITS_OF_THE_HOST: dict[str, dict[str, Any]] = {
    "mount to '/in'": {"mounts": [{"hostPath": "/srv/data", "containerPath": "/in"}]},
    "device node '/dev/null'": {"deviceNodes": [{"path": "/dev/null", "hostPath": "/srv/data"}]},
    "createRuntime hook": {"hooks": [{"hookName": "createRuntime", "path": "/srv/data"}]},
}


@pytest.mark.parametrize(("what", "edits"), EDITS_OF_THE_HOST.items())
def test_a_path_of_a_spec_that_others_could_redirect_is_an_error(
    what: str, edits: dict[str, Any]
) -> None:
    nodes = {"/srv/data": DEVICES["/dev/null"]}
    files = {"/srv/data": HostPath("/srv/data", "/srv belongs to user 7, not to root")}
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/d=0"], known(edits), nodes, files=files)
    assert caught.value.faults == (
        f"{what}: others can redirect '/srv/data': /srv belongs to user 7, not to root",
    )


def test_a_hook_of_a_spec_that_others_could_rewrite_is_an_error() -> None:
    files = {
        "/srv/data": HostPath("/srv/data", writable_by="/srv/data can be written by everybody")
    }
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/d=0"], known(EDITS_OF_THE_HOST["createRuntime hook"]), {}, files=files)
    assert caught.value.faults == (
        (
            "createRuntime hook: others can change '/srv/data':"
            " /srv/data can be written by everybody"
        ),
    )


def test_a_start_container_hook_is_a_program_of_the_containers_own() -> None:
    files = {
        "/srv/data": HostPath("/srv/data", writable_by="/srv/data can be written by everybody")
    }
    edits = {"hooks": [{"hookName": "startContainer", "path": "/srv/data"}]}
    adjustment = resolve(["v.com/d=0"], known(edits), {}, files=files).adjust
    assert [hook.path for hook in adjustment.hooks.start_container] == ["/srv/data"]


def test_a_path_of_a_spec_through_a_link_on_procfs_is_an_error() -> None:
    edits = {"mounts": [{"hostPath": "/proc/self/cwd/etc", "containerPath": "/in"}]}
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/d=0"], known(edits), {}, files=HostFiles())
    assert caught.value.faults == (
        (
            "mount to '/in': /proc/self/cwd/etc leads through /proc/self, a link on procfs,"
            " which differs for each process"
        ),
    )


def test_a_path_of_a_spec_keeps_its_text_and_may_be_the_runtimes_to_see() -> None:
    files = {"/lib": HostPath("/usr/lib")}
    edits = {
        "mounts": [
            {"hostPath": "/lib", "containerPath": "/in"},
            {"hostPath": "/not/seen/from/here", "containerPath": "/other"},
        ]
    }
    adjustment = resolve(["v.com/d=0"], known(edits), {}, files=files).adjust
    assert [mount.source for mount in adjustment.mounts] == ["/lib", "/not/seen/from/here"]

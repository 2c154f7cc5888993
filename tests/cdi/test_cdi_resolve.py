"""From names to adjustments: what NRI carries, what it cannot, and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from support.resolving import DEVICES, OLD, adjusted, bare, faults, known, node, resolved

from nri_inject import api
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi import registry
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.registry import Snapshot
from nri_inject.cdi.resolve import resolve
from nri_inject.host.hook_environment import PATH
from nri_inject.host.model import HostPath
from nri_inject.host.nodes import HostFiles

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
    assert bare(lost)[0].startswith("network devices ens1: containerd 1.7.24 (NRI 0.6.1) does not")


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
    assert bare(caught.value.faults) == (
        f"{what}: others can redirect '/srv/data': /srv belongs to user 7, not to root",
    )


def test_a_hook_of_a_spec_that_others_could_rewrite_is_an_error() -> None:
    files = {
        "/srv/data": HostPath("/srv/data", writable_by="/srv/data can be written by everybody")
    }
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/d=0"], known(EDITS_OF_THE_HOST["createRuntime hook"]), {}, files=files)
    assert bare(caught.value.faults) == (
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
    assert bare(caught.value.faults) == (
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

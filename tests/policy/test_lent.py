"""What is not believed of the host where a policy lets containers write.

Root in such a container is root to the host's files as well, so their owner does not tell.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import registry
from nri_inject.errors import ConfigError, RequestError
from nri_inject.hooks.definition import Definition, When
from nri_inject.hooks.match import Choices
from nri_inject.host.model import DeviceNode, HostPath, Number
from nri_inject.host.nodes import HostFiles
from nri_inject.injectors import cdi, hooks
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.source import PolicyFile
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.environment import Environment

POD = Pod(namespace="ci", name="evil")
CONTAINER = Container(name="main")
IN_USER_NAMESPACE = Container(name="main")
IN_USER_NAMESPACE.linux.namespaces.add(type="user")
MEM = ("c", 1, 1)
LENT = "{allow: {mounts: [{source: /srv/data, access: rw}]}}"


def permit(rules: str, container: Container = CONTAINER) -> Permit:
    return Permit(document.read(f"rules: [{rules}]", "policy"), POD, container, "10-injector")


def node(path: str, number: Number, **more: object) -> DeviceNode:
    kind, major, minor = number
    given = {"real": path, **more}
    return DeviceNode(path, kind, major, minor, 0o600, 0, 0, **given)  # type: ignore[arg-type]  # c or b


def wanted(path: str, number: Number) -> Adjustment:
    kind, major, minor = number
    asked = api.LinuxDevice(path=path, type=kind, major=major, minor=minor)
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[asked]))


def verdict(rules: str, asked: Adjustment, host: Host, container: Container = CONTAINER) -> str:
    judged = permit(rules, container)
    try:
        judged.filter(asked, host)
    except RequestError as error:
        return "; ".join(error.faults)
    return "allowed"


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "more", "where"),
    [
        ("/srv/data/x", {}, "'/srv/data/x' lies in '/srv/data'"),
        ("/srv/data/x", {"real": "/dev/mem"}, "'/srv/data/x' lies in '/srv/data'"),
        ("/srv/x", {"real": "/srv/data/y"}, "'/srv/data/y' lies in '/srv/data'"),
        (
            "/srv/x",
            {"real": "/dev/mem", "links": ("/srv/x", "/srv/data/deep/y")},
            "'/srv/data/deep/y' lies in '/srv/data'",
        ),
    ],
    ids=["a node", "a link", "a link to a node", "a link on the way"],
)
def test_a_device_that_a_container_could_have_put_there(
    path: str, more: Mapping[str, object], where: str
) -> None:
    host = Host({path: node(path, MEM, **more)}, numbers={MEM: ("/dev/mem",)})
    rules = "{allow: {devices: ['/srv/**', /dev/mem]}}"
    assert verdict(rules, wanted(path, MEM), host) == "allowed"
    told = verdict(f"{LENT}, {rules}", wanted(path, MEM), host)
    assert told.partition(": ")[2] == (
        f"the identity of the host's '{path}' is uncertain: {where},"
        " where containers may write and replace it with a link"
    )


USB = "/dev/bus/usb/001/002"
USB_LENT = "{allow: {mounts: [{source: /dev/bus/usb, access: rw}]}}"
USB_ALLOWED = "{allow: {devices: ['/dev/bus/usb/*/*']}}"
STICK = ("c", 189, 1)


def test_a_device_that_the_kernel_calls_so_is_believed_where_containers_may_write() -> None:
    host = Host({USB: node(USB, STICK)}, numbers={STICK: (USB,)})
    assert verdict(f"{USB_LENT}, {USB_ALLOWED}", wanted(USB, STICK), host) == "allowed"
    fake = Host({USB: node(USB, MEM)}, numbers={MEM: ("/dev/mem",)})
    told = verdict(f"{USB_LENT}, {USB_ALLOWED}", wanted(USB, MEM), fake)
    assert f"'{USB}' lies in '/dev/bus/usb'" in told


def test_in_a_user_namespace_the_path_counts_and_so_nothing_is_believed_there() -> None:
    """The runtime mounts what it finds at the path by then."""
    host = Host({USB: node(USB, STICK)}, numbers={STICK: (USB,)})
    rules = f"{USB_LENT}, {USB_ALLOWED}"
    told = verdict(rules, wanted(USB, STICK), host, IN_USER_NAMESPACE)
    assert f"'{USB}' lies in '/dev/bus/usb'" in told
    empty = Host({}, numbers={STICK: (USB,)})
    told = verdict(rules, wanted(USB, STICK), empty, IN_USER_NAMESPACE)
    assert told.endswith("does not exist, and containers may put files in '/dev/bus/usb'")
    assert verdict(rules, wanted(USB, STICK), empty) == "allowed"


# --- mounts -------------------------------------------------------------------------------------


def mounted(source: str) -> Adjustment:
    asked = api.Mount(source=source, destination="/in", type="bind", options=["ro"])
    return Adjustment(mounts=[asked])


def test_a_source_behind_a_link_that_a_container_could_have_put_there() -> None:
    place = HostPath("/srv/models", links=("/srv/data/link",))
    host = Host({}, files={"/srv/data/link": place})
    told = verdict(f"{LENT}, {{allow: {{mounts: [/srv]}}}}", mounted("/srv/data/link"), host)
    assert told.endswith(
        "others can redirect its source: the link '/srv/data/link' lies in '/srv/data',"
        " where containers may write and replace it with a link"
    )


@pytest.mark.parametrize("key", ["upperdir", "workdir"])
def test_a_source_inside_of_what_an_option_lets_containers_write(key: str) -> None:
    rule = f"{{type: overlay, access: rw, options: ['{key}=/srv/up']}}"
    host = Host({}, files={"/srv/up/x": HostPath("/srv/up/x")})
    told = verdict(f"{{allow: {{mounts: [{rule}, /srv]}}}}", mounted("/srv/up/x"), host)
    assert "it lies in '/srv/up', where containers may write" in told


def test_the_links_of_a_path_are_those_on_its_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/end").touch()
    (tmp_path / "one").symlink_to("a")
    (tmp_path / "a/two").symlink_to("end")
    files = HostFiles(str(tmp_path))
    assert files["/one/two"].links == ("/one", "/a/two")
    assert files["/a/end"].links == ()


# --- what the node's admin has written ----------------------------------------------------------


def spec(edits: Mapping[str, object]) -> registry.Snapshot:
    text = {"cdiVersion": "0.6.0", "kind": "v.com/d"}
    device = {"name": "a", "containerEdits": {"env": ["A=1"], **edits}}
    data = json.dumps({**text, "devices": [device]}).encode()
    return registry.snapshot(["/opt/cdi"], [registry.read("/opt/cdi/a.json", "/opt/cdi", data)])


PATHS = ["/opt/cdi/a.json", "/opt/lib/x", "/opt/bin/hook", "/opt/dev/mem"]
OWN = Host(
    {"/opt/dev/mem": node("/opt/dev/mem", MEM)},
    numbers={MEM: ("/dev/mem",)},
    files={path: HostPath(path) for path in PATHS},
)


@pytest.mark.parametrize(
    ("lent", "edits", "fault"),
    [
        (
            "/opt/cdi",
            {},
            (
                "CDI spec '/opt/cdi/a.json': others can redirect '/opt/cdi/a.json': it lies"
                " in '/opt/cdi', where containers may write and replace it with a link"
            ),
        ),
        (
            "/opt/cdi/a.json",
            {},
            (
                "CDI spec '/opt/cdi/a.json': others can change '/opt/cdi/a.json': containers may"
                " write '/opt/cdi/a.json'"
            ),
        ),
        (
            "/opt/lib",
            {"mounts": [{"hostPath": "/opt/lib/x", "containerPath": "/x"}]},
            "mount to '/x': others can redirect '/opt/lib/x': it lies in '/opt/lib'",
        ),
        (
            "/opt/bin",
            {"hooks": [{"hookName": "createContainer", "path": "/opt/bin/hook"}]},
            "createContainer hook: others can redirect '/opt/bin/hook': it lies in '/opt/",
        ),
        (
            "/opt/bin/hook",
            {"hooks": [{"hookName": "createContainer", "path": "/opt/bin/hook"}]},
            "createContainer hook: others can change '/opt/bin/hook': containers may write",
        ),
        (
            "/opt/dev",
            {"deviceNodes": [{"path": "/dev/x", "hostPath": "/opt/dev/mem"}]},
            "device node '/dev/x': others can redirect '/opt/dev/mem': it lies in '/opt/",
        ),
    ],
)
def test_a_cdi_device_with_something_that_containers_could_rewrite(
    lent: str, edits: Mapping[str, object], fault: str
) -> None:
    pod = Pod(namespace="ci", name="p", annotations={"cdi-devices.noderesource.dev": "[v.com/d=a]"})
    named = "{allow: {cdi_devices: ['*/*']}}"
    host = dataclasses.replace(OWN, cdi=spec(edits))
    sound = dataclasses.replace(host, permit=permit(named))
    assert cdi.inject(pod, CONTAINER, sound).env
    rules = f"{named}, {{allow: {{mounts: [{{source: {lent}, access: rw}}]}}}}"
    guarded = dataclasses.replace(host, permit=permit(rules))
    with pytest.raises(RequestError) as caught:
        cdi.inject(pod, CONTAINER, guarded)
    (told,) = caught.value.faults
    place = "annotation cdi-devices.noderesource.dev: CDI device 'v.com/d=a' of /opt/cdi/a.json"
    assert told.startswith(f"{place}: {fault}")
    assert cdi.make_injector(unsafe=True)(pod, CONTAINER, guarded).env


@pytest.mark.parametrize(
    ("lent", "why"),
    [
        ("/opt/hooks", "others can change '/opt/hooks/a.json': it lies in '/opt/hooks'"),
        ("/opt/bin/hook", "others can change '/opt/bin/hook': containers may write"),
        ("'/opt/**'", "others can change '/opt/hooks/a.json': it lies in '/opt/hooks'"),
    ],
)
def test_a_hook_that_containers_could_rewrite(lent: str, why: str) -> None:
    hook = Definition(
        "/opt/bin/hook", when=When(always=True), stages=("poststart",), file="/opt/hooks/a.json"
    )
    files = {path: HostPath(path) for path in ("/opt/bin/hook", "/opt/hooks/a.json")}
    rules = f"{{allow: {{mounts: [{{source: {lent}, access: rw}}]}}}}"
    warnings: list[str] = []
    host = Host({}, files=files, hooks=(hook,), permit=permit(rules), warn=warnings.append)
    assert hooks.inject(POD, CONTAINER, host) == Adjustment()
    (told,) = warnings
    assert told.startswith(f"left out: hook /opt/hooks/a.json cannot be run: {why}")
    failing = hooks.injector(Choices(unusable_program="fail"))
    with pytest.raises(RequestError, match="cannot be run: others can change"):
        failing(POD, CONTAINER, host)
    unsafe = hooks.injector(Choices(), unsafe=True)
    assert unsafe(POD, CONTAINER, host).hooks.poststart
    elsewhere = dataclasses.replace(host, permit=permit(LENT))
    assert hooks.inject(POD, CONTAINER, elsewhere).hooks.poststart


@pytest.mark.parametrize(
    ("stage", "lent", "told"),
    [
        ("create_runtime", "/opt/bin", "others can change it: it lies in '/opt/bin', where"),
        (
            "poststop",
            "/opt/bin/hook",
            "others can change it: containers may write '/opt/bin/hook'",
        ),
        ("start_container", "/opt/bin", "allowed"),
        ("create_runtime", "/srv", "allowed"),
    ],
)
def test_a_hook_of_another_plugin_whose_program_containers_could_rewrite(
    stage: str, lent: str, told: str
) -> None:
    host = Host({}, files={"/opt/bin/hook": HostPath("/opt/bin/hook")})
    hooks = api.Hooks(**{stage: [api.Hook(path="/opt/bin/hook")]})
    rules = f"{{allow: {{hooks: ['/opt/bin/*'], mounts: [{{source: {lent}, access: rw}}]}}}}"
    assert told in verdict(rules, Adjustment(hooks=hooks), host)


def lending(place: Path | str) -> str:
    return f"rules: [{{name: free, allow: {{mounts: [{{source: {place}, access: rw}}]}}}}]"


def test_a_policy_that_lets_containers_write_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "policy.yaml"
    file.write_text(lending("/srv"))
    source = PolicyFile(str(file))
    try:
        assert source.error == ""
        for place in (tmp_path, tmp_path.parent, file, f"'{tmp_path}/*'"):
            file.write_text(lending(place))
            assert source.current().lent.at("/srv") == "/srv"
            assert source.error.startswith(
                f"{file}: a rule for mounts lets containers write {file}, on which the policy"
                " depends: "
            )
    finally:
        source.close()


def test_a_policy_that_lets_containers_write_the_configuration_that_names_it(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    for name in ("policy", "config"):
        (tmp_path / name).mkdir(mode=0o755)
    file, config = tmp_path / "policy/p.yaml", tmp_path / "config/c.yaml"
    config.touch()
    file.write_text(lending(config.parent))
    source = PolicyFile(str(file), beside=[str(config)])
    unasked = PolicyFile(str(file), beside=[str(config)], unsafe=True)
    try:
        assert f"lets containers write {config}, on which the policy depends" in source.error
        assert source.current().trouble
        assert unasked.error == ""
    finally:
        source.close()
        unasked.close()


def test_a_file_that_only_the_plugins_container_has_is_not_the_hosts(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "policy.yaml"
    file.write_text(lending(tmp_path))
    root = tmp_path / "host"
    (root / str(tmp_path)[1:]).mkdir(parents=True)
    source = PolicyFile(str(file), root=str(root))
    try:
        assert source.error == ""
        os.link(file, root / str(file)[1:])
        file.write_text(lending(tmp_path) + "\n")
        source.current()
        assert "lets containers write" in source.error
    finally:
        source.close()


def test_rules_in_the_configuration_that_let_containers_write_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "config.yaml"
    file.touch()
    rules = document.read(lending(tmp_path), "this node's policy")
    environment = Environment(
        (), Options(idx="10", name="x", config=str(file)), Config(policy=rules)
    )
    with pytest.raises(ConfigError, match="this node's policy: a rule for mounts lets containers"):
        environment.configure(api.ConfigureRequest())
    free = Config(policy=rules, unsafe_files=True, audit="off")
    unasked = Environment((), Options(idx="10", name="x", config=str(file)), free)
    unasked.configure(api.ConfigureRequest())
    unasked.close()

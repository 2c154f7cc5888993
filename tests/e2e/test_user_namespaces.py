"""Devices in a user namespace on real OCI runtimes: what is promised is what a container has."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import real_host
from nri_inject.runtime.apply import apply

from .archive import Archive
from .conftest import NewContainerd
from .cri import CriError
from .daemon import Daemon
from .oci_runtimes import FIRST_ID, OciRuntime
from .plugin import External
from .test_device_access import of_cdi, opened

NODE = Path("/dev/nri-e2e-node")
USER = 1000
FUSE = {"type": "c", "major": 10, "minor": 229}


@pytest.fixture(autouse=True)
def node() -> Iterator[None]:
    """Make a node of /dev/fuse's number that everybody may open, where hosts have theirs."""
    NODE.unlink(missing_ok=True)
    os.mknod(NODE, stat.S_IFCHR, os.makedev(10, 229))
    NODE.chmod(0o666)
    yield
    NODE.unlink()


def container(*, user_namespace: bool) -> Container:
    namespaces = [api.LinuxNamespace(type="user")] if user_namespace else []
    return Container(
        name="main",
        user=api.User(uid=USER, gid=USER),
        linux=api.LinuxContainer(namespaces=namespaces),
    )


def asked(wish: Mapping[str, Any], *, user_namespace: bool) -> tuple[Adjustment, list[str]]:
    """Return what an item of an annotation becomes, and what the log says of it."""
    pod = Pod(annotations={"devices.noderesource.dev/pod": json.dumps([wish])})
    told: list[str] = []
    host = replace(real_host(), warn=told.append)
    return inject(pod, container(user_namespace=user_namespace), host), told


def shown(oci: OciRuntime, adjustment: Adjustment, path: str, *, user_namespace: bool) -> str:
    """Return type, number, mode and owner of a node as the container sees it."""
    spec = apply(oci.spec(user_namespace=user_namespace), adjustment)
    done = oci.run(spec, f"busybox stat -c '%F %t:%T %a %u:%g' {path}")
    return done.stdout.strip() or done.stderr.strip()


# What an item asks for, where the device is in the container, and how it looks there.
KEPT: dict[str, tuple[dict[str, Any], str]] = {
    "path": ({"path": str(NODE)}, "a:e5 666"),
    "path and numbers": ({"path": str(NODE), **FUSE}, "a:e5 666"),
    "the host's mode": ({"path": str(NODE), "file_mode": 0o666}, "a:e5 666"),
    "selector": ({"device": str(NODE)}, "a:e5 666"),
}
REFUSED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another mode": (
        *({"path": str(NODE), "file_mode": 0o640}, str(NODE), "a:e5 640 0:0"),
        "file_mode: {}, with mode 0666; leave file_mode out, or {}",
    ),
    "uid": (
        *({"path": str(NODE), "uid": USER}, str(NODE), f"a:e5 666 {USER}:0"),
        "uid: {}, with the host's owner; leave uid out, or {}",
    ),
    "owner": (
        *({"path": str(NODE), "owner": "container"}, str(NODE), f"a:e5 666 {USER}:{USER}"),
        "owner: {}, with the host's owner; leave owner out, or {}",
    ),
    "another path": (
        *({"device": str(NODE), "as": "/dev/mine"}, "/dev/mine", "a:e5 666 0:0"),
        "{}, and '/dev/mine' does not exist on the host; use the device's path on the host, or {}",
    ),
    "another device": (
        *({"path": "/dev/full", **FUSE, "file_mode": 0o666}, "/dev/full", "a:e5 666 0:0"),
        "{}, and '/dev/full' is c 1:7 on the host; use the device's path on the host, or {}",
    ),
}
MOUNTED = "in a user namespace the runtime may mount the host's node as it is"
ADVICE = "set hostUsers: true in the pod"


@pytest.mark.parametrize("user_namespace", [False, True], ids=["host's users", "own users"])
@pytest.mark.parametrize("name", KEPT)
def test_the_hosts_own_node_is_there_as_on_the_host(
    oci: OciRuntime, name: str, user_namespace: bool
) -> None:
    wish, looks = KEPT[name]
    adjustment, told = asked(wish, user_namespace=user_namespace)
    there = shown(oci, adjustment, str(NODE), user_namespace=user_namespace)
    assert there.startswith(f"character special file {looks}")
    spec = apply(oci.spec(user_namespace=user_namespace, user=USER), adjustment)
    assert opened(oci, spec, [str(NODE)]) == {str(NODE): {"r", "w", "rw"}}
    assert told == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_not_every_runtime_does_fails_with_what_to_do(name: str) -> None:
    wish, _, _, sentence = REFUSED[name]
    with pytest.raises(RequestError) as caught:
        asked(wish, user_namespace=True)
    front = "annotation devices.noderesource.dev/pod: item 1: "
    assert caught.value.faults == (front + sentence.format(MOUNTED, ADVICE),)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_there_with_the_hosts_users(oci: OciRuntime, name: str) -> None:
    wish, path, looks, _ = REFUSED[name]
    adjustment, _ = asked(wish, user_namespace=False)
    there = shown(oci, adjustment, path, user_namespace=False)
    assert there == f"character special file {looks}"


@pytest.mark.parametrize("name", REFUSED)
def test_in_a_user_namespace_runc_would_have_given_something_else(
    oci_programs: Mapping[str, Path], archive: Archive, name: str
) -> None:
    """If this fails, runc has learned it, and less needs to be refused."""
    wish, path, looks, _ = REFUSED[name]
    adjustment, _ = asked(wish, user_namespace=False)
    runc = OciRuntime(oci_programs["new-runc"], archive.busybox, "v2")
    assert looks not in shown(runc, adjustment, path, user_namespace=True)


def test_a_node_that_the_host_keeps_closed_is_there_and_warned_of(oci: OciRuntime) -> None:
    NODE.chmod(0o600)
    adjustment, told = asked({"path": str(NODE)}, user_namespace=True)
    there = shown(oci, adjustment, str(NODE), user_namespace=True)
    assert there.startswith("character special file a:e5 600 ")
    assert told == [
        (
            f"annotation devices.noderesource.dev/pod: device '{NODE}': {MOUNTED} (runc does, crun"
            " does not), and its mode 0600 denies access"
            f" to the container; allow others to open the host's node, or {ADVICE}"
        )
    ]


@pytest.mark.parametrize("access", ["r", "w"])
def test_access_is_kept_in_a_user_namespace(oci: OciRuntime, access: str) -> None:
    adjustment, _ = asked({"path": str(NODE), "access": access}, user_namespace=True)
    spec = apply(oci.spec(user_namespace=True), adjustment)
    assert opened(oci, spec, [str(NODE)]) == {str(NODE): {access}}


@pytest.mark.parametrize("permissions", ["r", "rw"])
def test_a_cdi_node_of_another_path_is_there_in_a_user_namespace(
    oci: OciRuntime, tmp_path: Path, permissions: str
) -> None:
    node = {"path": "/dev/part", "hostPath": str(NODE), "permissions": permissions}
    adjustment = of_cdi(tmp_path, {"deviceNodes": [node]}, container(user_namespace=True))
    spec = apply(oci.spec(user_namespace=True, user=USER), adjustment)
    expected = {"r"} if permissions == "r" else {"r", "w", "rw"}
    assert opened(oci, spec, ["/dev/part"]) == {"/dev/part": expected}


# --- with a daemon ------------------------------------------------------------------------------


def test_a_pod_with_a_user_namespace_is_known_below_a_daemon(
    new_containerd: NewContainerd, oci_programs: Mapping[str, Path], tmp_path: Path
) -> None:
    daemon = new_containerd(handlers=oci_programs, cgroups="v2", own_network=True)
    daemon.start()
    log = tmp_path / "plugin.log"
    with closing(External("nri-device-injector", daemon, log, "--policy", "unrestricted")):
        for handler in ("new-runc", "new-crun"):
            container = run_in_user_namespace(daemon, handler, {"path": str(NODE)})
            shown = daemon.cri.exec(container, "sh", "-c", f"stat -c '%t:%T %a' {NODE}; id -u")
            assert shown.stdout == "a:e5 666\n0\n"
            assert daemon.cri.exec(container, "sh", "-c", f"exec 3<>{NODE}").exit_code == 0
            owned = {"path": str(NODE), "owner": "container"}
            with pytest.raises(CriError, match=f"owner: {MOUNTED}"):
                run_in_user_namespace(daemon, handler, owned)


def run_in_user_namespace(daemon: Daemon, handler: str, wish: Mapping[str, Any]) -> str:
    """Run a container with users of its own, and return its id."""
    ids = [{"host_id": FIRST_ID, "container_id": 0, "length": 65536}]
    users = {"mode": "POD", "uids": ids, "gids": ids}
    options = {"network": "POD", "pid": "CONTAINER", "userns_options": users}
    security = {"security_context": {"namespace_options": options}}
    pod = daemon.cri.run_pod(
        "users",
        annotations={"devices.noderesource.dev/container.main": json.dumps([wish])},
        linux=security,
        handler=handler,
    )
    return daemon.cri.run(pod, "main", linux=security)

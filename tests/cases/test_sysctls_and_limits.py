"""Cases 14 and 30: settings that no container has for itself, limits and mounts of other tools."""

from __future__ import annotations

import pytest
from annotating import advised, ask, faults
from hypothesis import given
from hypothesis import strategies as st

from nri_inject import api
from nri_inject.api import Pod
from nri_inject.text import yamltext

NODES = [
    *("vm.max_map_count", "vm.swappiness", "fs.file-max", "fs.inotify.max_user_watches"),
    *("kernel.pid_max", "kernel.core_pattern", "kernel.threads-max", "dev.tty.ldisc_autoload"),
    *("vm/max_map_count", "fs/inotify/max_user_instances", "kernel.perf_event_paranoid"),
]
OWN = [
    *("net.core.somaxconn", "net/ipv4/ip_forward", "net.ipv4.conf.eth0/1.rp_filter"),
    *("kernel.shmmax", "kernel.sem", "kernel.shm_rmid_forced", "kernel.msgmnb"),
    *("fs.mqueue.msg_max", "kernel.domainname", "kernel/shmall"),
]


@pytest.mark.parametrize("name", NODES)
def test_a_setting_of_the_whole_node_is_refused(name: str) -> None:
    (sentence,) = faults("sysctl", f"{name}: '1'")
    assert sentence.startswith(
        f"{name!r} is a setting of the whole node, and no container has its own: the admin sets it"
        " on the node"
    )


@pytest.mark.parametrize("name", OWN)
def test_a_setting_of_the_containers_own_is_given(name: str) -> None:
    assert ask("sysctl", f"{name}: '1'").linux.sysctl == {name: "1"}


def pod(*namespaces: str, handler: str = "") -> Pod:
    kinds = [api.LinuxNamespace(type=kind) for kind in namespaces]
    linux = api.LinuxPodSandbox(namespaces=kinds)
    return Pod(namespace="ns", name="p", linux=linux, runtime_handler=handler)


def test_the_nodes_network_is_no_containers() -> None:
    assert faults("sysctl", "net.core.somaxconn: '1'", pod("pid", "ipc")) == [
        (
            "'net.core.somaxconn' is a setting of the node's network, which the pod uses"
            " (hostNetwork: true): the admin sets it on the node"
        )
    ]
    assert ask("sysctl", "kernel.shmmax: '1'", pod("pid", "ipc")).linux.sysctl
    assert ask("sysctl", "net.core.somaxconn: '1'", pod("pid", "network")).linux.sysctl


def test_a_container_of_kata_has_a_kernel_of_its_own() -> None:
    assert ask("sysctl", "vm.max_map_count: '1'", pod(handler="kata-qemu")).linux.sysctl


MAPS = {
    "net.core.somaxconn=1024": '{net.core.somaxconn: "1024"}',
    "- net.core.somaxconn=1024": '{net.core.somaxconn: "1024"}',
    "- {name: net.core.somaxconn, value: '1024'}": '{net.core.somaxconn: "1024"}',
    "somaxconn: '1'": "net.core.somaxconn",
}


@pytest.mark.parametrize("text", MAPS)
def test_sysctls_as_others_write_them_are_told_ours(text: str) -> None:
    assert advised(faults("sysctl", text)) == MAPS[text]


# --- limits ---------------------------------------------------------------------------------------

HARD = "hard is missing; soft is what holds at first, hard the most of it"


@pytest.mark.parametrize("text", ["{type: nofile, soft: 65536}", "{type: memlock}"])
def test_a_limit_without_hard_says_that_it_is_missing(text: str) -> None:
    assert faults("ulimits", f"- {text}") == [f"item 1: {HARD}"]


UNLIMITED = 2**64 - 1
LIMITS = {
    "- nofile=65536": "{type: NOFILE, soft: 65536, hard: 65536}",
    "- nofile=1024:2048": "{type: NOFILE, soft: 1024, hard: 2048}",
    "- --ulimit memlock=-1:-1": f"{{type: MEMLOCK, soft: {UNLIMITED}, hard: {UNLIMITED}}}",
    "nofile=1024:2048": "[{type: NOFILE, soft: 1024, hard: 2048}]",
    "nofile: {soft: 1, hard: 2}": "[{type: NOFILE, soft: 1, hard: 2}]",
    "memlock: -1": f"[{{type: MEMLOCK, soft: {UNLIMITED}, hard: {UNLIMITED}}}]",
    "{type: nofile, soft: 1, hard: 1}": "[{type: nofile, soft: 1, hard: 1}]",
    "- {Name: nofile, Soft: 1, Hard: 1}": "{type: nofile, soft: 1, hard: 1}",
}


@pytest.mark.parametrize("text", LIMITS)
def test_limits_as_others_write_them_are_told_ours(text: str) -> None:
    written = advised(faults("ulimits", text))
    assert written == LIMITS[text]
    assert ask("ulimits", written if written[0] == "[" else f"[{written}]").rlimits


limits = st.sampled_from(["nofile", "memlock", "core", "nproc", "stack"])
numbers = st.integers(0, 2**32)


@given(limits, numbers, numbers)
def test_any_option_of_docker_leads_to_the_limit_that_means_it(
    name: str, one: int, other: int
) -> None:
    soft, hard = sorted((one, other))
    (given_limit,) = ask(
        "ulimits", f"[{advised(faults('ulimits', f'- {name}={soft}:{hard}'))}]"
    ).rlimits
    assert (given_limit.type, given_limit.soft, given_limit.hard) == (
        f"RLIMIT_{name.upper()}",
        soft,
        hard,
    )


# --- mounts ---------------------------------------------------------------------------------------

MOUNTS = {
    "- /data:/srv:ro": ("/data", "/srv", "ro"),
    "- -v /data:/srv": ("/data", "/srv", "rw"),
    "/data:/srv": ("/data", "/srv", "rw"),
    "- {hostPath: /data, mountPath: /srv, readOnly: true}": ("/data", "/srv", "ro"),
    "- {source: /data, target: /srv, type: bind}": ("/data", "/srv", "rw"),
    "- {source: /data, target: /srv, read_only: true}": ("/data", "/srv", "ro"),
    "- {src: /data, dst: /srv, readonly: false}": ("/data", "/srv", "rw"),
}


@pytest.mark.parametrize("text", MOUNTS)
def test_mounts_as_others_write_them_are_told_ours(text: str) -> None:
    written = yamltext.load(advised(faults("mounts", text)))
    source, destination, access = MOUNTS[text]
    item = {
        "source": source,
        "destination": destination,
        "type": "bind",
        "options": ["rbind", access],
    }
    assert written in (item, [item])

"""What an attacker tries, and what holds it off; docs/security.md has the table.

Where it matters what a path is, the host is the real one, with /dev/null allowed or /dev/full
denied: everybody has those, and it takes no privilege to link to them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.device_rules import Rule

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import registry
from nri_inject.errors import RequestError
from nri_inject.host import sight
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.host.nodes import Remembered
from nri_inject.host.sight import Mounted, Sight
from nri_inject.injectors import cdi
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host, real_host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

CONTAINER = Container(name="main")


def permit(rules: str) -> Permit:
    policy = document.read(f"rules: [{rules}]", "policy")
    return Permit(policy, Pod(namespace="ci", name="evil"), CONTAINER, "10-injector")


def annotated(kind: str, text: str, rules: str, host: Host | None = None) -> Adjustment:
    """Return what a pod gets that asks in an annotation, RequestError if that is nothing."""
    pod = Pod(name="evil", namespace="ci", annotations={f"{kind}.noderesource.dev": text})
    return inject(pod, CONTAINER, dataclasses.replace(host or real_host(), permit=permit(rules)))


def refusal(kind: str, text: str, rules: str, host: Host | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        annotated(kind, text, rules, host)
    return "; ".join(caught.value.faults)


def refused(adjustment: Adjustment, rules: str, host: Host | None = None) -> str:
    """Return why another plugin may not give this, whose spelling no reader of ours has seen."""
    with pytest.raises(RequestError) as caught:
        permit(rules).filter(adjustment, host or real_host())
    return "; ".join(caught.value.faults)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory that only we can write, and nobody can lead elsewhere."""
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    return place


def device(path: str, minor: int, *, major: int = 1, kind: str = "c") -> Adjustment:
    asked = api.LinuxDevice(path=path, type=kind, major=major, minor=minor)
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[asked]))


NULL_ALLOWED = "{name: bin, allow: {devices: [/dev/null]}}"
FULL_DENIED = "{name: never, deny: {devices: [/dev/full]}}, {allow: {devices: ['/**']}}"
IS_DENIED = "rule 'never' of policy denies it"


# --- devices ------------------------------------------------------------------------------------


def test_a_fake_number_under_an_allowed_name() -> None:
    text = "[{path: /dev/null, type: c, major: 1, minor: 7}]"
    expected = "the host's '/dev/null' is c 1:3, another device"
    assert refusal("devices", text, NULL_ALLOWED).endswith(expected)
    as_disk = "[{path: /dev/null, type: b, major: 8, minor: 0}]"
    assert refusal("devices", as_disk, NULL_ALLOWED).endswith(expected)


def test_dots_that_climb_out_of_an_allowed_directory(place: Path) -> None:
    (place / "dev").mkdir()
    climbing = f"{place}/dev/../../../../../../../../dev/full"
    rules = f"{{allow: {{devices: ['{place}/**']}}}}"
    assert "has a '..' in it" in refusal("devices", f"[{{path: {climbing}}}]", rules)
    assert "no rule of policy allows it" in refused(device(climbing, 7), rules)


@pytest.mark.parametrize("path", ["//dev/full", "/dev//full", "/./dev/full", "/dev/../dev/full"])
def test_an_odd_spelling_of_a_denied_device(path: str) -> None:
    assert refused(device(path, 7), FULL_DENIED).endswith(IS_DENIED)


def test_a_link_of_an_allowed_name_to_a_denied_device(place: Path) -> None:
    (place / "harmless").symlink_to("/dev/full")
    asked = f"[{{path: {place}/harmless}}]"
    assert refusal("devices", asked, FULL_DENIED).endswith(IS_DENIED)


def test_a_denied_device_by_its_number_at_another_path(place: Path) -> None:
    asked = f"[{{path: {place}/other, type: c, major: 1, minor: 7}}]"
    assert refusal("devices", asked, FULL_DENIED).endswith(IS_DENIED)


def test_a_link_in_a_directory_that_others_can_write(place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to("/dev/null")
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {shared}/link}}]"
    assert refusal("devices", asked, rules).endswith("can be written by everybody (mode 0777)")


def test_a_device_at_a_path_of_the_host_that_the_plugin_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a user namespace runc would mount what the host has there."""
    (tmp_path / "dev").mkdir()
    seen = Sight([Mounted("/", "/"), Mounted(f"{tmp_path}/dev", "/")])
    monkeypatch.setattr(sight, "current", lambda: seen)
    host = dataclasses.replace(real_host(root=str(tmp_path)), numbers={("c", 1, 3): ("/dev/null",)})
    rules = "{allow: {devices: ['/**']}}"
    asked = "[{path: /etc/shadow, type: c, major: 1, minor: 3}]"
    expected = "on the host '/etc/shadow' is not visible to the plugin"
    assert expected in refusal("devices", asked, rules, host)
    beside = "[{path: /dev/other, type: c, major: 1, minor: 3}]"
    assert annotated("devices", beside, rules, host).linux.devices[0].path == "/dev/other"


def test_a_block_device_under_a_harmless_name() -> None:
    disk = DeviceNode("/dev/harmless", "b", 8, 0, 0o660, 0, 6, "/dev/harmless")
    host = Host({disk.path: disk}, numbers={disk.number: ("/dev/sda",)})
    rules = "{name: wide, allow: {devices: ['/dev/*']}}"
    told = refusal("devices", "[{path: /dev/harmless}]", rules, host)
    assert "rule 'wide' comes near, but it is for type c, and this is b" in told


def test_a_file_of_the_host_in_the_place_of_an_allowed_device(place: Path) -> None:
    """In a user namespace runc mounts what the host has at the path, whatever the number."""
    (place / "shadow").touch()
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {place}/shadow, type: c, major: 1, minor: 3}}]"
    assert refusal("devices", asked, rules).endswith("shadow' is a regular file")


def test_a_path_that_is_filled_after_the_check(place: Path) -> None:
    """The same, by a link that somebody puts there before the runtime looks."""
    shared = place / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {shared}/new, type: c, major: 1, minor: 3}}]"
    assert refusal("devices", asked, rules).endswith(
        f"does not exist, and others can put files in {shared}"
    )


@pytest.fixture
def terminal() -> Iterator[str]:
    """Yield the path of a terminal that any user could have made."""
    ours, theirs = os.openpty()
    yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


EVERY_TERMINAL = [
    "{type: c, major: 136}",
    "'/dev/**'",
    "'/dev/pt*/*'",
    "'/**'",
    "{path: '/dev/**', type: c, major: 136}",
]


@pytest.mark.parametrize("entry", EVERY_TERMINAL)
def test_a_terminal_of_the_host_under_a_rule_for_more_than_terminals(
    entry: str, terminal: str
) -> None:
    told = refusal("devices", f"[{{path: {terminal}}}]", f"{{allow: {{devices: [{entry}]}}}}")
    assert "does not name this terminal, and any user of the host can make one appear" in told


@pytest.mark.parametrize("entry", EVERY_TERMINAL)
@pytest.mark.parametrize("major", [2, 3, 136, 143])
def test_a_terminal_that_is_not_there_yet(entry: str, major: int) -> None:
    entry = entry.replace("136", str(major))
    asked = device("/dev/mine", 77, major=major)
    assert "rule that does" in refused(asked, f"{{allow: {{devices: [{entry}]}}}}")


def test_a_terminal_is_given_where_a_rule_names_it(terminal: str) -> None:
    for entry in (terminal, "'/dev/pts/*'"):
        rules = f"{{allow: {{devices: [{entry}]}}}}"
        assert annotated("devices", f"[{{path: {terminal}}}]", rules).linux.devices
    rules = "{allow: {devices: [{type: c, major: 136, minor: 77}]}}"
    asked = device("/dev/mine", 77, major=136)
    assert permit(rules).filter(asked, real_host()) is asked


@pytest.mark.parametrize("number", [(136, 999_999), (1, 3)])
def test_a_path_at_which_any_user_can_make_a_terminal_appear(number: tuple[int, int]) -> None:
    """In a user namespace runc mounts what the host has there by then, whatever the number."""
    major, minor = number
    rules = (
        f"{{allow: {{devices: [/dev/pts/999999, {{type: c, major: {major}, minor: {minor}}}]}}}}"
    )
    assert refused(device("/dev/pts/999999", minor, major=major), rules).endswith(
        "does not exist, and any user can make a terminal appear in /dev/pts"
    )


@pytest.mark.parametrize(
    "beside",
    [
        [Rule(False, "wm", "c", 1, 3)],
        [Rule(False, "rwm", "c", 1, -1)],
        [Rule(False, "rwm", "c", 1, 3), Rule(True, "r", "c", 1, 3), Rule(True, "w", "c", 1, 3)],
        [Rule(False, "rwm", "c", 1, 3), Rule(True, "rw", "c", 1, -1)],
    ],
    ids=["part of the letters", "all minor numbers", "allowed again", "allowed by a wildcard"],
)
def test_rules_that_seem_to_take_writing_away(beside: list[Rule]) -> None:
    """With crun on cgroup v2 O_RDWR passes beside a rule that denies w alone."""
    asked = device("/dev/null", 3)
    asked.linux.resources.devices.extend(rule.message() for rule in beside)
    told = refused(asked, "{name: reading, allow: {devices: [{path: /dev/null, access: r}]}}")
    assert "its access is r, and rw is asked for" in told


# --- mounts -------------------------------------------------------------------------------------


def mount(source: Path | str, to: str = "/in", kind: str = "bind", *options: str) -> Adjustment:
    asked = api.Mount(source=str(source), destination=to, type=kind, options=options or ("ro",))
    return Adjustment(mounts=[asked])


def for_source(source: Path | str, **more: str) -> str:
    keys = {"source": str(source), **more}
    entry = ", ".join(f"{key}: {value}" for key, value in keys.items())
    return f"{{name: data, allow: {{mounts: [{{{entry}}}]}}}}"


def test_a_link_out_of_an_allowed_source(place: Path) -> None:
    for name in ("models", "secret"):
        (place / name).mkdir()
    (place / "models/link").symlink_to("../secret")
    rules = for_source(place / "models")
    assert permit(rules).filter(mount(place / "models"), real_host()).mounts
    told = refused(mount(place / "models/link"), rules)
    assert told.startswith(f"mount of '{place}/models/link' ({place}/secret) at '/in': no rule of")
    climbing = refused(mount(f"{place}/models/../secret"), rules)
    assert "no rule of policy allows it" in climbing


def test_the_runtime_gets_the_path_that_was_judged(place: Path) -> None:
    """The text that was asked for may lead elsewhere by the time the runtime resolves it."""
    (place / "models").mkdir()
    (place / "link").symlink_to("models")
    text = f"[{{source: //{place}/./link/, destination: /in, type: bind, options: [bind, ro]}}]"
    given = annotated("mounts", text, for_source(place))
    assert [mount.source for mount in given.mounts] == [f"{place}/models"]


PROC_LINKS = [
    f"/proc/{os.getpid()}/root",
    f"/proc/{os.getpid()}/cwd",
    "/proc/self/root",
    "/proc/self/cwd",
    "/proc/thread-self/root",
    "/proc/self/fd/0",
    "/dev/fd/0",
]


@pytest.mark.parametrize("start", PROC_LINKS)
@pytest.mark.parametrize("rest", ["", "/media", "/etc/shadow"])
def test_a_source_through_a_link_on_procfs(start: str, rest: str) -> None:
    """The kernel goes to a process's own file tree there, the text of the link says `/`."""
    text = f"[{{source: {start}{rest}, destination: /in, type: bind, options: [rbind, rro]}}]"
    told = refusal("mounts", text, "{allow: {mounts: ['/**']}}")
    assert re.search(r": /\S+ leads through /proc/\S+, a link on procfs$", told)
    assert refused(mount(f"{start}{rest}"), "{allow: {mounts: ['/**', '/']}}").endswith("on procfs")


def test_a_source_that_climbs_out_of_a_link_on_procfs_to_an_allowed_name() -> None:
    source = f"{PROC_LINKS[0]}/../../../media"
    text = f"[{{source: {source}, destination: /in, type: bind, options: [rbind, rro]}}]"
    told = refusal("mounts", text, "{allow: {mounts: [/media]}}")
    assert told == (
        f"annotation mounts.noderesource.dev: item 1: source: '{source}' has a '..' in it;"
        " name the path without it"
    )
    for rules in ("{allow: {mounts: [/media]}}", "{allow: {mounts: ['/med*']}}"):
        assert refused(mount(source), rules).endswith("a link on procfs")


def test_a_link_of_ones_own_to_procfs(place: Path) -> None:
    (place / "tree").symlink_to(f"/proc/{os.getpid()}/root")
    (place / "processes").symlink_to("/proc")
    rules = for_source(place / "**")
    assert refused(mount(place / "tree/etc"), rules).endswith(
        f"{os.getpid()}/root, a link on procfs"
    )
    assert refused(mount(place / "processes"), rules).endswith("its source leads through procfs")
    assert refused(mount(place / "processes/1"), rules).endswith("leads through procfs")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts procfs, which only root may")
def test_procfs_at_another_place(place: Path) -> None:
    """Procfs is known by its file system and not by its name."""
    (place / "p").mkdir()
    program = textwrap.dedent("""
        import sys
        from nri_inject.host.model import ProcLinkError
        from nri_inject.host.nodes import HostFiles
        files, place = HostFiles(), sys.argv[1]
        print(files[f"{place}/p"].on_procfs, files[f"{place}/p/1/status"].on_procfs)
        for path in (f"{place}/p/1/root", f"{place}/p/self/cwd/x"):
            try:
                print(files[path])
            except ProcLinkError as error:
                print(error.args[0].replace(place, '@'))
    """)
    script = 'mount -t proc proc "$1/p" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", place, sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "True True",
        "@/p/1/root leads through @/p/1/root, a link on procfs",
        "@/p/self/cwd/x leads through @/p/self, a link on procfs",
    ]


def test_a_device_through_procfs() -> None:
    path = f"{PROC_LINKS[0]}/dev/null"
    told = refusal("devices", f"[{{path: {path}}}]", "{allow: {devices: ['/**']}}")
    assert told.endswith(f"leads through /proc/{os.getpid()}/root, a link on procfs")
    told = refused(device(path, 3), "{allow: {devices: ['/**']}}")
    assert told.endswith("a link on procfs")


def test_a_source_that_others_could_lead_elsewhere(place: Path) -> None:
    shared = place / "shared"
    (shared / "below").mkdir(parents=True)
    shared.chmod(0o777)
    told = refused(mount(shared / "below"), for_source(place))
    assert told.endswith(
        f"others could lead its source elsewhere: {shared} can be written by everybody (mode 0777)"
    )


def test_a_source_inside_of_what_containers_may_write(place: Path) -> None:
    """Root in a container that writes there is root to the host's files as well."""
    (place / "data/below").mkdir(parents=True)
    rules = for_source(place / "data", access="rw")
    assert permit(rules).filter(mount(place / "data", "/in", "bind", "rw"), real_host()).mounts
    assert refused(mount(place / "data/below"), rules).endswith(
        f"it lies in '{place}/data', where containers may write and put a link in its place"
    )


@pytest.mark.parametrize("root", ["/", "'/**'", "'/*'"])
def test_a_source_right_below_a_root_that_containers_may_write(root: str) -> None:
    host = Host({}, files={"/srv": HostPath("/srv"), "/srv/a": HostPath("/srv/a")})
    asked = mount("/srv" if root != "'/*'" else "/srv/a")
    assert "where containers may write" in refused(asked, for_source(root, access="rw"), host)


def test_a_denied_source_by_a_mount_of_what_is_above_it(place: Path) -> None:
    (place / "secret").mkdir()
    rules = f"{{name: never, deny: {{mounts: [{place}/secret]}}}}, {for_source(place)}"
    for source in (place, place / "secret"):
        assert refused(mount(source), rules).endswith(IS_DENIED)


@pytest.mark.parametrize(
    ("destination", "protected"),
    [
        ("/proc", "/proc"),
        ("/proc/sys/kernel", "/proc"),
        ("/sys/fs/cgroup", "/sys"),
        ("/dev/shm", "/dev"),
        ("/etc/passwd", "/etc/passwd"),
        ("/etc/shadow", "/etc/shadow"),
        ("/etc", "/etc/passwd"),
        ("/", "/proc"),
        ("//etc//./passwd/", "/etc/passwd"),
        ("/in/../etc/passwd", "/etc/passwd"),
        ("etc/passwd", "/etc/passwd"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"destination": "'/**'"}], ids=["none named", "all named"])
def test_a_destination_over_what_tells_a_container_who_it_is(
    place: Path, destination: str, protected: str, more: dict[str, str]
) -> None:
    told = refused(mount(place, destination), for_source(place, **more))
    assert told.partition("; a rule that does")[0].endswith(
        f"comes near, but it does not name a destination at {protected}"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["ro", "rw"], "it is for reading only (access: ro)"),
        (["rw", "ro"], "it has ro and rw"),
        (["rbind", "ro"], "with rbind, ro leaves what is mounted below writable"),
        (["bind", "ro", "rshared"], "it does not have the options 'rshared'"),
        (["bind", "ro", "slave"], "it does not have the options 'slave'"),
        (["bind", "ro", "remount"], "it does not have the options 'remount'"),
        (["bind", "ro", "suid", "dev"], "it does not have the options 'dev', 'suid'"),
        (["bind", "RO"], "it is for reading only (access: ro)"),
    ],
)
def test_options_that_undo_read_only_or_reach_other_mounts(
    place: Path, options: list[str], reason: str
) -> None:
    assert reason in refused(mount(place, "/in", "bind", *options), for_source(place))


@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        ("overlay", ["ro", "lowerdir=/"], "overlay"),
        ("ext4", ["ro"], "ext4"),
        ("proc", ["ro"], "proc"),
        ("ext4", ["bind", "ro"], "ext4 with bind"),
        ("tmpfs", ["rbind", "ro"], "tmpfs with bind"),
        ("none", ["ro"], "none"),
    ],
)
def test_a_file_system_under_a_rule_for_bind_mounts(
    place: Path, kind: str, options: list[str], shown: str
) -> None:
    told = refused(mount(place, "/in", kind, *options), for_source(place))
    assert f"it is for type bind, and this is '{shown}'" in told


TMPFS = "{name: scratch, allow: {mounts: [{type: tmpfs, access: rw, options: ['size=*']}]}}"


def tmpfs(*options: str, **more: str) -> Adjustment:
    asked = {"source": "tmpfs", "destination": "/in", "type": "tmpfs", **more}
    return Adjustment(mounts=[api.Mount(**asked, options=options)])


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("size=1m,mode=4777,uid=0", "does not have the options 'mode=4777', 'uid=0'"),
        ("size=1m,suid,dev", "does not have the options 'dev', 'suid'"),
        ("size=1m,rshared", "does not have the options 'rshared'"),
        ("size=1m,x-mount.mkdir", "does not have the options 'x-mount.mkdir'"),
        ("size=1m,bind", "it is for type tmpfs, and this is 'tmpfs with bind'"),
        ("size=1m\\,mode=4777", "has a quote, a backslash or a control character"),
        ('size="1m,mode=4777"', "has a quote, a backslash or a control character"),
        ("size=1m\0,mode=4777", "has a quote, a backslash or a control character"),
        ("size=1m\nmode=4777", "has a quote, a backslash or a control character"),
    ],
)
def test_more_options_behind_a_comma_of_an_allowed_one(option: str, reason: str) -> None:
    assert permit(TMPFS).filter(tmpfs("size=1m"), real_host()).mounts
    assert reason in refused(tmpfs(option), TMPFS)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("size=1m,mode=4777", "has a comma; make each option an item of its own"),
        ("size=1m\\", "has a quote or a backslash, which no option may have"),
        ('size="1m', "has a quote or a backslash, which no option may have"),
        ("size=1m\\x00", "has a quote or a backslash, which no option may have"),
    ],
)
def test_an_annotations_option_with_a_comma_a_quote_or_a_backslash(
    option: str, reason: str
) -> None:
    text = f"[{{source: tmpfs, destination: /in, type: tmpfs, options: ['{option}']}}]"
    assert reason in refusal("mounts", text, TMPFS)


def test_a_denied_option_behind_a_comma() -> None:
    rules = (
        "{name: never, deny: {mounts: [{type: tmpfs, options: ['uid=*']}]}},"
        " {allow: {mounts: [{type: tmpfs, access: rw, options: ['*']}]}}"
    )
    assert refused(tmpfs("size=1m,uid=0"), rules).endswith(IS_DENIED)


def test_the_hosts_directories_in_an_option() -> None:
    rules = "{name: layers, allow: {mounts: [{type: overlay, options: ['lowerdir=/srv/**']}]}}"
    for value in ("/srv/a", "/srv/a:/etc", "/srv/a/../../etc"):
        asked = tmpfs("ro", f"lowerdir={value}", type="overlay", source="overlay")
        assert "does not have the options 'lowerdir=" in refused(asked, rules)
    named = "{allow: {mounts: [{type: overlay, options: ['lowerdir=/srv/a:/srv/b']}]}}"
    asked = tmpfs("ro", "lowerdir=/srv/a:/srv/b", type="overlay", source="overlay")
    assert permit(named).filter(asked, real_host()) is asked


@pytest.mark.parametrize("field", ["destination", "source", "type"])
def test_a_nul_in_a_mount_that_a_runtime_in_c_would_cut(place: Path, field: str) -> None:
    asked = {"destination": "/in", "source": str(place), "type": "bind"}
    asked[field] = f"{asked[field]}\0x"
    adjustment = Adjustment(mounts=[api.Mount(**asked, options=["ro"])])
    assert f"its {field} " in refused(adjustment, for_source("/"))
    assert refused(adjustment, for_source("/")).endswith(" has a NUL")


def test_a_nul_in_the_name_of_a_device_or_sysctl() -> None:
    rules = "{allow: {devices: ['/**'], sysctl: ['**']}}"
    assert refused(device("/dev/null\0x", 3), rules).endswith("its path has a NUL")
    named = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"net.core.x\0y": "1"}))
    assert refused(named, rules).endswith("it has a NUL")


# --- sysctls and names --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kernel/shm_rmid_forced", "/kernel/shm_rmid_forced"])
def test_a_denied_sysctl_with_slashes(name: str) -> None:
    rules = "{name: never, deny: {sysctl: ['kernel.*']}}, {allow: {sysctl: ['**']}}"
    assert refusal("sysctl", f"{{{name}: '1'}}", rules).endswith(IS_DENIED)


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net.ipv4.conf.all.forwarding",
        "net.ipv4.conf.default.forwarding",
        "net.ipv4.conf.eth0.forwarding",
        "net/ipv4/conf/all/forwarding",
        "net/ipv4/conf/eth0.100/forwarding",
    ],
)
def test_a_denied_sysctl_by_another_name_of_it(name: str) -> None:
    rules = "{name: never, deny: {sysctl: [net.ipv4.ip_forward]}}, {allow: {sysctl: ['net.*']}}"
    assert refusal("sysctl", f"{{{name}: '1'}}", rules).endswith(IS_DENIED)


def test_another_name_of_a_sysctl_is_not_allowed_with_it() -> None:
    rules = "{allow: {sysctl: [net.ipv4.ip_forward]}}"
    told = refusal("sysctl", "{net.ipv4.conf.all.forwarding: '1'}", rules)
    assert "no rule of policy allows it" in told


def test_a_sysctl_that_climbs_out_of_an_allowed_directory() -> None:
    rules = "{allow: {sysctl: ['net.*']}}"
    name = "net/../kernel/x"
    assert "is not a name that a sysctl can have" in refusal("sysctl", f"{{{name}: '1'}}", rules)
    adjustment = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={name: "1"}))
    # Dots are slashes to runc, so what it writes is net//kernel/x, which is below net.
    assert permit(rules).filter(adjustment, real_host()) is adjustment


def test_names_that_write_lines_or_move_the_cursor() -> None:
    told = refused(device("/dev/a\n2026 all is well\x1b[2J\u202e", 7), NULL_ALLOWED)
    assert told.isprintable()
    assert r"'/dev/a\n2026 all is well\x1b[2J\u202e'" in told


# --- texts --------------------------------------------------------------------------------------

SIZE = 256 * 1024
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 20)
)
HOSTILE = {
    "256 KiB of brackets": "[" * SIZE,
    "256 KiB of maps": "{a: " * (SIZE // 4),
    "more than 256 KiB": "- {path: /dev/null}\n" * (SIZE // 19),
    "a bomb of aliases": BOMB,
    "a number of 10,000 digits": f"[{{path: /dev/null, type: c, major: {'9' * 10_000}}}]",
    "a key twice": "[{path: /dev/null, path: /dev/full}]",
    "a key twice in two letter cases": "[{path: /dev/null, PATH: /dev/full}]",
    "NUL": '[{path: "/dev/null\\0/x"}]',
    "half of a surrogate pair": '[{path: "/dev/\\ud800"}]',
    "1,001 devices": "- {path: /dev/null, type: c, major: 1}\n" * 1001,
    "257 devices to look up": "".join(f"- {{path: /dev/{n}}}\n" for n in range(257)),
    "9 searches": "".join(f"- 'usb:1a86:{n:04}'\n" for n in range(9)),
    "a path of 300 KiB by an alias": f"[&p {'/x' * 60_000}, *p, *p]",
}


class Counted(Mapping[Any, Any]):
    """A part of the host that has nothing, and how often it was asked."""

    def __init__(self) -> None:
        self.looks = 0

    def __getitem__(self, key: object) -> Any:
        self.looks += 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_costs_its_own_container_a_short_sentence(text: str) -> None:
    everything = "{allow: {devices: ['/**', {path: '/**', type: b}]}}"
    devices, numbers = Counted(), Counted()
    host = Host(devices, numbers=numbers)
    annotations = {
        "devices.noderesource.dev/container.main": text,
        "sysctl.noderesource.dev/container.other": "{a.b: '1'}",
    }
    pod = Pod(name="evil", namespace="ci", annotations=annotations)
    judged = permit(everything)
    with pytest.raises(RequestError) as caught:
        inject(pod, CONTAINER, dataclasses.replace(host, permit=judged))
    assert len(str(caught.value).encode()) < 2048
    assert str(caught.value).isprintable()
    assert (devices.looks, numbers.looks, judged.decisions) == (0, 0, [])

    other = Container(name="other")
    allowing = Permit(document.read("rules: [{allow: {sysctl: [a.b]}}]", "p"), pod, other, "10-x")
    left = inject(pod, other, dataclasses.replace(host, permit=allowing))
    assert left.linux.sysctl == {"a.b": "1"}


@pytest.mark.parametrize(("count", "looks"), [(512, 512), (513, 0), (1000, 0)])
def test_thousands_of_devices_take_a_look_each_up_to_512_and_none_beyond(
    count: int, looks: int
) -> None:
    text = "".join(f"- {{path: /dev/x{n}, type: c, major: 7, minor: {n}}}\n" for n in range(count))
    devices, numbers = Counted(), Counted()
    host = Host(Remembered(devices), numbers=Remembered(numbers))
    told = refusal("devices", text, "{allow: {devices: ['/dev/y*']}}", host)
    assert devices.looks == looks
    assert numbers.looks == looks
    assert ("more than 512 devices" in told) is (looks == 0)


EMPTY_FOR_IT = {
    "no rules": "",
    "a rule that denies": "{deny: {devices: ['/**']}}",
    "a rule for another kind": "{allow: {sysctl: ['net.*']}}",
    "a rule for another namespace": "{who: {namespaces: [lab]}, allow: {devices: ['/**']}}",
    "a rule for other labels": (
        "{who: {pods: {matchLabels: {app: x}}}, allow: {devices: ['/**'], mounts: [/]}}"
    ),
    "a rule for another container": "{who: {containers: [x]}, allow: {devices: ['/**']}}",
    "a rule for another runtime": "{who: {runtime_handlers: [x]}, allow: {devices: ['/**']}}",
    "a rule for another plugin": "{who: {plugins: [20-x]}, allow: {devices: ['/**']}}",
}


@pytest.mark.parametrize("rules", EMPTY_FOR_IT.values(), ids=EMPTY_FOR_IT)
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("devices", "[{path: /dev/SECRET}]"),
        ("devices", "[{path: /dev/none}]"),
        ("devices", "[{path: /dev/mine, type: b, major: 254, minor: 0}]"),
        ("devices", "[{path: /dev/SECRET, type: b, major: 254, minor: 0, access: r}]"),
        ("devices", "[{device: class:video}]"),
        ("devices", "[{device: 'udev:ID_SERIAL=SECRET', optional: true}]"),
        ("devices", "[{device: /dev/SECRET, links: true, optional: true}]"),
        ("mounts", "[{source: /srv/SECRET, destination: /in, type: bind}]"),
        ("mounts", "[{source: /srv/none, destination: /in, type: bind}]"),
    ],
)
def test_who_may_have_nothing_learns_nothing_by_asking(rules: str, kind: str, text: str) -> None:
    """The error is the same on a host that has all of it, and on one that has nothing."""
    disk = DeviceNode("/dev/SECRET", "b", 254, 0, 0o660, 0, 6, "/dev/vda")
    full = Host(
        {disk.path: disk},
        numbers={disk.number: ("/dev/vda", "/dev/SECRET")},
        files={"/srv/SECRET": HostPath("/etc")},
        inventory=lambda: pytest.fail("it looked at the host's devices"),
    )
    told = refusal(kind, text, rules, full)
    assert told == refusal(kind, text, rules, Host({}, numbers={}, files={}))
    assert "vda" not in told
    assert "254" not in told


def test_what_another_plugin_found_out_is_not_in_the_error() -> None:
    told = refused(device("/dev/x", 0, major=254, kind="b"), "")
    assert told.startswith("device '/dev/x': no rule of policy allows it; a rule that does:")
    assert told.endswith("allow: {devices: [/dev/x]}}")


SPEC = {
    "cdiVersion": "0.6.0",
    "devices": [{"name": name, "containerEdits": {"env": ["A=1"]}} for name in ("a", "b")],
}


@pytest.mark.parametrize(
    ("asked", "allowed", "hint"),
    [
        ("v.com/d=c", "v.com/d=[ac]", "known of v.com/d: a"),
        ("v.com/d=c", "v.com/d=c", ""),
        ("v.com/e=a", "v.com/e=a", ""),
        ("v.com/e=a", "v.com/?=a", "did you mean 'v.com/d=a'?"),
        ("other.org/thing=a", "other.org/thing=a", ""),
        ("other.org/thing=a", "*/*", "known kinds: v.com/d"),
    ],
)
def test_an_unknown_cdi_name_tells_only_of_devices_that_the_container_may_have(
    asked: str, allowed: str, hint: str
) -> None:
    text = json.dumps({**SPEC, "kind": "v.com/d"}).encode()
    snapshot = registry.snapshot(["/etc/cdi"], [registry.read("/etc/cdi/a.json", "/etc/cdi", text)])
    pod = Pod(
        name="evil", namespace="ci", annotations={"cdi-devices.noderesource.dev": f"[{asked}]"}
    )
    host = Host({}, cdi=snapshot, permit=permit(f"{{allow: {{cdi_devices: ['{allowed}']}}}}"))
    with pytest.raises(RequestError) as caught:
        cdi.inject(pod, CONTAINER, host)
    (told,) = caught.value.faults
    assert told == f"no CDI device '{asked}'" + (f"; {hint}" if hint else "")


def test_who_may_have_nothing_makes_nobody_look() -> None:
    devices, files = Counted(), Counted()
    host = Host(devices, files=files)
    refusal("devices", "[{path: /dev/null}, {path: /home/bob/x}]", "", host)
    refusal("mounts", "[{source: /net/far, destination: /in, type: bind}]", "", host)
    assert (devices.looks, files.looks) == (0, 0)

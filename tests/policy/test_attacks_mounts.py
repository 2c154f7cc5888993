"""What an attacker tries to get mounts, and what holds it off; docs/security.md has the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.attacking import (
    IS_DENIED,
    annotated,
    device,
    for_source,
    mount,
    permit,
    refusal,
    refused,
)

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.host.model import HostPath
from nri_inject.host.sight import Mounted
from nri_inject.host.views import Views
from nri_inject.injectors.host import Host, real_host


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


@pytest.mark.parametrize("start", PROC_LINKS, ids=lambda start: re.sub("[0-9]{2,}", "PID", start))
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
        f"annotation mounts.noderesource.dev: item 1: source: '{source}' contains '..';"
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
        f"others can redirect its source: {shared} can be written by everybody (mode 0777)"
    )


def test_a_source_inside_of_what_containers_may_write(place: Path) -> None:
    """Root in a container that writes there is root to the host's files as well."""
    (place / "data/below").mkdir(parents=True)
    rules = for_source(place / "data", access="rw")
    assert permit(rules).filter(mount(place / "data", "/in", "bind", "rw"), real_host()).mounts
    assert refused(mount(place / "data/below"), rules).endswith(
        f"it lies in '{place}/data', where containers may write and replace it with a link"
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


TWICE = [
    Mounted("/", "/deploy/1", device="254:0"),
    Mounted("/sysroot", "/", device="254:0"),
    Mounted("/var", "/deploy/var", device="254:0"),
    Mounted("/home", "/", device="254:1"),
    Mounted("/srv/homes", "/", device="254:1"),
    Mounted("/srv/disk", "/", device="254:2"),
    Mounted("/secret", "/keys", device="254:2"),
]


@pytest.mark.parametrize(
    ("source", "option", "denied"),
    [
        ("/sysroot/deploy/var", "ro", "/var"),
        ("/sysroot/deploy/var/lib/secret", "ro", "/var"),
        ("/sysroot/deploy", "ro", "/var"),
        ("/sysroot", "ro", "/var/lib/secret"),
        ("/sysroot/deploy/1/etc", "ro", "/etc"),
        ("/sysroot/deploy/1", "ro", "/etc/shadow"),
        ("/srv/homes/bob/.ssh", "ro", "/home/*/.ssh"),
        ("/srv/homes/bob", "ro", "/home/*/.ssh"),
        ("/srv", "rro", "/home"),
        ("/srv", "rro", "'/home/**'"),
        ("/srv/disk", "ro", "/secret"),
        ("/srv/disk/keys", "ro", "/secret"),
        ("/var/lib/secret", "ro", "/sysroot/deploy"),
    ],
)
def test_a_denied_source_that_is_mounted_at_another_path(
    source: str, option: str, denied: str
) -> None:
    host = Host({}, files={source: HostPath(source)}, views=lambda: Views(TWICE))
    asked = mount(source, "/in", "bind", "rbind" if option == "rro" else "bind", option)
    allowing = "{allow: {mounts: [/]}}"
    assert permit(allowing).filter(asked, host) is asked
    never = f"{{name: never, deny: {{mounts: [{denied}]}}}}"
    assert refused(asked, f"{never}, {allowing}", host).endswith(IS_DENIED)


@pytest.mark.parametrize("source", ["/sysroot/deploy/2", "/srv/disk/other", "/srv/homes/bob/x"])
def test_a_source_beside_a_denied_one_is_not_denied(source: str) -> None:
    host = Host({}, files={source: HostPath(source)}, views=lambda: Views(TWICE))
    rules = "{deny: {mounts: [/var, /secret, '/home/*/.ssh']}}, {allow: {mounts: [/]}}"
    asked = mount(source)
    assert permit(rules).filter(asked, host) is asked


def test_what_is_mounted_in_a_source_counts_if_the_mount_has_it_too() -> None:
    host = Host({}, files={"/srv": HostPath("/srv")}, views=lambda: Views(TWICE))
    rules = "{name: never, deny: {mounts: [/home]}}, {allow: {mounts: [/]}}"
    asked = mount("/srv", "/in", "bind", "bind", "ro")
    assert permit(rules).filter(asked, host) is asked


def test_a_source_inside_of_what_containers_may_write_at_another_path() -> None:
    source = "/sysroot/deploy/var/data/x"
    host = Host({}, files={source: HostPath(source)}, views=lambda: Views(TWICE))
    rules = "{allow: {mounts: [{source: /var/data, access: rw}, /sysroot]}}"
    assert "it lies in '/var/data', where containers may write" in refused(
        mount(source), rules, host
    )


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
    assert told.partition("; a rule that allows it")[0].endswith(
        f"but it does not allow a destination at {protected}"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["ro", "rw"], "it allows only reading (access: ro)"),
        (["rw", "ro"], "it contains both ro and rw"),
        (["rbind", "ro"], "with rbind, ro keeps mounts below the source writable"),
        (["bind", "ro", "rshared"], "it does not allow the options 'rshared'"),
        (["bind", "ro", "slave"], "it does not allow the options 'slave'"),
        (["bind", "ro", "remount"], "it does not allow the options 'remount'"),
        (["bind", "ro", "suid", "dev"], "it does not allow the options 'dev', 'suid'"),
        (["bind", "RO"], "it allows only reading (access: ro)"),
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
    assert f"it is for type bind, and the type is '{shown}'" in told


TMPFS = "{name: scratch, allow: {mounts: [{type: tmpfs, access: rw, options: ['size=*']}]}}"


def tmpfs(*options: str, **more: str) -> Adjustment:
    asked = {"source": "tmpfs", "destination": "/in", "type": "tmpfs", **more}
    return Adjustment(mounts=[api.Mount(**asked, options=options)])


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("size=1m,mode=4777,uid=0", "does not allow the options 'mode=4777', 'uid=0'"),
        ("size=1m,suid,dev", "does not allow the options 'dev', 'suid'"),
        ("size=1m,rshared", "does not allow the options 'rshared'"),
        ("size=1m,x-mount.mkdir", "does not allow the options 'x-mount.mkdir'"),
        ("size=1m,bind", "it is for type tmpfs, and the type is 'tmpfs with bind'"),
        ("size=1m\\,mode=4777", "contains a quote, a backslash or a control character"),
        ('size="1m,mode=4777"', "contains a quote, a backslash or a control character"),
        ("size=1m\0,mode=4777", "contains a quote, a backslash or a control character"),
        ("size=1m\nmode=4777", "contains a quote, a backslash or a control character"),
    ],
)
def test_more_options_behind_a_comma_of_an_allowed_one(option: str, reason: str) -> None:
    assert permit(TMPFS).filter(tmpfs("size=1m"), real_host()).mounts
    assert reason in refused(tmpfs(option), TMPFS)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("size=1m,mode=4777", "contains a comma; list each option as a separate item"),
        ("size=1m\\", "contains a quote or a backslash; an option must not"),
        ('size="1m', "contains a quote or a backslash; an option must not"),
        ("size=1m\\x00", "contains a quote or a backslash; an option must not"),
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
        assert "does not allow the options 'lowerdir=" in refused(asked, rules)
    named = "{allow: {mounts: [{type: overlay, options: ['lowerdir=/srv/a:/srv/b']}]}}"
    asked = tmpfs("ro", "lowerdir=/srv/a:/srv/b", type="overlay", source="overlay")
    assert permit(named).filter(asked, real_host()) is asked


@pytest.mark.parametrize("field", ["destination", "source", "type"])
def test_a_nul_in_a_mount_that_a_runtime_in_c_would_cut(place: Path, field: str) -> None:
    asked = {"destination": "/in", "source": str(place), "type": "bind"}
    asked[field] = f"{asked[field]}\0x"
    adjustment = Adjustment(mounts=[api.Mount(**asked, options=["ro"])])
    assert f"its {field} " in refused(adjustment, for_source("/"))
    assert refused(adjustment, for_source("/")).endswith(" contains a NUL")

"""What a plugin cannot see of its host, by tables of mounts as systemd and runtimes make them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nri_inject.hooks.registry import program_fault
from nri_inject.host import sight, trust
from nri_inject.host.devices.node import node_at
from nri_inject.host.model import NotADevice
from nri_inject.host.nodes import HostDevices, HostFiles
from nri_inject.host.sight import Mounted, Sight
from nri_inject.text.fields import Fault

HOST = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
24 27 0:6 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw
22 27 0:21 / /proc rw shared:3 - proc proc rw
40 27 0:30 / /run rw shared:4 - tmpfs tmpfs rw
41 27 0:31 / /srv/with\\040space rw shared:5 - ext4 /dev/vdb rw
"""
SERVICE = """\
27 1 254:0 / / ro,relatime shared:300 master:1 - ext4 /dev/vda rw
24 27 0:6 / /dev rw,relatime shared:301 master:2 - devtmpfs devtmpfs rw
22 27 0:77 / /proc rw shared:302 - proc proc rw,hidepid=invisible
40 27 0:30 / /run rw shared:303 master:4 - tmpfs tmpfs rw
50 27 0:30 /systemd/inaccessible/dir /home ro shared:303 master:4 - tmpfs tmpfs rw
51 27 0:30 /systemd/inaccessible/dir /root ro shared:303 master:4 - tmpfs tmpfs rw
52 27 254:0 /tmp/systemd-private-1-nri-inject.service-x/tmp /tmp rw shared:300 master:1 - ext4 /d rw
53 27 0:80 / /opt/data rw shared:305 - tmpfs tmpfs rw
54 40 0:81 / /run/credentials/nri-inject.service ro shared:306 - ramfs ramfs rw
"""
POD = """\
27 1 0:50 / / ro,relatime - overlay overlay rw
22 27 0:21 / /proc rw - proc proc rw
60 27 0:6 / /host/dev ro - devtmpfs devtmpfs rw
61 27 0:22 / /host/sys ro - sysfs sysfs rw
62 27 254:0 /etc/containers/oci/hooks.d /host/etc/containers/oci/hooks.d ro - ext4 /dev/vda rw
"""


def seen(table: str, *, is_own: bool = False) -> Sight:
    return Sight(sight.read(table), is_own)


def test_a_table_is_read_with_its_escapes() -> None:
    assert sight.read(HOST)[-1] == Mounted("/srv/with space", "/", device="0:31")
    assert sight.read(SERVICE)[0] == Mounted("/", "/", follows=True, device="254:0")
    assert sight.read("no line of a table\n\n") == []


@pytest.mark.parametrize("place", ["/", "/home/x", "/dev/ttyUSB0", "/srv/with space/x", "/tmp"])
def test_on_the_host_itself_what_is_missing_is_missing(place: str) -> None:
    assert seen(HOST).hidden(place) == ""


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("/home/x/y", "its service hides /home (ProtectHome= or InaccessiblePaths=)"),
        ("/root", "its service hides /root (ProtectHome= or InaccessiblePaths=)"),
        ("/tmp/x", "its service uses a private /tmp (PrivateTmp=)"),
        (
            "/opt/data/x",
            "it runs in its own mount namespace, whose /opt/data differs from the host's",
        ),
        ("/dev/ttyUSB0", ""),
        ("/homes", ""),
        ("/srv/x", ""),
    ],
)
def test_a_service_sees_all_but_what_its_unit_hides(place: str, why: str) -> None:
    expected = f"is not visible to the plugin: {why}" if why else ""
    assert seen(SERVICE, is_own=True).hidden(place) == expected


def test_a_pod_sees_what_is_mounted_below_its_root_of_the_host() -> None:
    pod = seen(POD)
    assert pod.hidden("/dev/ttyUSB0", "/host") == ""
    assert pod.hidden("/etc/containers/oci/hooks.d/x", "/host/") == ""
    assert pod.hidden("/etc/shadow", "/host") == (
        "is not visible to the plugin, which sees only /dev,"
        " /etc/containers/oci/hooks.d, /sys of the host, mounted below /host"
    )
    assert pod.hidden("/etc/shadow", "/elsewhere") == ""


def test_a_mount_of_the_whole_host_hides_nothing() -> None:
    whole = seen(POD + "63 27 254:0 / /host rw - ext4 /dev/vda rw\n")
    assert (whole.hidden("/etc/shadow", "/host"), whole.note("/host")) == ("", "")


def test_the_last_of_several_mounts_at_one_place_counts() -> None:
    assert (
        seen(SERVICE + "70 27 0:9 / /home rw master:9 - nfs server:/ rw\n").hidden("/home/x") == ""
    )


@pytest.mark.parametrize(
    ("table", "root", "what"),
    [
        (HOST, "/", ""),
        (SERVICE, "/", "does not see the host's /home, /root, /tmp, /opt/data"),
        (
            POD,
            "/host",
            "sees only /dev, /etc/containers/oci/hooks.d, /sys of the host, mounted below /host",
        ),
    ],
)
def test_a_note_says_what_is_not_seen(table: str, root: str, what: str) -> None:
    expected = (
        f"the plugin {what}; a container that requests another path of the host fails, even if"
        " `policy check` and `try` allow it"
    )
    assert seen(table, is_own=table == SERVICE).note(root) == (expected if what else "")


def test_a_note_is_bounded() -> None:
    many = Sight([Mounted(f"/host/{number}", "/") for number in range(100)])
    assert "/0, /1, " in many.note("/host")
    assert " and 88 more of the host, mounted below /host" in many.note("/host")


def test_this_process_has_a_table() -> None:
    sight.current.cache_clear()
    assert any(one.point == "/" for one in sight.current().mounts)


# --- sentences ------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where a pod sees its host, of which it has /dev alone."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "dev/link").symlink_to("/srv/disk")
    seen = Sight([Mounted("/", "/"), Mounted(f"{tmp_path}/dev", "/")])
    monkeypatch.setattr(sight, "current", lambda: seen)
    return str(tmp_path)


def unseen(root: str) -> str:
    return f"is not visible to the plugin, which sees only /dev of the host, mounted below {root}"


@pytest.mark.parametrize("path", ["/etc/shadow", "/srv/x/y", "/dev/link"])
def test_a_device_that_is_not_seen_is_not_said_to_be_missing(root: str, path: str) -> None:
    with pytest.raises(NotADevice) as caught:
        HostDevices(root)[path]
    assert str(caught.value) == f"{path} {unseen(root)}"
    with pytest.raises(Fault, match="is not visible to the plugin"):
        node_at(path, HostDevices(root))


def test_a_device_that_is_missing_is_said_to_be(root: str) -> None:
    with pytest.raises(Fault, match="'/dev/ttyUSB9' does not exist on the host"):
        node_at("/dev/ttyUSB9", HostDevices(root))


def test_a_source_and_a_program_that_are_not_seen_are_not_said_to_be_missing(root: str) -> None:
    with pytest.raises(KeyError) as caught:
        HostFiles(root)["/etc/shadow"]
    assert caught.value.args == (f"/etc/shadow {unseen(root)}",)
    fault = program_fault("/usr/bin/hook", root=root)
    assert fault is not None
    assert fault.sentence == f"program /usr/bin/hook {unseen(root)}"
    with pytest.raises(KeyError) as caught:
        HostFiles(root)["/dev/no"]
    assert caught.value.args == ("/dev/no does not exist",)


def test_a_directory_that_a_service_may_not_enter_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(tmp_path / "home")
    hides = Sight([Mounted("/", "/"), Mounted(home, "/systemd/inaccessible/dir")])
    monkeypatch.setattr(sight, "current", lambda: hides)
    error = PermissionError(13, os.strerror(13), f"{home}/x")
    assert trust.unreachable(f"{home}/x", error) == (
        f"{home}/x is not visible to the plugin: its service hides {home} (ProtectHome= or"
        " InaccessiblePaths=)"
    )


SERVICE_MANAGER = """
set -e
cd "$1"
mkdir run home tmp tmp/systemd-private-1-x
mount -t tmpfs tmpfs run
mkdir -p run/systemd/inaccessible/dir
mount --bind run/systemd/inaccessible/dir home
mount --bind tmp/systemd-private-1-x tmp
exec "$2" -c "$3" "$1"
"""
LOOK = """
import sys
from nri_inject.host.nodes import HostFiles
for path in ("home/x", "tmp/x", "other"):
    try:
        HostFiles()[f"{sys.argv[1]}/{path}"]
    except KeyError as error:
        print(error.args[0].removeprefix(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.program("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_mounts_as_systemd_makes_them_are_recognized(tmp_path: Path) -> None:
    manager = ["unshare", "--mount", "sh", "-c", SERVICE_MANAGER, "sh"]
    done = subprocess.run(
        [*manager, str(tmp_path), sys.executable, LOOK], capture_output=True, text=True, check=True
    )
    unseen = "is not visible to the plugin: its service"
    home, own, other = done.stdout.splitlines()
    hides = f"{unseen} hides {tmp_path}/home (ProtectHome= or InaccessiblePaths=)"
    assert home == f"/home/x {hides}"
    assert own == f"/tmp/x {unseen} uses a private {tmp_path}/tmp (PrivateTmp=)"
    assert other.startswith("/other ")
    assert "its service" not in other

"""Where else the host shows the same files, by tables of mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nri_inject.host import sight, views
from nri_inject.host.sight import Mounted
from nri_inject.host.views import MAX_VIEWS, TooMany, Views

# As ostree makes them: the root is a deployment, and /var is of another directory of the disk.
DEPLOYED = "/ostree/deploy/os/deploy/1"
OSTREE = [
    Mounted("/", DEPLOYED, device="254:0"),
    Mounted("/sysroot", "/", device="254:0"),
    Mounted("/var", "/ostree/deploy/os/var", device="254:0"),
    Mounted("/boot", "/", device="254:1"),
    Mounted("/sysroot/boot", "/", device="254:1"),
    Mounted("/run", "/", device="0:30"),
]


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/sysroot/ostree/deploy/os/var", ["/var"]),
        ("/sysroot/ostree/deploy/os/var/lib/x", ["/var/lib/x"]),
        ("/var/lib", ["/sysroot/ostree/deploy/os/var/lib"]),
        (f"/sysroot{DEPLOYED}/etc/shadow", ["/etc/shadow"]),
        ("/etc", [f"/sysroot{DEPLOYED}/etc"]),
        ("/", [f"/sysroot{DEPLOYED}"]),
        ("/sysroot/boot/grub", ["/boot/grub"]),
        ("/sysroot/ostree/repo", []),
        ("/run/x", []),
    ],
)
def test_a_file_is_where_a_mount_shows_its_directory(path: str, others: list[str]) -> None:
    assert Views(OSTREE).of_file(path) == others


@pytest.mark.parametrize(
    ("path", "recursive", "others"),
    [
        ("/sysroot/ostree/deploy/os", False, ["/", "/var"]),
        ("/sysroot", False, ["/", "/var"]),
        ("/sysroot", True, ["/", "/var", "/boot"]),
        ("/var", False, ["/sysroot/ostree/deploy/os/var"]),
        ("/var", True, ["/sysroot/ostree/deploy/os/var"]),
        ("/sysroot/boot", True, ["/boot"]),
        ("/run", True, []),
    ],
)
def test_a_tree_is_where_a_part_of_it_is_shown(
    path: str, recursive: bool, others: list[str]
) -> None:
    assert Views(OSTREE).of_tree(path, recursive=recursive) == others


def test_the_last_mount_at_a_place_counts() -> None:
    mounts = [
        Mounted("/", "/", device="254:0"),
        Mounted("/boot", "/", device="0:99"),
        Mounted("/boot", "/kernels", device="254:0"),
    ]
    assert Views(mounts).of_file("/boot/x") == ["/kernels/x"]


def test_a_plugin_in_a_container_sees_the_hosts_paths_without_its_own_root() -> None:
    mounts = [
        Mounted("/", "/", device="0:50"),
        Mounted("/host", "/", device="254:0"),
        Mounted("/host/mnt", "/srv", device="254:0"),
        Mounted("/etc/cdi", "/etc/cdi", device="254:0"),
    ]
    assert Views(mounts, "/host").of_file("/srv/x") == ["/mnt/x"]
    assert Views(mounts, "/host/").of_file("/etc/cdi") == []


def test_a_root_that_is_no_mount_is_a_directory_of_one() -> None:
    mounts = [Mounted("/", "/", device="254:0"), Mounted("/t/r/mnt", "/t/r/srv", device="254:0")]
    assert Views(mounts, "/t/r").of_file("/srv/x") == ["/mnt/x"]


def test_a_tree_that_is_shown_in_too_many_places_is_told() -> None:
    many = [
        Mounted("/", "/", device="254:0"),
        *(Mounted(f"/in/{number}", "/srv", device="254:0") for number in range(MAX_VIEWS + 1)),
    ]
    assert len(Views(many[:-1]).of_tree("/srv", recursive=False)) == MAX_VIEWS
    with pytest.raises(TooMany):
        Views(many).of_tree("/srv", recursive=False)
    assert Views(many).of_tree("/in", recursive=False) == []


def test_a_table_that_cannot_be_read_shows_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "TABLE", "/nowhere")
    assert views.look().of_file("/etc") == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_bind_mount_of_the_real_kernel_is_found(tmp_path: Path) -> None:
    for name in ("srv/data", "again"):
        (tmp_path / name).mkdir(parents=True)
    program = (
        "from nri_inject.host import views;"
        f"print(*views.look().of_file({str(tmp_path / 'again/data')!r}));"
        f"print(*views.look({str(tmp_path)!r}).of_file('/again/data'))"
    )
    bind = f"mount --bind {tmp_path}/srv {tmp_path}/again"
    command = ["unshare", "-m", "sh", "-c", f'{bind} && exec "$0" -c "$1"', sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{tmp_path}/srv/data", "/srv/data"]

"""The names of a device where udev's database is missing, and a policy that counts on them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nri_inject.api import Container, Pod
from nri_inject.cli.decisions import Decider
from nri_inject.host.devices.links import LinkedNumbers, first_link, has_database
from nri_inject.host.nodes import HostDevices, HostNumbers
from nri_inject.plugins import suite
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.environment import Environment

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")

LOOP = ("b", 7, 0)
BY_ID = "/dev/disk/by-id/secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a host that has one disk, with two links to it."""
    (tmp_path / "sys/dev/block/7:0").mkdir(parents=True)
    (tmp_path / "sys/dev/block/7:0/uevent").write_text("DEVNAME=loop0\n")
    (tmp_path / "dev/disk/by-id").mkdir(parents=True)
    os.mknod(tmp_path / "dev/loop0", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    (tmp_path / "dev/disk/by-id/secret").symlink_to("../../loop0")
    (tmp_path / "dev/alias").symlink_to("disk/by-id/secret")
    (tmp_path / "dev/elsewhere").symlink_to("null")
    return tmp_path


def database(root: Path) -> Path:
    record = root / "run/udev/data/b7:0"
    record.parent.mkdir(parents=True)
    record.write_text("S:disk/by-uuid/known\n")
    return record


def names(root: Path) -> Sequence[str]:
    return LinkedNumbers(HostNumbers(root), HostDevices(root), str(root))[LOOP]


@needs_root
def test_links_are_found_in_dev_where_there_is_no_database(root: Path) -> None:
    assert sorted(names(root)) == ["/dev/alias", BY_ID, "/dev/loop0"]


@needs_root
def test_an_empty_directory_is_no_database(root: Path) -> None:
    database(root).unlink()
    assert not has_database(str(root))
    assert BY_ID in names(root)


@needs_root
def test_udev_is_believed_where_it_is_there(root: Path) -> None:
    database(root)
    assert has_database(str(root))
    assert names(root) == ("/dev/loop0", "/dev/disk/by-uuid/known")


@needs_root
def test_a_second_node_of_the_device_is_a_name_of_it(root: Path) -> None:
    os.mknod(root / "dev/other", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    assert "/dev/other" in names(root)


@needs_root
def test_a_link_that_others_could_have_put_there_is_no_name(root: Path) -> None:
    (root / "dev/shared").mkdir()
    (root / "dev/shared").chmod(0o777)
    (root / "dev/shared/mine").symlink_to("../loop0")
    assert "/dev/shared/mine" not in names(root)


@needs_root
def test_a_link_that_leads_out_of_the_root_is_no_name(root: Path) -> None:
    (root / "dev/out").symlink_to("../../../../../../../../dev/loop0")
    assert sorted(names(root)) == ["/dev/alias", BY_ID, "/dev/loop0", "/dev/out"]
    (root / "dev/loop0").unlink()
    assert names(root) == ("/dev/loop0",)  # the kernel's own name for it


@needs_root
def test_dev_is_listed_once_for_a_request_and_anew_for_the_next(root: Path) -> None:
    request = LinkedNumbers(HostNumbers(root), HostDevices(root), str(root))
    assert BY_ID in request[LOOP]
    (root / "dev/late").symlink_to("loop0")
    assert "/dev/late" not in request[LOOP]
    assert "/dev/late" in names(root)


def test_a_number_that_the_kernel_does_not_know_has_no_name(tmp_path: Path) -> None:
    found = LinkedNumbers(HostNumbers(tmp_path), HostDevices(tmp_path), str(tmp_path))
    assert found.get(LOOP) is None


@pytest.mark.parametrize(
    ("path", "is_link"),
    [
        ("/dev/disk/by-id/*", True),
        ("/dev/serial/by-path/**", True),
        ("/dev/mapper/vault", True),
        ("/dev/rtc", True),
        ("/dev/ttyUSB0", False),
        ("/srv/by-id/x", False),
        ("/dev/*", False),
    ],
)
def test_a_rule_names_links_by_the_directories_of_udev_or_by_a_link_that_is_there(
    path: str, is_link: bool, tmp_path: Path
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/rtc").symlink_to("rtc0")
    assert first_link(["/dev/null", path], str(tmp_path)) == (path if is_link else None)


# --- with a policy --------------------------------------------------------------------------------


def configured(root: Path, rules: str) -> config.Config:
    return config.read(f"{{host_root: {root}, policy: {{rules: [{rules}]}}}}", "test")


OPTIONS = Options(idx="20", name="test")
NEVER = f"{{name: never, deny: {{devices: [{BY_ID}]}}}}"
DISKS = "{allow: {devices: [{path: '/**', type: b}]}}"
ASKED = "devices.noderesource.dev/pod"


@needs_root
@pytest.mark.parametrize(
    "asked",
    [
        "- path: /dev/loop0",
        "- {path: /dev/mine, type: b, major: 7, minor: 0}",
        "- path: /dev/alias",
    ],
)
def test_a_denied_link_denies_the_device_where_udev_is_not_seen(root: Path, asked: str) -> None:
    pod = Pod(namespace="ci", name="evil", annotations={ASKED: asked})
    with closing(Decider(suite.PARTS, OPTIONS, configured(root, f"{NEVER}, {DISKS}"))) as decider:
        (decision,) = decider.decide(pod, Container(name="main")).decisions
    assert (decision.verdict, decision.rule) == ("deny", "never")


@contextmanager
def around(root: Path, rules: str) -> Iterator[Environment]:
    with closing(Environment(suite.PARTS, OPTIONS, configured(root, rules))) as opened:
        opened._take(opened.config)
        yield opened


@needs_root
def test_a_policy_that_names_links_is_noted_where_udev_is_not_seen(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with around(root, f"{NEVER}, {DISKS}") as opened:
        (note,) = opened.notes
    assert note == (
        "no udev database in /run/udev/data, and rules of this node's policy name"
        " links, such as /dev/disk/by-id/secret: the plugin resolves links in /dev itself; if"
        " the host has /run/udev, mount it read-only for the plugin"
    )
    assert note in caplog.messages
    with around(root, DISKS) as opened:
        assert opened.notes == []
    database(root)
    with around(root, f"{NEVER}, {DISKS}") as opened:
        assert opened.notes == []

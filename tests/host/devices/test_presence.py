"""Which numbers a host has no device for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nri_inject.host.devices.presence import gone, registration

HERE = ("c", 1, 3)
AWAY = ("c", 240, 17)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    known = tmp_path / "sys/dev/char/1:3"
    known.mkdir(parents=True)
    (known / "uevent").write_text("MAJOR=1\nMINOR=3\nDEVNAME=null\n")
    (tmp_path / "dev").mkdir()
    return tmp_path


def test_a_number_that_the_kernel_knows_is_there(root: Path) -> None:
    assert gone([HERE], str(root)) == frozenset()


def test_the_kernels_entry_of_a_number_is_another_one_after_a_replug(root: Path) -> None:
    assert registration(AWAY, str(root)) == 0
    first = registration(HERE, str(root))
    assert first == (root / "sys/dev/char/1:3").lstat().st_ino
    (root / "sys/dev/char/1:3").rename(root / "unplugged")
    (root / "sys/dev/char/1:3").mkdir()
    assert registration(HERE, str(root)) != first
    assert registration(("b", 1, 3), str(root)) == 0


def test_where_no_node_is_seen_nothing_is_gone(root: Path) -> None:
    assert gone([AWAY], str(root)) == frozenset()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node")
def test_a_number_without_a_node_and_unknown_to_the_kernel_is_gone(root: Path) -> None:
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert gone([HERE, AWAY], str(root)) == {AWAY}
    os.mknod(root / "dev/nvidia0", stat.S_IFCHR | 0o666, os.makedev(240, 17))
    assert gone([HERE, AWAY], str(root)) == frozenset()
